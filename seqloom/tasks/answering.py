"""Models that answer prompts: what tasks that learn from answers need of a language model or an encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from seqloom.config import Tree
from seqloom.data.batches.preferences import encode_prompts, encode_sources
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.checks.pairs import Finding
from seqloom.data.rows import Prompt
from seqloom.data.sources.none import NoData
from seqloom.decoding.config import Sampling
from seqloom.decoding.job import Request
from seqloom.errors import RunError, UsageError
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_reference, load_tokenizers
from seqloom.tasks.building import on_start
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import GradientConfig, RunConfig
from seqloom.text.chat import END, chat_token, with_chat
from seqloom.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Answering(GradientConfig):
    """The keys of a run that learns from answers; the run it starts from is also the reference."""

    model_kind: ClassVar[str]
    tasks: ClassVar[Mapping[str, str]]
    """The task for each kind of model."""

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree merged over the config of the run it starts from. Raises ValueError for one without answers."""
        return on_start(tree, cls.model_kind, tasks={"encoder-only": "reward", **cls.tasks})

    def scan(self: Any) -> tuple[list[Finding], bool]:
        """See RunConfig."""
        findings = self.data.scan()
        return findings, any(finding.severity == "error" for finding in findings)

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        return Assets(load_tokenizers(run), reference=load_reference(run))

    def start_token(self, assets: Assets) -> int | None:
        """The token that a decoder of its own is fed first; None = there is none."""
        raise NotImplementedError

    def prompts(self, rows: Sequence[Prompt], assets: Assets, most: int) -> tuple[list[np.ndarray], str]:
        """The ids of prompts, of at most so many tokens, and a message about what is cut; "" = nothing."""
        raise NotImplementedError

    def end(self, predictor: Any) -> int:
        """The token that ends an answer."""
        raise NotImplementedError

    def drawn(
        self, predictor: Any, prompts: Sequence[np.ndarray], config: Sampling, length: int
    ) -> list[list[np.ndarray]]:
        """Sampled answers to each prompt: each of at most `length` tokens, or with its end, if it comes to one."""
        raise NotImplementedError

    def written(self, predictor: Any, prompt: np.ndarray, answer: np.ndarray) -> str:
        """The text of an answer."""
        raise NotImplementedError

    def plain(self) -> RunConfig:
        """The config of the same model in the task that learns from texts, which scores texts."""
        raise NotImplementedError

    def started(self: Any, run: Run | None) -> Assets:
        """The tokenizers of the run, or of the one it starts from. Raises UsageError or RunError without one."""
        if not self.start:
            cure = "name the run of a model to start from, which is also the reference: --start RUN"
            raise UsageError("answers are learned by a model that already answers", where="start", cure=cure)
        loaded = load_tokenizers(run if run is not None and run.begun else Run.open(self.start))
        if loaded is None:
            raise RunError("reads no text", where=self.start, cure="name the run of a language model")
        return Assets(self.equipped(loaded))


class Continuing:
    """What a config has of a language model, which continues prompts or replies to conversations."""

    model_kind: ClassVar[str] = DecoderOnlyConfig.kind

    def equipped(self: Any, tokenizers: tuple[Tokenizer, Tokenizer]) -> tuple[Tokenizer, Tokenizer]:
        """The tokenizers, with the special tokens that the answers need."""
        tokenizer = with_chat(tokenizers[1]) if self.data.chats else tokenizers[1]
        return tokenizer, tokenizer

    def start_token(self: Any, assets: Assets) -> int | None:
        """See Answering."""
        return None

    def prompts(self: Any, rows: Sequence[Prompt], assets: Assets, most: int) -> tuple[list[np.ndarray], str]:
        """See Answering."""
        return encode_prompts([row.prompt for row in rows], assets.tokenizer, most)

    def predictor(self: Any, model: Any, assets: Assets, **options: Any) -> Any:
        """The options are those of Generator."""
        return _kept(Generator(model, assets.tokenizer, self.decoding, self.batches.length, **options), assets)

    def end(self: Any, predictor: Generator) -> int:
        """See Answering."""
        return chat_token(predictor.tokenizer, END) if self.data.chats else predictor.tokenizer.stop

    def drawn(
        self: Any, predictor: Generator, prompts: Sequence[np.ndarray], config: Sampling, length: int
    ) -> list[list[np.ndarray]]:
        """See Answering."""
        end = self.end(predictor)
        rows = [prompt.tolist() for prompt in prompts]
        results = predictor.engine.generate(rows, Request(length, end, None, ()), config)
        return [[_ended(hypothesis.ids, end, length) for hypothesis in each] for each in results]

    def written(self: Any, predictor: Generator, prompt: np.ndarray, answer: np.ndarray) -> str:
        """See Answering."""
        before, whole = (predictor.decode(ids.tolist()) for ids in (prompt, np.concatenate((prompt, answer))))
        return whole[len(before) :] if whole.startswith(before) else predictor.decode(answer.tolist())

    def plain(self: Any) -> RunConfig:
        """See Answering."""
        batches = StreamConfig(length=self.batches.length)
        return LanguageModelConfig(data=NoData(), tokenizer=self.tokenizer, model=self.model, batches=batches)


class Translating:
    """What a config has of an encoder-decoder, which reads prompts and writes answers."""

    model_kind: ClassVar[str] = EncoderDecoderConfig.kind

    def equipped(self: Any, tokenizers: tuple[Tokenizer, Tokenizer]) -> tuple[Tokenizer, Tokenizer]:
        """See Answering."""
        return tokenizers

    def start_token(self: Any, assets: Assets) -> int | None:
        """See Answering."""
        return assets.tokenizer.start

    def prompts(self: Any, rows: Sequence[Prompt], assets: Assets, most: int) -> tuple[list[np.ndarray], str]:
        """See Answering."""
        assert assets.tokenizers is not None
        most = min(most, self.model.encoder.limit or most)
        return encode_sources([str(row.prompt) for row in rows], assets.tokenizers[0], most)

    def predictor(self: Any, model: Any, assets: Assets, **options: Any) -> Any:
        """The options are `rows` and `long_input` of Translator."""
        assert assets.tokenizers is not None
        return _kept(Translator(model, *assets.tokenizers, self.decoding, **options), assets)

    def end(self: Any, predictor: Translator) -> int:
        """See Answering."""
        return predictor.target.end

    def drawn(
        self: Any, predictor: Translator, prompts: Sequence[np.ndarray], config: Sampling, length: int
    ) -> list[list[np.ndarray]]:
        """See Answering."""
        length = min(length, (self.model.decoder.limit or length + 1) - 1)
        results = predictor.hypotheses(prompts, replace(config, max_length=length))
        end = self.end(predictor)
        return [[_ended(hypothesis.ids, end, length) for hypothesis in each] for each in results]

    def written(self: Any, predictor: Translator, prompt: np.ndarray, answer: np.ndarray) -> str:
        """See Answering."""
        return predictor.target.decode([answer.tolist()])[0]

    def plain(self: Any) -> RunConfig:
        """See Answering."""
        return TranslateConfig(data=NoData(), tokenizer=self.tokenizer, model=self.model)


def _kept(predictor: Any, assets: Assets) -> Any:
    """The predictor, with what is kept of its training."""
    predictor.assets = assets
    return predictor


def _ended(ids: Sequence[int], end: int, length: int) -> np.ndarray:
    return np.array([*ids, *([end] if len(ids) < length else [])], dtype=np.int64)
