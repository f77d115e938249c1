"""Decoding with an encoder-decoder: ids of sources, or windows of another modality in, ids of targets out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from seqloom.data.batches.windows import Row, inputs_of
from seqloom.decoding.config import DecodingConfig
from seqloom.decoding.job import Job, Request, Task, beam_rows
from seqloom.decoding.results import Hypothesis
from seqloom.decoding.search import decode, last_of
from seqloom.errors import UsageError
from seqloom.models.assemblies import TextWriter
from seqloom.models.encoder_decoder import cross_attentions
from seqloom.nn.observe import observed
from seqloom.shapes import Float, Tensor


class Writer:
    """Writes targets for rows of sources.

    Args:
        model: the model, in the type it computes in.
        start, end: the ids that a target begins and ends with.
        ends: further ids that end a target.
        suppressed: ids that are never generated.
    """

    def __init__(
        self,
        model: TextWriter,
        *,
        start: int,
        end: int,
        ends: tuple[int, ...] = (),
        suppressed: tuple[int, ...] = (),
    ) -> None:
        self.model, self.start, self.end, self.ends = model, start, end, ends
        self._never = torch.tensor(suppressed, dtype=torch.long, device=self._device)
        self._attention = _LastAttention(model)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def job(
        self,
        row: Row,
        config: DecodingConfig,
        prefix: Sequence[int] = (),
        stopped: Callable[[Sequence[int]], bool] | None = None,
    ) -> Job:
        """The job of a source; `prefix` and `stopped` as for Request."""
        most, limit = most_tokens(len(row), config), self.model.config.decoder.limit
        length = most if limit is None else min(most, limit - 1)
        return Job(row, Request(length, self.end, stopped, self.ends, tuple(prefix)), config)

    def alike(self, job: Job) -> int:
        """What jobs have in common whose sources are read together."""
        return 0

    def begin(self, jobs: Sequence[Job], chunk: int = 0) -> Generator[None, None, tuple[Task, Any]]:
        """Reads the sources of jobs at once; returns what is decoded and the state before its first step."""
        yield from ()
        device, config = self._device, jobs[0].config
        limits = torch.tensor([job.request.length for job in jobs], device=device)
        prefixes = beam_rows([job.request.prefix for job in jobs], device)
        task = Task(self.start, self.end, limits, prefixes, stopped=jobs[0].request.stopped, ends=self.ends)
        with torch.inference_mode():
            memory = self.model.encode(inputs_of([job.row for job in jobs]).to(device))
            state = self.model.start(memory)
        if config.coverage_penalty:
            self._attention.check()
            attention, watching = self._attention.read, self._attention.watching
            task = replace(task, attention=attention, source_mask=memory.mask, watching=watching)
        return task, state

    def step(self, last: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits of the id after the last one of each row."""
        hidden, state = self.model.decode(last, state)
        return self.model.head(hidden[:, -1]).index_fill_(1, self._never, -torch.inf), state

    def jobs(self, rows: Sequence[Row], config: DecodingConfig, prefixes: Sequence[Sequence[int]] = ()) -> list[Job]:
        """The jobs of some sources, each with its prefix."""
        starts = prefixes or [[]] * len(rows)
        return [self.job(row, config, prefix) for row, prefix in zip(rows, starts, strict=True)]

    def decode(self, jobs: Sequence[Job]) -> list[list[Hypothesis]]:
        """The best hypotheses of a batch of jobs with one config."""
        task, state = last_of(self.begin(jobs))
        return decode(self.step, state, task, jobs[0].config)


def decode_rows(
    model: TextWriter, ids: Sequence[Row], config: DecodingConfig, prefixes: Sequence[list[int]] = (), **special: Any
) -> list[list[Hypothesis]]:
    """The hypotheses for a batch of sources, each of which begins with its prefix; `special`: as for Writer."""
    writer = Writer(model, **special)
    return writer.decode(writer.jobs(ids, config, prefixes))


def most_tokens(source: int, config: DecodingConfig) -> int:
    """The most tokens of a result, from the number of those of its source."""
    return config.max_length or 2 * source + 20


class _LastAttention:
    """The attention of the decoder's last layer at its last step, averaged over the heads."""

    def __init__(self, model: TextWriter) -> None:
        self._layers = [*cross_attentions(model).values()]
        self._weights: Tensor | None = None

    def check(self) -> None:
        """Raises UsageError for a model without attention."""
        if not self._layers:
            raise UsageError("a coverage penalty needs a decoder with attention", cure="leave coverage_penalty at 0")

    def watching(self) -> AbstractContextManager[None]:
        """The context of the step that is noted."""
        return observed(self._note)

    def _note(self, layer: nn.Module, note: Any) -> None:
        if layer is self._layers[-1]:
            self._weights = note.weights()[:, :, -1].mean(1)

    def read(self) -> Float[Tensor, "R S"]:
        """What was noted."""
        assert self._weights is not None
        return self._weights
