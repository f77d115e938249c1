"""Decoding with a language model: ids of prompts in, ids of continuations out. It never sees text."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from seqloom.decoding.config import DecodingConfig, texts_at_a_time
from seqloom.decoding.job import Job, Request, Task, beam_rows
from seqloom.decoding.results import Choice, Hypothesis, Ids
from seqloom.decoding.search import decode, decoding, last_of
from seqloom.decoding.speculative import Side, speculating
from seqloom.models.decoder import LanguageModel
from seqloom.nn.effective import adapters_of, by_row
from seqloom.nn.embedders import Inputs
from seqloom.nn.state import State, stacked
from seqloom.shapes import Bool, Float, Int, Tensor

_ROWS = 32


@dataclass(frozen=True)
class Window:
    """A state, with the ids or frames it has read, and how many at the start of each row are padding."""

    values: Int[Tensor, "R T"] | Float[Tensor, "R T C"]
    padding: Int[Tensor, " R"]
    state: State

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Window:
        """The window of the given rows; None = all, unchanged."""
        values = self.values if rows is None else self.values.index_select(0, rows)
        padding = self.padding if rows is None else self.padding.index_select(0, rows)
        return Window(values, padding, self.state.select(rows, sentences))

    def joined(self, *others: Window) -> Window:
        """The window of the rows of this one and then of others."""
        parts = (self, *others)
        lengths = torch.cat([part.values.shape[1] - part.padding for part in parts])
        longest = int(lengths.max())
        values = stacked([part.values[:, -longest:] for part in parts], left=True)
        return Window(values, longest - lengths, self.state.joined(*(part.state for part in others)))

    def back(self, positions: int) -> Window:
        """The window `positions` steps earlier."""
        kept = self.values.shape[1] - positions
        return Window(self.values[:, :kept], self.padding, self.state.back(positions))


class Engine:
    """Continues rows of ids, or of frames (decoding/frames.py).

    Args:
        model: the model, in the type it computes in.
        context: the most positions it sees; longer rows start over from their last half. None = no limit.
        padding: the id that fills short rows, on the left.
    """

    def __init__(self, model: LanguageModel, context: int | None, padding: int) -> None:
        self.model, self.context, self.padding = model, context, padding

    @property
    def keeps_positions(self) -> bool:
        """Whether the model's state can go back and skip padding."""
        return self.model.start().keeps_positions

    def generate(
        self, rows: Sequence[Sequence[int]], request: Request, config: DecodingConfig
    ) -> list[list[Hypothesis]]:
        """The n best continuations of each row, or as many samples."""
        results: dict[int, list[Hypothesis]] = {}
        for part in self.parts(rows, config):
            prompts = [rows[i] for i in part]
            with by_row(adapters_of(part)):
                task, window = last_of(self.begin([Job(row, request, config) for row in prompts]))
                results |= dict(zip(part, decode(self.step, window, task, config), strict=True))
        return [results[i] for i in range(len(rows))]

    def parts(self, rows: Sequence[Sequence[int]], config: DecodingConfig) -> list[list[int]]:
        """The numbers of the rows of each batch."""
        # Rows of different lengths are padded on the left and read together only where positions are kept.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        groups = [[*g] for _, g in groupby(order, key=lambda i: 0 if self.keeps_positions else len(rows[i]))]
        size = texts_at_a_time(config, _ROWS)
        return [indices[i : i + size] for indices in groups for i in range(0, len(indices), size)]

    def stream(
        self, row: Sequence[int], request: Request, config: DecodingConfig, draft: Engine | None = None, ahead: int = 0
    ) -> Generator[Ids, None, Hypothesis]:
        """Yields the ids of the best continuation as they are decided; returns it.

        `draft`: the engine of a small model that proposes `ahead` ids at a time; both must keep positions.
        """
        if draft is None:
            task, window = last_of(self.begin([Job(row, request, config)]))
            hypotheses = yield from decoding(self.step, window, task, config)
            return hypotheses[0][0]
        task = self._task([Job(row, request, config)])
        hypothesis, _ = yield from speculating(self._side(row), draft._side(row), task, config, ahead)
        return hypothesis

    @torch.inference_mode()
    def score(self, rows: Sequence[Sequence[int]], last: Sequence[int]) -> list[float]:
        """The log-probability of the `last` ids of each row, given the ids before them."""
        scores: dict[int, float] = {}
        for i, ids, log_p in self._read(rows):
            each, end = log_p.gather(1, ids[1:, None])[:, 0], len(rows[i]) - 1
            scores[i] = float(each[end - last[i] : end].sum())
        return [scores[i] for i in range(len(rows))]

    @torch.inference_mode()
    def read(self, row: Sequence[int], top: int = 0) -> list[Choice]:
        """The ids after the first with their log-probabilities, and the `top` likeliest in their places with theirs."""
        ((_, ids, log_p),) = self._read([row])
        best = log_p.topk(min(top, log_p.shape[1]))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        each = zip(row[1:], log_p.gather(1, ids[1:, None])[:, 0].tolist(), alternatives, strict=True)
        return [Choice(i, p, tuple(zip(*likeliest, strict=True))) for i, p, likeliest in each]

    def _read(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Int[Tensor, " T"], Float[Tensor, "T2 V"]]]:
        """The number of each row with its ids, padded, and the log-probabilities in the place of all but the first."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        device = next(self.model.parameters()).device
        for part in (order[i : i + _ROWS] for i in range(0, len(order), _ROWS)):
            width = max(len(rows[i]) for i in part)
            ids = torch.tensor([[*rows[i], *[self.padding] * (width - len(rows[i]))] for i in part], device=device)
            log_p = self.model.head(self.model(Inputs.text(ids[:, :-1]))[0]).float().log_softmax(-1)
            yield from zip(part, ids, log_p, strict=True)

    def alike(self, job: Job) -> int:
        """What jobs have in common whose prompts are read together: their length, where padding cannot be skipped."""
        return 0 if self.keeps_positions else len(job.row)

    def begin(self, jobs: Sequence[Job], chunk: int = 0) -> Generator[None, None, tuple[Task, Window]]:
        """Reads the prompts of jobs that are alike; returns what is decoded and the window before its first step.

        `chunk`: the most positions that are read before each yield; 0 = all at once.
        """
        task = self._task(jobs)
        return task, (yield from self._reading([job.row[:-1] for job in jobs], chunk))

    def _reading(self, rows: Sequence[Sequence[int]], chunk: int = 0) -> Generator[None, None, Window]:
        if self.context is not None:  # as `onward` does it, whatever is read at a time
            kept = max(1, self.context // 2)
            rows = [row if len(row) <= self.context else row[-kept:] for row in rows]
        width, device = max(map(len, rows)), next(self.model.parameters()).device
        ids = torch.tensor([[*[self.padding] * (width - len(row)), *row] for row in rows], dtype=torch.long)
        padding = torch.tensor([width - len(row) for row in rows], device=device)
        ids = ids.to(device)
        window = replace(self.begun(ids), padding=padding)
        size = max(1, chunk // len(rows) if chunk else width)
        for start in range(0, width, size):
            if start:
                yield
            with torch.inference_mode():
                window = self.onward(ids[:, start : start + size], window)[1]
        return window

    def begun(self, values: Tensor) -> Window:
        """The window before anything of some rows is read."""
        padding = torch.zeros(len(values), dtype=torch.long, device=values.device)
        return Window(values[:, :0], padding, self.model.start())

    def step(self, last: Int[Tensor, "R 1"], window: Window) -> tuple[Float[Tensor, "R V"], Window]:
        """The logits of the id after the last one of each row."""
        hidden, window = self.onward(last, window)
        return self.model.head(hidden[:, -1]), window

    def _scores(self, ids: Int[Tensor, "1 T"], window: Window) -> tuple[Float[Tensor, "T2 V"], Window]:
        # T2 < T where the row starts over from fewer ids than are new; the last one is always included.
        hidden, window = self.onward(ids, window)
        return self.model.head(hidden[0, -ids.shape[1] :]), window

    def onward(
        self, new: Int[Tensor, "R T"] | Float[Tensor, "R T C"], window: Window
    ) -> tuple[Float[Tensor, "R T2 D"], Window]:
        """The hidden vectors after what is new, and the window after it."""
        values, state, padding = torch.cat((window.values, new), 1), window.state, window.padding
        if self.context is not None and values.shape[1] - int(padding.min()) > self.context:
            full = values.shape[1] - padding > self.context
            if not bool(full.all()):
                return self._apart(new, window, full)
            # There are no more positions: the rows start over from their last half.
            values = new = values[:, -max(1, self.context // 2) :]
            padding, state = torch.zeros_like(padding), self.model.start()
        if not state.length:
            state = state.padded(padding if bool(padding.any()) else None)
        hidden, state = self.model.decode(new, state)
        return hidden, Window(values, padding, state)

    def _apart(
        self, new: Int[Tensor, "R 1"], window: Window, full: Bool[Tensor, " R"]
    ) -> tuple[Float[Tensor, "R 1 D"], Window]:
        """The same where only some rows start over."""
        parts = [at.nonzero()[:, 0] for at in (full, ~full)]
        results = []
        for rows in parts:
            with by_row(adapters_of(rows.tolist())):
                results.append(self.onward(new[rows], window.select(rows)))
        (hidden, first), (others, second) = results
        order = torch.cat(parts).argsort()
        return torch.cat((hidden[:, -1:], others))[order], first.joined(second).select(order)

    def _side(self, row: Sequence[int]) -> Side:
        room = 1 << 30 if self.context is None else self.context
        return Side(self._scores, last_of(self._reading([row[:-1]])), lambda window: room - window.values.shape[1])

    def _task(self, jobs: Sequence[Job]) -> Task:
        if self.model.training:
            self.model.eval()
        rows, request = [job.row for job in jobs], jobs[0].request
        device = next(self.model.parameters()).device
        start = torch.tensor([row[-1] for row in rows], device=device)
        limits = torch.tensor([job.request.length for job in jobs], device=device)
        prefixes = beam_rows([job.request.prefix for job in jobs], device)
        width = max(map(len, rows), default=0)
        prompts = torch.tensor([[*[-1] * (width - len(row)), *row] for row in rows], dtype=torch.long, device=device)
        first = int(start[0]) if len(rows) == 1 else start
        return Task(first, request.end, limits, prefixes, stopped=request.stopped, ends=request.ends, prompts=prompts)
