"""Preference optimization: a model learns, from itself as the reference, which of two answers is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seqloom.data.batches.preferences import EncodedPreferences, encode_continuations, encode_translations
from seqloom.data.rows import Preference
from seqloom.files import Json
from seqloom.run import Run
from seqloom.tasks.answering import Continuing, Translating
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.reward import shown
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.preference.task import TOKENS, PreferenceKeys
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.score import compare
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import refuse_other_tests
from seqloom.training.log import Reporter


@dataclass(frozen=True, kw_only=True)
class PreferConfig(Continuing, PreferenceKeys, LanguageModelConfig):
    """The config of a run of a language model that learns preferences; for all else it is a language model."""

    task: Literal["prefer"] = "prefer"  # type: ignore[assignment]

    def encoded(self, rows: Sequence[Preference], assets: Assets) -> EncodedPreferences:
        """See PreferenceKeys."""
        return encode_continuations(rows, assets.tokenizer, self.batches.length)

    def continued(self, predictor: Generator, row: Preference) -> Json:
        """See PreferenceKeys."""
        if isinstance(row.prompt, str):
            return {"prompt": row.prompt, "text": predictor(row.prompt, max_length=TOKENS)}
        return {"prompt": shown(row.prompt), "text": "".join(predictor.reply(row.prompt, max_length=TOKENS))}


@dataclass(frozen=True, kw_only=True)
class PreferTranslationsConfig(Translating, PreferenceKeys, TranslateConfig):
    """The config of a run of an encoder-decoder that learns preferences; for all else it is one of translation."""

    task: Literal["prefer_translations"] = "prefer_translations"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.chats:
            raise ValueError("data.form must be 'text': an encoder-decoder reads no conversations")

    def encoded(self, rows: Sequence[Preference], assets: Assets) -> EncodedPreferences:
        """See PreferenceKeys."""
        assert assets.tokenizers is not None
        limits = (self.model.encoder.limit, self.model.decoder.limit)
        prompt, answer = (min(self.batches.length, limit or self.batches.length) for limit in limits)
        return encode_translations(rows, *assets.tokenizers, (prompt, answer))

    def continued(self, predictor: Translator, row: Preference) -> Json:
        """See PreferenceKeys."""
        predictor.long_input = "cut"
        (translation,) = predictor([str(row.prompt)], max_length=TOKENS)
        return {"source": row.prompt, "reference": row.chosen, "translation": translation}

    def compared(
        self, runs: Sequence[Run], names: Sequence[str], evaluations: Sequence[Json], reporter: Reporter
    ) -> Json | None:
        """See RunConfig."""
        if not all("translations" in scores for scores in evaluations):
            return None
        tests = [[(row["source"], row["reference"]) for row in scores["translations"]] for scores in evaluations]
        refuse_other_tests(tests, runs, names)
        return compare(names, evaluations, [row.chosen for row in self.data.read(self.data.train)], "")
