"""Continuous batching: jobs join and leave the rows that a model decodes, between any two steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from seqloom.decoding.hypotheses import Search
from seqloom.decoding.job import Job, Task
from seqloom.decoding.results import Choice, Hypothesis, Result
from seqloom.decoding.search import Running
from seqloom.nn.effective import by_row
from seqloom.shapes import Int, Tensor


@runtime_checkable
class Reader(Protocol):
    """An engine that begins jobs and takes steps with them."""

    def alike(self, job: Job) -> Any:
        """What jobs have in common that can be begun together."""

    def begin(self, jobs: Sequence[Job], chunk: int) -> Generator[None, None, tuple[Task, Any]]:
        """Reads what jobs give, some of it before each yield; returns what is decoded, and its state."""

    def step(self, last: Int[Tensor, "R 1"], state: Any) -> tuple[Tensor, Any]:
        """The logits of the id after the last one of each row."""


@dataclass(frozen=True)
class Update:
    """What a step brought for a job.

    Args:
        job: the job.
        chosen: its newest ids, without the end; none where there are several hypotheses or samples.
        hypotheses: the results, best first, where the job is finished.
        end: the end, where it was chosen and not only reached.
    """

    job: Job
    chosen: Sequence[Choice]
    hypotheses: Sequence[Hypothesis] | None = None
    end: Choice | None = None


Whole = Callable[[Sequence[Job]], Sequence[Sequence[Hypothesis] | None]]


class Continuous:
    """The jobs of one model. Only one thread at a time may use it.

    Args:
        engine: of the model.
        rows: the most rows that are decoded at a time, one for each hypothesis; a job of more runs alone.
        chunk: the most positions of prompts that are read between two steps of other jobs; 0 = no limit.
        whole: decodes jobs of one kind at once, instead of step by step; None for those that it leaves.
    """

    def __init__(self, engine: Reader, rows: int = 32, chunk: int = 0, whole: Whole | None = None) -> None:
        self._engine, self._rows, self._chunk, self._whole = engine, rows, chunk, whole
        self._waiting, self._finished = deque[Job](), list[Update]()
        # What becomes of the jobs that have begun, and how many of its ids were reported; None = it is being read.
        self._begun = dict[Job, tuple[Result, int] | None]()
        self._opening: Generator[None, None, Running | None] | None = None
        self._running: Running | None = None

    def __len__(self) -> int:
        """The jobs that have not finished."""
        return len(self._waiting) + len(self._begun)

    def join(self, job: Job) -> None:
        """Adds a job, which is begun as soon as there is room; first come, first served. One of no ids has no text."""
        self._waiting.append(job)

    def cancel(self, job: Job) -> None:
        """Removes a job and its rows at once; one that has finished is ignored."""
        if job in self._waiting:
            self._waiting.remove(job)
        begun = self._begun.pop(job, None)
        if begun is not None and self._running is not None:
            self._running.without([begun[0]])

    def step(self) -> list[Update]:
        """Begins the jobs for which there is room, takes a step with all rows, and returns what that brought.

        What the model or a job's `stopped` raises is raised; no job is left then.
        """
        blank = [job for job in self._waiting if not len(job.row)]
        for job in blank:
            self._waiting.remove(job)
        try:
            self._open()
            if self._running:
                self._running.step()
        except BaseException:
            self._waiting.clear()
            self._finished.clear()
            self._begun.clear()
            self._opening = self._running = None
            raise
        updates = [update for job in [*self._begun] if (update := self._update(job)) is not None]
        finished, self._finished = self._finished, []
        return [*(Update(job, [], [Hypothesis((), 0.0, 0.0)]) for job in blank), *finished, *updates]

    def _open(self) -> None:
        """Begins jobs; of a long prompt only a piece is read where others wait for their step."""
        while self._opening is not None or (jobs := self._next()):
            if self._opening is None:
                if not (left := self._left_by_whole(jobs)):
                    continue
                self._opening = self._begin(left)
            try:
                next(self._opening)
            except StopIteration as end:
                self._opening, begun = None, end.value
                if self._running and begun:
                    self._running.join(begun)
                else:
                    self._running = self._running or begun
            if self._chunk and self._running:
                return

    def _next(self) -> list[Job]:
        """The waiting jobs that are begun together next."""
        taken, jobs = sum(job.config.rows for job in self._begun), list[Job]()
        for job in self._waiting:
            taken += job.config.rows
            if taken > self._rows and (jobs or self._begun):
                break
            if not jobs or self._kind(job) == self._kind(jobs[0]):
                jobs.append(job)
        return jobs

    def _left_by_whole(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs that are not decoded at once."""
        if self._whole is None:
            return jobs
        left = list[Job]()
        for job, hypotheses in zip(jobs, self._whole(jobs), strict=True):
            if hypotheses is None:
                left.append(job)
            else:
                self._waiting.remove(job)
                alone = hypotheses[0].ids if job.config.rows == 1 else ()
                self._finished.append(Update(job, [Choice(i) for i in alone], hypotheses))
        return left

    def _kind(self, job: Job) -> Any:
        return self._engine.alike(job), job.config.shared, job.request.end, job.request.ends

    def _begin(self, jobs: Sequence[Job]) -> Generator[None, None, Running | None]:
        """Reads what the jobs give, and takes the first step with them; None if all were cancelled meanwhile."""
        for job in jobs:
            self._waiting.remove(job)
            self._begun[job] = None
        numbers = [-1 if job.adapter is None else job.adapter for job in jobs]
        adapters = None if max(numbers) < 0 else torch.tensor(numbers)
        opening, opened = self._engine.begin(jobs, self._chunk), None
        while opened is None:
            with by_row(adapters):
                try:
                    next(opening)
                except StopIteration as end:
                    opened = end.value
            if opened is None:
                yield
        task, state = opened
        device = task.limits.device
        results = [
            Result(
                job.request.stopped,
                torch.Generator(device).manual_seed(job.config.seed),
                job.top,
                chosen=[] if job.config.rows == 1 else None,
            )
            for job in jobs
        ]
        running = Running(self._engine.step, Search(task, jobs[0].config, results), state, adapters)
        running.without([result for job, result in zip(jobs, results, strict=True) if job not in self._begun])
        self._begun |= {job: (result, 0) for job, result in zip(jobs, results, strict=True) if job in self._begun}
        if not running:
            return None
        running.step()
        return running

    def _update(self, job: Job) -> Update | None:
        if (begun := self._begun[job]) is None:
            return None
        result, reported = begun
        chosen, done = result.chosen or [], not result.live
        hypotheses, end = result.best(job.config.n_best) if done else None, None
        if hypotheses and result.chosen is not None:
            size = len(hypotheses[0].ids)
            ended = chosen[size:] if hypotheses[0].reason == "stop" else []
            end, chosen = next(iter(ended), None), chosen[:size]
        if done:
            del self._begun[job]
        elif len(chosen) == reported:
            return None
        else:
            self._begun[job] = result, len(chosen)
        return Update(job, chosen[reported:], hypotheses, end)
