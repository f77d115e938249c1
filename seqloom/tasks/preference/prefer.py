"""Preference optimization: a model learns, from itself as the reference, which of two answers is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from seqloom.data.batches.preferences import (
    EncodedPreference,
    EncodedPreferences,
    encode_continuations,
    encode_translations,
)
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.rows import Preference
from seqloom.data.sources.none import NoData
from seqloom.decoding.config import Sampling
from seqloom.decoding.engine import Request
from seqloom.files import Json
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.run import Run
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.reward import shown
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.preference.task import TOKENS, PreferenceKeys
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.score import compare
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import refuse_options, refuse_other_tests
from seqloom.text.chat import END, chat_token, with_chat
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter


class _PreferredGenerator(Generator):
    """A language model in use, and what is kept of its training."""

    assets: Assets


class _PreferredTranslator(Translator):
    """A translation model in use, and what is kept of its training."""

    assets: Assets


@dataclass(frozen=True, kw_only=True)
class PreferConfig(PreferenceKeys, LanguageModelConfig):
    """The config of a run of a language model that learns preferences; for all else it is a language model."""

    task: Literal["prefer"] = "prefer"  # type: ignore[assignment]
    model_kind: ClassVar[str] = DecoderOnlyConfig.kind

    def equipped(self, tokenizers: tuple[Tokenizer, Tokenizer]) -> tuple[Tokenizer, Tokenizer]:
        """See PreferenceKeys."""
        tokenizer = with_chat(tokenizers[1]) if self.data.chats else tokenizers[1]
        return tokenizer, tokenizer

    def encoded(self, rows: Sequence[Preference], assets: Assets) -> EncodedPreferences:
        """See PreferenceKeys."""
        return encode_continuations(rows, assets.tokenizer, self.batches.length)

    def start_token(self, assets: Assets) -> None:
        """See PreferenceKeys."""
        return

    def predictor(self, model: Any, assets: Assets, **options: Any) -> Generator:
        """The options are those of Generator."""
        made = _PreferredGenerator(model, assets.tokenizer, self.decoding, self.batches.length, **options)
        made.assets = assets
        return made

    def sampled(self, predictor: Generator, pairs: Sequence[EncodedPreference]) -> list[EncodedPreference]:
        """See PreferenceKeys."""
        tokenizer, most = predictor.tokenizer, self.batches.length
        end = chat_token(tokenizer, END) if self.data.chats else tokenizer.stop
        chosen = [pair for pair in pairs if len(pair.prompt) + TOKENS <= most] or list(pairs)
        length = min(TOKENS, max(1, most + 1 - max(len(pair.prompt) for pair in chosen)))
        rows = [pair.prompt.tolist() for pair in chosen]
        results = predictor.engine.generate(rows, Request(length, end, None, ()), Sampling(n_best=2, seed=self.seed))
        return [_drawn(pair, [h.ids for h in both], end, length) for pair, both in zip(chosen, results, strict=True)]

    def continued(self, predictor: Generator, row: Preference) -> Json:
        """See PreferenceKeys."""
        if isinstance(row.prompt, str):
            return {"prompt": row.prompt, "text": predictor(row.prompt, max_length=TOKENS)}
        return {"prompt": shown(row.prompt), "text": "".join(predictor.reply(row.prompt, max_length=TOKENS))}

    def score(self, predictor: Any, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: of preferences; of any other text, the perplexities of a language model."""
        if test and not self.data.holds(test):
            batches = StreamConfig(length=self.batches.length)
            plain = LanguageModelConfig(data=NoData(), tokenizer=self.tokenizer, model=self.model, batches=batches)
            return plain.score(predictor, test, options, reporter)
        refuse_options(options)
        return self.scored(predictor, predictor.assets, test, reporter)


@dataclass(frozen=True, kw_only=True)
class PreferTranslationsConfig(PreferenceKeys, TranslateConfig):
    """The config of a run of an encoder-decoder that learns preferences; for all else it is one of translation."""

    task: Literal["prefer_translations"] = "prefer_translations"  # type: ignore[assignment]
    model_kind: ClassVar[str] = EncoderDecoderConfig.kind

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

    def start_token(self, assets: Assets) -> int:
        """See PreferenceKeys."""
        return assets.tokenizer.start

    def predictor(self, model: Any, assets: Assets, **options: Any) -> Translator:
        """The options are `rows` and `long_input` of Translator."""
        assert assets.tokenizers is not None
        made = _PreferredTranslator(model, *assets.tokenizers, self.decoding, **options)
        made.assets = assets
        return made

    def sampled(self, predictor: Translator, pairs: Sequence[EncodedPreference]) -> list[EncodedPreference]:
        """See PreferenceKeys."""
        length = min(TOKENS, self.batches.length - 1)
        config = Sampling(n_best=2, seed=self.seed, max_length=length)
        results = predictor.decode([pair.prompt for pair in pairs], config, [[] for _ in pairs])
        end = predictor.target.end
        return [_drawn(pair, [h.ids for h in both], end, length) for pair, both in zip(pairs, results, strict=True)]

    def continued(self, predictor: Translator, row: Preference) -> Json:
        """See PreferenceKeys."""
        predictor.long_input = "cut"
        (translation,) = predictor([str(row.prompt)], max_length=TOKENS)
        return {"source": row.prompt, "reference": row.chosen, "translation": translation}

    def score(self, predictor: Any, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: of preferences; of pairs of texts, the scores of translations."""
        if test and not self.data.holds(test):
            plain = TranslateConfig(data=NoData(), tokenizer=self.tokenizer, model=self.model)
            return plain.score(predictor, test, options, reporter)
        refuse_options(options)
        return self.scored(predictor, predictor.assets, test, reporter)

    def compared(self, runs: Sequence[Run], names: Sequence[str], evaluations: Sequence[Json]) -> Json | None:
        """See RunConfig."""
        if not all("translations" in scores for scores in evaluations):
            return None
        tests = [[(row["source"], row["reference"]) for row in scores["translations"]] for scores in evaluations]
        refuse_other_tests(tests, runs, names)
        return compare(names, evaluations, [row.chosen for row in self.data.read(self.data.train)], "")


def _drawn(pair: EncodedPreference, answers: Sequence[Sequence[int]], end: int, length: int) -> EncodedPreference:
    """A prompt with two sampled answers; those that came to an end have it."""
    first, second = (np.array([*ids, *([end] if len(ids) < length else [])], dtype=np.int64) for ids in answers)
    return EncodedPreference(pair.prompt, (first, second), 0.0, pair.row)
