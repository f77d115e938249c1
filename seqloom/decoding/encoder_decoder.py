"""Decoding with an encoder-decoder: ids of sources, or windows of another modality in, ids of targets out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from seqloom.data.batches.windows import Row, inputs_of
from seqloom.decoding.config import DecodingConfig
from seqloom.decoding.search import Hypothesis, Task, beam_rows, decode
from seqloom.errors import UsageError
from seqloom.models.assemblies import TextWriter
from seqloom.models.encoder_decoder import cross_attentions
from seqloom.nn.observe import observed
from seqloom.shapes import Float, Tensor


def decode_rows(
    model: TextWriter,
    ids: Sequence[Row],
    config: DecodingConfig,
    *,
    start: int,
    end: int,
    ends: tuple[int, ...] = (),
    suppressed: tuple[int, ...] = (),
    prefixes: Sequence[list[int]] = (),
) -> list[list[Hypothesis]]:
    """The hypotheses for a batch of sources; `start` and `end` are the ids that a target begins and ends with.

    `ends` are further ids that end a target, `suppressed` those that are never generated.
    """
    device = next(model.parameters()).device
    inputs = inputs_of(ids).to(device)
    limits = torch.tensor([most_tokens(len(row), config) for row in ids], device=device)
    if model.config.decoder.limit is not None:
        limits = limits.clamp(max=model.config.decoder.limit - 1)
    task = Task(start, end, limits, beam_rows(prefixes, device), ends=ends)
    watching: AbstractContextManager[None] = nullcontext()
    with torch.inference_mode():
        memory = model.encode(inputs)
    if config.coverage_penalty:
        attention = _LastAttention(model)
        task = replace(task, attention=attention.read, source_mask=memory.mask)
        watching = observed(attention.note)
    with torch.inference_mode():
        state = model.start(memory)
        never = torch.tensor(suppressed, dtype=torch.long, device=device)

        def step(last: Tensor, state: Any) -> tuple[Tensor, Any]:
            hidden, state = model.decode(last, state)
            return model.head(hidden[:, -1]).index_fill_(1, never, -torch.inf), state

        with watching:
            return decode(step, state, task, config)


def most_tokens(source: int, config: DecodingConfig) -> int:
    """The most tokens of a result, from the number of those of its source."""
    return config.max_length or 2 * source + 20


class _LastAttention:
    """The attention of the decoder's last layer at its last step, averaged over the heads."""

    def __init__(self, model: TextWriter) -> None:
        layers = cross_attentions(model)
        if not layers:
            raise UsageError("a coverage penalty needs a decoder with attention", cure="leave coverage_penalty at 0")
        self._layer = list(layers.values())[-1]
        self._weights: Tensor | None = None

    def note(self, layer: nn.Module, note: Any) -> None:
        if layer is self._layer:
            self._weights = note.weights()[:, :, -1].mean(1)

    def read(self) -> Float[Tensor, "R S"]:
        assert self._weights is not None
        return self._weights
