"""What a search gives: hypotheses, and what it considered on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

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
class Candidate:
    """A continuation that a step of a search considered.

    Args:
        parent: which of the hypotheses before the step it continues.
        token, log_p: its last id, and the log-probability of all.
        place: which of the hypotheses after the step it is; None = none.
        ended: the hypothesis that it ended as, if it did and was good enough.
    """

    parent: int
    token: int
    log_p: float
    place: int | None = None
    ended: Hypothesis | None = None


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
        steps: the candidates of each step, best first; None = they are not noted.
    """

    stopped: Callable[[Sequence[int]], bool] | None
    generator: torch.Generator
    top: int | None = None
    live: int = 1
    ended: list[Hypothesis] = field(default_factory=list)
    chosen: list[Choice] | None = None
    steps: list[list[Candidate]] | None = None

    def best(self, count: int) -> list[Hypothesis]:
        """The hypotheses with the highest scores, best first."""
        return sorted(self.ended, key=lambda h: -h.score)[:count]
