"""What is computed for requests: a thread for each run, in which jobs take turns."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

from seqloom.errors import SeqloomError

T = TypeVar("T")
Steps = Callable[[], Iterator[T]]
"""What a request asks for: (), in the thread of the run, -> its results, step by step."""

MOST_ACTIVE, MOST_WAITING = 8, 64


class OverloadedError(SeqloomError):
    """There are as many requests as may wait."""


class Job(Generic[T]):
    """A request in the queue of a worker: `async for result in job`. Left early, it is cancelled."""

    def __init__(self, steps: Steps[T], worker: Worker) -> None:
        self._steps, self._worker = steps, worker
        self._loop = asyncio.get_running_loop()
        self._results: asyncio.Queue[tuple[str, T | BaseException | None]] = asyncio.Queue()
        self._iterator: Iterator[T] | None = None
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            while True:
                kind, value = await self._results.get()
                if isinstance(value, BaseException):
                    raise value
                if kind == "end":
                    return
                yield value  # type: ignore[misc]
        finally:
            self.cancelled = True
            self._worker.leave(self)

    async def all(self) -> list[T]:
        """All results."""
        return [result async for result in self]

    def advance(self) -> bool:
        """Takes a step, in the thread of the worker; whether there are more."""
        try:
            if not self.cancelled:
                if self._iterator is None:
                    self._iterator = self._steps()
                self._give("step", next(self._iterator))
                return True
            if self._iterator is not None:
                self._iterator.close()  # type: ignore[attr-defined]
        except StopIteration:
            self._give("end", None)
        except Exception as error:
            self._give("error", error)
        return False

    def _give(self, kind: str, value: T | BaseException | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._results.put_nowait, (kind, value))


class Worker:
    """A thread in which jobs take turns, one step each, so that they join and leave at every step.

    Args:
        name: that of the run.
        active: the most jobs that take turns.
        waiting: the most that wait to do so, first come, first served.
    """

    def __init__(self, name: str, active: int = MOST_ACTIVE, waiting: int = MOST_WAITING) -> None:
        self._most_active, self._most_waiting = active, waiting
        self._active, self._waiting = deque[Job[object]](), deque[Job[object]]()
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """The number of jobs that take turns."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return len(self._waiting)

    def submit(self, steps: Steps[T]) -> Job[T]:
        """A job for a request. Raises OverloadedError where too many wait."""
        job = Job(steps, self)
        with self._changed:
            if len(self._waiting) >= self._most_waiting or self._closing:
                raise OverloadedError("there are too many requests", cure="try again in a second")
            self._waiting.append(job)  # type: ignore[arg-type]
            self._changed.notify()
        return job

    def leave(self, job: Job[T]) -> None:
        """Frees the place of a job; one that is being computed leaves after its step."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)  # type: ignore[arg-type]

    def close(self) -> None:
        """Computes what was asked for, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._active or self._waiting or self._closing):
                    self._changed.wait()
                while self._waiting and len(self._active) < self._most_active:
                    self._active.append(self._waiting.popleft())
                if not self._active:
                    return
                job = self._active[0]
            more = job.advance()
            with self._changed:
                self._active.popleft()
                if more:
                    self._active.append(job)
