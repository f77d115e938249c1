"""Stands in for decoding/continuous.py: rows take turns, one step each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seqloom.decoding.config import DecodingConfig
from seqloom.decoding.engine import Engine, Request
from seqloom.decoding.search import Hypothesis


@dataclass(frozen=True)
class Choice:
    """An id, its log-probability and the likeliest alternatives."""

    id: int
    log_p: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Job:
    """One row to decode."""

    row: Any
    request: Request
    config: DecodingConfig
    adapter: int | None = None
    top: int | None = None


@dataclass(frozen=True)
class Update:
    """What a step brought for a job."""

    job: Job
    chosen: Sequence[Choice]
    hypotheses: Sequence[Any] | None = None


@dataclass(frozen=True)
class _Ended:
    ids: tuple[int, ...]
    log_p: float
    score: float
    reason: str


class Continuous:
    """The jobs of one model. One thread at a time may use it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._running = engine, dict[Job, Iterator[Update]]()

    def __len__(self) -> int:
        return len(self._running)

    def join(self, job: Job) -> None:
        """Adds a job."""
        self._running[job] = self._steps(job)

    def cancel(self, job: Job) -> None:
        """Removes a job."""
        self._running.pop(job, None)

    def step(self) -> list[Update]:
        """Takes a step with all rows, and returns what that brought."""
        updates = [next(steps) for steps in self._running.values()]
        for update in updates:
            if update.hypotheses is not None:
                del self._running[update.job]
        return updates

    def _steps(self, job: Job) -> Iterator[Update]:
        def ended(h: Hypothesis) -> _Ended:
            return _Ended(h.ids, h.log_p, h.score, "length" if len(h.ids) >= job.request.length else "stop")

        if job.config.beam > 1 or job.config.n_best > 1:
            results = self._engine.generate([job.row], job.request, job.config)[0]
            yield Update(job, (), [ended(h) for h in results])
            return
        steps, count = self._engine.stream(job.row, job.request, job.config), 0
        while True:
            try:
                ids = next(steps)
            except StopIteration as done:
                last = done.value
                yield Update(job, [Choice(i) for i in last.ids[count:]], [ended(last)])
                return
            count += len(ids)
            yield Update(job, [Choice(i) for i in ids])
