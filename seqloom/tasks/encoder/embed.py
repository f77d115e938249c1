"""Vectors of texts, from any encoder model; and encoder models that were imported without a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from seqloom.data.batches.windows import Item, TextBatchConfig, by_length, collate, frame
from seqloom.data.formats.lines import is_blank
from seqloom.data.sources.none import NoData
from seqloom.errors import RunError, UsageError
from seqloom.models.assemblies import limit_of
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.nn.memory import mean_summary
from seqloom.nn.pooling import window_means
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, load_tokenizers
from seqloom.tasks.building import Loaded, load_run
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.task import ReadingConfig
from seqloom.tasks.task import RunConfig
from seqloom.text.tokenizer import Tokenizer, TokenizerFile

PoolingChoice = Literal["mean", "own"]
_TOKENS = 8192


class TextEncoder:
    """Computes vectors of texts; a long text is split into windows, whose vectors are averaged.

    Args:
        model, tokenizer: of a run.
        length: the most tokens of a window.
        normalized: whether the model's own pooling scales its vectors to length 1.
    """

    def __init__(self, model: EncoderOnly, tokenizer: Tokenizer, length: int, *, normalized: bool = False) -> None:
        self.model, self.tokenizer, self.length, self.normalized = model, tokenizer, length, normalized

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], *, pooling: PoolingChoice = "mean", normalize: bool = False) -> np.ndarray:
        """One vector a text (N D), zeros for a blank one.

        Args:
            texts: any number of texts.
            pooling: the mean of the states, or the model's own pooling, which is trained for classification.
            normalize: whether each vector is scaled to length 1.
        """
        if isinstance(texts, str):
            raise UsageError("expected a list of texts, got one text", cure='write encoder(["..."])')
        template, config = self.tokenizer.template, TextBatchConfig(length=self.length)
        items = [Item(frame(ids, None, template, config, windows=True)) for ids in self.tokenizer.encode(texts)]
        device = next(self.model.parameters()).device
        width = self.model.pooling.width if pooling == "own" else self.model.config.encoder.memory_width
        vectors = np.zeros((len(items), width), dtype=np.float32)
        self.model.eval()
        for part in by_length(items, _TOKENS):
            batch = collate([items[i] for i in part]).to(device)
            memory = self.model(batch.inputs)
            pooled = self.model.pooled(memory) if pooling == "own" else mean_summary(memory.states, memory.mask)
            vectors[part] = window_means(pooled, batch.owner).float().cpu().numpy()
        vectors[np.array([is_blank(text) for text in texts], dtype=bool)] = 0.0
        normalize = normalize or (pooling == "own" and self.normalized)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) if normalize else vectors


def compared_vectors(other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
    """The vectors of texts here and in another program, as one kind of answer."""
    encoder = TextEncoder(other.model, other.tokenizer, limit_of(other.model.config) or 4096)  # type: ignore[arg-type]
    pipeline = other.pipeline("feature-extraction")
    pipeline.model = other.theirs.base_model
    rows = ((text, encoder([text])[0], np.asarray(pipeline(text)[0], dtype=np.float32).mean(0)) for text in texts)
    yield "vectors of texts", rows


def load_encoder(path: str | Path, **options: Any) -> TextEncoder:
    """The text encoder of a run; the options are those of `load_run`. Raises RunError for another model."""
    return encoder_of(load_run(path, ReadingConfig, **options))


def encoder_of(loaded: Loaded[Any]) -> TextEncoder:
    """The same of a run that was loaded."""
    path, assets = str(loaded.run.path), loaded.assets
    if not isinstance(loaded.model, EncoderOnly):
        raise RunError("is a language model that gives rewards, not vectors", where=path, cure="name an encoder")
    if assets.tokenizers is None:
        problem = f"reads {loaded.model.embedder.modality}s, and vectors are those of texts"
        raise RunError(problem, where=path, cure="name a run that reads text")
    normalized = bool((assets.facts or {}).get("normalize"))
    return TextEncoder(loaded.model, assets.tokenizer, loaded.config.batches.length, normalized=normalized)


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(RunConfig):
    """The config of an imported encoder model without a task.

    Args:
        data: none; the model was trained elsewhere.
        tokenizer: the tokenizer that was imported with the model.
        model: the parts of the network and their sizes.
    """

    kind: ClassVar[str] = "encode"
    task: Literal["encode"] = "encode"
    data: NoData = field(default_factory=NoData)
    tokenizer: TokenizerFile = field(default_factory=TokenizerFile)
    model: EncoderOnlyConfig = field(default_factory=EncoderOnlyConfig)

    def assets(self, run: Run) -> Assets:
        """See RunConfig; a model of images has no tokenizer."""
        return Assets(load_tokenizers(run), load_facts(run))

    def build(self, assets: Assets) -> EncoderOnly:
        """See RunConfig."""
        return EncoderOnly(self.model, assets.vocab_size, (assets.facts or {})["heads"])

    def predictor(self, model: EncoderOnly, assets: Assets, **options: Any) -> EncoderOnly:
        """The model."""
        return model

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        return compared_vectors(other, texts)
