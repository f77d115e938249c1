"""Vectors of texts, from any encoder model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from seqloom.data.batches.windows import Item, TextBatchConfig, by_length, collate, frame
from seqloom.data.formats.lines import is_blank
from seqloom.errors import RunError, UsageError
from seqloom.models.assemblies import limit_of
from seqloom.models.encoder import EncoderOnly
from seqloom.nn.memory import mean_summary
from seqloom.nn.pooling import window_means
from seqloom.tasks.building import load_run
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.task import ReadingConfig
from seqloom.text.tokenizer import Tokenizer

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
        vectors = np.zeros(
            (len(items), self.model.pooling.width if pooling == "own" else self._width), dtype=np.float32
        )
        self.model.eval()
        for part in by_length(items, _TOKENS):
            batch = collate([items[i] for i in part]).to(device)
            memory = self.model(batch.inputs)
            pooled = self.model.pooled(memory) if pooling == "own" else mean_summary(memory.states, memory.mask)
            vectors[part] = window_means(pooled, batch.owner).float().cpu().numpy()
        vectors[np.array([is_blank(text) for text in texts], dtype=bool)] = 0.0
        normalize = normalize or (pooling == "own" and self.normalized)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) if normalize else vectors

    @property
    def _width(self) -> int:
        return self.model.config.encoder.memory_width


def compared_vectors(other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
    """The vectors of texts here and in another program, as one kind of answer."""
    encoder = TextEncoder(other.model, other.tokenizer, limit_of(other.model.config) or 4096)  # type: ignore[arg-type]
    pipeline = other.pipeline("feature-extraction")
    pipeline.model = other.theirs.base_model
    rows = ((text, encoder([text])[0], np.asarray(pipeline(text)[0], dtype=np.float32).mean(0)) for text in texts)
    yield "vectors of texts", rows


def load_encoder(path: str | Path, **options: Any) -> TextEncoder:
    """The text encoder of a run; the options are those of `load_run`. Raises RunError for another model."""
    loaded = load_run(path, ReadingConfig, **options)
    if not isinstance(loaded.model, EncoderOnly):
        raise RunError("is a language model that gives rewards, not vectors", where=str(path), cure="name an encoder")
    normalized = bool((loaded.assets.facts or {}).get("normalize"))
    return TextEncoder(loaded.model, loaded.assets.tokenizer, loaded.config.batches.length, normalized=normalized)
