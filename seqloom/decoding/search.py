"""The decoding loop: greedy, beam search and sampling, for any model that predicts the next token.

Searches of different kinds go through the model together, row beside row, and each picks by its own config.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from seqloom.decoding.config import DecodingConfig
from seqloom.decoding.hypotheses import Kept, Search
from seqloom.decoding.job import Task
from seqloom.decoding.results import Hypothesis, Ids, Result
from seqloom.nn.effective import adapters_of, by_row
from seqloom.shapes import Float, Int, Tensor


@runtime_checkable
class Selectable(Protocol):
    """A state of several rows that is carried from step to step."""

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Any:
        """The state of the given rows; `sentences` = the memory rows they belong to. None = all, unchanged."""


S = TypeVar("S", bound=Selectable)
T = TypeVar("T")
Step = Callable[[Int[Tensor, "R 1"], S], tuple[Float[Tensor, "R V"], S]]


class Running:
    """Rows of searches that a model decodes together; False when none is left.

    Args:
        step: returns the logits of the token after the last one of each row.
        search: the first search.
        state: its state, with one row per sentence.
        adapters: the number of the adapter of each sentence; None = all rows are computed alike.
    """

    def __init__(self, step: Step[S], search: Search, state: S, adapters: Int[Tensor, " B"] | None = None) -> None:
        self._step, self._searches = step, [search] if search else []
        self._state: Any = state
        self._adapters = adapters
        # Whether the hypotheses of a block share a row of the memory, or each has its own.
        self._by_block = True
        if len(search.sentences) > len(search.results):
            with torch.inference_mode():
                self._choose(search.sentences, search.sentences)

    def __bool__(self) -> bool:
        return bool(self._searches)

    @torch.inference_mode()
    def step(self) -> None:
        """Goes one step on with all rows, and drops those that are done."""
        newest = [each for search in self._searches for each in search.newest]
        last = torch.tensor(newest, device=self._searches[0].device)[:, None]
        with ExitStack() as stack:
            stack.enter_context(by_row(self._adapters))
            for search in self._searches:
                stack.enter_context(search.task.watching())
            scores, self._state = self._step(last, self._state)
        # Tests that check shapes would compile a function within this one anew in each step.
        self._keep(lambda search, rows: search.take(scores, rows))

    @torch.inference_mode()
    def without(self, results: Collection[Result]) -> None:
        """Removes sentences."""
        self._keep(lambda search, _: search.without(results))

    @torch.inference_mode()
    def join(self, other: Running) -> None:
        """Adds the rows of another one, of the same model; both have taken a step."""
        if not other:
            return
        for running in (self, other):  # places of what has ended are for others
            running.without(())
        if not self:
            self._searches, self._state = other._searches, other._state
            self._adapters, self._by_block = other._adapters, other._by_block
            return
        for running in (self, other):
            running._share(len({search.width for each in (self, other) for search in each._searches}) == 1)
        self._state = self._state.joined(other._state)
        if self._adapters is not None or other._adapters is not None:
            self._adapters = torch.cat([running._adapter_numbers() for running in (self, other)])
        rows, spans = 0, dict[Search, list[int]]()
        for search in (*self._searches, *other._searches):
            count = search.rows
            same = next((s for s in spans if s.kind == search.kind), None)
            spans.setdefault(same or search, []).extend(range(rows, rows + count))
            rows += count
            if same is not None:
                same.join(search)
        self._searches = [*spans]
        order = [row for part in spans.values() for row in part]
        if order != [*range(rows)]:
            K = self._searches[0].width if self._by_block else 1
            self._choose(order, [row // K for row in order[::K]])

    def _keep(self, kept_by: Callable[[Search, slice], Kept]) -> None:
        """Keeps of each search, which has some of the rows, what it returns of itself."""
        rows, memory = list[int](), list[int]()
        at, blocks_at, dropped, going = 0, 0, False, list[Search]()
        for search in self._searches:
            count, blocks, K = search.rows, len(search.blocks), 1 if self._by_block else search.width
            mine, kept = kept_by(search, slice(at, at + count))
            dropped |= kept is not None
            rows += [at + row for row in mine]
            memory += [blocks_at + b * K + i for b in (range(blocks) if kept is None else kept) for i in range(K)]
            at, blocks_at = at + count, blocks_at + blocks * K
            if search:
                going.append(search)
        self._searches = going
        if going:
            self._choose(None if rows == [*range(at)] else rows, memory if dropped else None)
            self._share(len({search.width for search in going}) == 1)

    @property
    def _device(self) -> torch.device:
        return self._searches[0].device

    def _choose(self, rows: Sequence[int] | None, memory: Sequence[int] | None) -> None:
        at, of_memory = (None if part is None else torch.tensor(part, device=self._device) for part in (rows, memory))
        self._state = self._state.select(at, of_memory)
        adapters = self._adapters
        self._adapters = adapters if adapters is None or at is None else adapters[at]

    def _share(self, by_block: bool) -> None:
        """Lets the hypotheses of a block share a row of the memory, for which all blocks need as many, or not."""
        if by_block == self._by_block:
            return
        widths = [search.width for search in self._searches for _ in search.blocks]
        if by_block:
            first = [*range(0, sum(widths), widths[0])]
        else:
            first = [b for b, width in enumerate(widths) for _ in range(width)]
        self._choose(None, first)
        self._by_block = by_block

    def _adapter_numbers(self) -> Int[Tensor, " R"]:
        if self._adapters is not None:
            return self._adapters
        return torch.full((sum(search.rows for search in self._searches),), -1, device=self._device)


def decode(step: Step[S], state: S, task: Task, config: DecodingConfig) -> list[list[Hypothesis]]:
    """The best hypotheses of each sentence, best first; each is computed with the adapter of its row."""
    return last_of(decoding(step, state, task, config))


def last_of(steps: Generator[Any, None, T]) -> T:
    """The value that a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def decoding(
    step: Step[S], state: S, task: Task, config: DecodingConfig
) -> Generator[Ids, None, list[list[Hypothesis]]]:
    """Yields the newest token of each sentence's best hypothesis after each step; returns the best hypotheses of each
    sentence, best first.

    `step` returns the logits of the token after the last one of each row. `state` has one row per sentence.
    Rows of finished sentences are dropped along the way.
    """
    search = Search(task, config)
    running = Running(step, search, state, adapters_of())
    while running:
        running.step()  # in inference mode, which the caller is not
        if running:
            yield search.newest[:: search.width]
    return [result.best(config.n_best) for result in search.results]
