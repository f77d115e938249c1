"""What is decoded, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch

from seqloom.shapes import Bool, Float, Int, Tensor

Ids = list[int]
Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Hypothesis:
    """One result: its ids without start and end, and the score it was ranked by.

    `log_p` is the model's log-probability, end included; `repetition_penalty` changes it, other options do not.
    `reason`: whether it ended by itself, or was as long as it may be.
    """

    ids: tuple[int, ...]
    log_p: float
    score: float
    reason: Reason = "stop"


@dataclass(frozen=True)
class Choice:
    """An id that was chosen; where asked for, its log-probability by the model, and the likeliest alternatives."""

    id: int
    log_p: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Task:
    """What to decode.

    Args:
        start: the id that is read first, for all results or for each.
        end: the id that ends a sequence, and follows at its limit.
        limits: the most tokens of each of the B results, without the end.
        prefixes: the ids that each result must begin with, -1 where it is free.
        attention: returns the attention (R S) of the last step over the source; only the coverage penalty needs it.
        source_mask: True on the real positions of the source, which should be covered; None = all are real.
        stopped: whether ids are complete without an end id.
        prompts: what was read before each result, up to its `start`, with -1 before a shorter one; None = only `start`.
        ends: further ids that end a sequence.
        watching: the context of a step that `attention` reads.
    """

    start: int | Int[Tensor, " B"]
    end: int
    limits: Int[Tensor, " B"]
    prefixes: Int[Tensor, "B P"] | None = None
    attention: Callable[[], Float[Tensor, "R S"]] | None = None
    source_mask: Bool[Tensor, "B S"] | None = None
    stopped: Callable[[Sequence[int]], bool] | None = None
    prompts: Int[Tensor, "B Q"] | None = None
    ends: tuple[int, ...] = ()
    watching: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def all_ends(self) -> tuple[int, ...]:
        """The ids that end a sequence."""
        return (self.end, *self.ends)

    @cached_property
    def end_ids(self) -> Int[Tensor, " E"]:
        """The same as a tensor."""
        return torch.tensor(self.all_ends, device=self.limits.device)

    def first(self) -> Int[Tensor, " B"]:
        """The id that is read first, for each result."""
        return self.start if isinstance(self.start, Tensor) else torch.full_like(self.limits, self.start)


@dataclass(eq=False)
class Result:
    """What becomes of one sentence.

    Args:
        stopped: whether ids are complete without an end id.
        generator: what its samples are drawn with.
        top: the number of alternatives to note for each id, beside its log-probability; None = neither.
        live: the samples, or the one search, that have not ended.
        ended: the hypotheses that have.
        chosen: the ids so far, noted while there is one hypothesis; None = they are not noted.
    """

    stopped: Callable[[Sequence[int]], bool] | None
    generator: torch.Generator
    top: int | None = None
    live: int = 1
    ended: list[Hypothesis] = field(default_factory=list)
    chosen: list[Choice] | None = None

    def best(self, count: int) -> list[Hypothesis]:
        """The hypotheses with the highest scores, best first."""
        return sorted(self.ended, key=lambda h: -h.score)[:count]


def beam_rows(prefixes: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B P"] | None:
    """Prefixes of different lengths as one tensor, -1 where a row is free; None if all are empty."""
    width = max((len(p) for p in prefixes), default=0)
    if width == 0:
        return None
    return torch.tensor([[*p, *[-1] * (width - len(p))] for p in prefixes], device=device)
