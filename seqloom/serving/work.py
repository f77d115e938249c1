"""What is computed for requests: a thread for each run, in which they take turns at every step."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from seqloom.decoding.continuous import Continuous, Update
from seqloom.decoding.job import Job
from seqloom.serving.refusals import OverloadedError

T = TypeVar("T")
MOST_ACTIVE, MOST_WAITING = 32, 64
"""The most requests of a run that take turns, and the most that wait to do so."""
_ROWS = 32
"""The most rows that are decoded at a time."""


class Writes(Protocol):
    """A predictor that writes texts."""

    def continuous(self, rows: int) -> Continuous:
        """What decodes its jobs, at most so many rows at a time."""


class Ticket(Generic[T]):
    """A request to a worker: `async for result in ticket`. Left early, it is cancelled."""

    gone = False
    """Whether nobody waits any more."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._loop = worker, asyncio.get_running_loop()
        self._results = asyncio.Queue[tuple[list[T], BaseException | None, bool]]()

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            over = False
            while not over:
                results, error, over = await self._results.get()
                for result in results:
                    yield result
                if error is not None:
                    raise error
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Frees the place of the request."""
        self.gone = True
        self._worker.leave(self)

    async def all(self) -> list[T]:
        """All results."""
        return [result async for result in self]

    def turn(self) -> bool:
        """Takes a step, in the thread of the worker; whether the request stays."""
        raise NotImplementedError

    def give(self, *results: T, over: bool = False, error: BaseException | None = None) -> None:
        """Hands results to who waits for them."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._results.put_nowait, ([*results], error, over))


class Steps(Ticket[T]):
    """A request whose results are computed step by step, by a function that is called in the worker's thread."""

    def __init__(self, worker: Worker, steps: Callable[[], Iterator[T]]) -> None:
        super().__init__(worker)
        self._steps = steps
        self._iterator: Iterator[T] | None = None

    def turn(self) -> bool:
        """See Ticket."""
        if self.gone:
            return False
        if self._iterator is None:
            self._iterator = self._steps()
        result = next(self._iterator, None)
        if result is None:
            self.give(over=True)
            return False
        self.give(result)
        return True


class Rows(Ticket[tuple[int, Update]]):
    """A request for which rows are decoded: what each step brings, with the number of the row."""

    def __init__(self, worker: Worker, decoder: Decoder, jobs: Sequence[Job]) -> None:
        super().__init__(worker)
        self._decoder, self._numbers = decoder, {job: number for number, job in enumerate(jobs)}
        self._waiting, self._running = deque(jobs), set[Job]()

    def turn(self) -> bool:
        """See Ticket: joins a row, if there is room."""
        if self.gone:
            for job in self._running:
                self._decoder.cancel(job)
            return False
        if self._waiting and self._decoder.has_room:
            self._running.add(job := self._waiting.popleft())
            self._decoder.join(job, self)
        return bool(self._waiting or self._running)

    def take(self, update: Update) -> None:
        """What a step brought for one of the rows."""
        if update.hypotheses is not None:
            self._running.discard(update.job)
        self.give((self._numbers[update.job], update), over=not (self._waiting or self._running))


class Decoder:
    """The rows of all requests to a model, which are decoded together.

    Args:
        writes: the predictor of the model.
    """

    def __init__(self, writes: Writes) -> None:
        self._writes, self._rows = writes, writes.continuous(_ROWS)
        self._owners = dict[Job, Rows]()

    @property
    def has_room(self) -> bool:
        """Whether a row may join."""
        return len(self._owners) < _ROWS

    def join(self, job: Job, owner: Rows) -> None:
        """Adds a row of a request."""
        self._rows.join(job)
        self._owners[job] = owner

    def cancel(self, job: Job) -> None:
        """Removes a row, which has ended or not."""
        if self._owners.pop(job, None) is not None:
            self._rows.cancel(job)

    def step(self) -> None:
        """Takes a step with all rows. What fails, fails for all of them."""
        if not self._owners:
            return
        try:
            updates = self._rows.step()
        except Exception as error:
            for owner in {*self._owners.values()}:
                owner.gone = True
                owner.give(error=error, over=True)
            self._owners.clear()
            self._rows = self._writes.continuous(_ROWS)
            return
        for update in updates:
            if update.job in self._owners:
                self._owners[update.job].take(update)
            if update.hypotheses is not None:
                self._owners.pop(update.job, None)


class Worker:
    """A thread in which requests take turns, so that they join and leave at every step.

    Args:
        name: that of the run.
        active: the most requests that take turns.
        waiting: the most that wait to do so, first come, first served.
    """

    def __init__(self, name: str, active: int = MOST_ACTIVE, waiting: int = MOST_WAITING) -> None:
        self.name, self._decoders = name, dict[Writes, Decoder]()
        self._most_active, self._most_waiting = active, waiting
        self._active, self._waiting = list[Ticket[Any]](), deque[Ticket[Any]]()
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """The number of requests that take turns."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._waiting)

    def steps(self, steps: Callable[[], Iterator[T]]) -> Ticket[T]:
        """A request for results that are computed step by step. Raises OverloadedError where too many wait."""
        return self._submit(Steps(self, steps))

    def decode(self, writes: Writes, jobs: Sequence[Job]) -> Ticket[tuple[int, Update]]:
        """A request for rows that a predictor decodes. Raises OverloadedError where too many wait."""
        if writes not in self._decoders:
            self._decoders[writes] = Decoder(writes)
        return self._submit(Rows(self, self._decoders[writes], jobs))

    def check_room(self) -> None:
        """Raises OverloadedError where too many wait."""
        if len(self._waiting) >= self._most_waiting or self._closing:
            raise OverloadedError("too many requests wait", cure="try again in a second")

    def _submit(self, ticket: Ticket[T]) -> Ticket[T]:
        with self._changed:
            self.check_room()
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def leave(self, ticket: Ticket[T]) -> None:
        """Frees the place of a request that waits; one that takes turns leaves after the step of this moment."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

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
            self._active = [ticket for ticket in self._active if self._stays(ticket)]
            for decoder in [*self._decoders.values()]:
                decoder.step()

    def _stays(self, ticket: Ticket[Any]) -> bool:
        try:
            return ticket.turn()
        except Exception as error:
            ticket.give(error=error, over=True)
            return False
