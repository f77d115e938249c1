"""What is asked of a model: one result, and how it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from seqloom.decoding.config import DecodingConfig
from seqloom.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class Request:
    """What to generate.

    Args:
        length: the most ids of a result.
        end: the id that ends it.
        stopped: whether ids are complete without an end id.
        ends: further ids that end it.
        prefix: the ids that it must begin with.
    """

    length: int
    end: int
    stopped: Callable[[Sequence[int]], bool] | None = None
    ends: tuple[int, ...] = ()
    prefix: tuple[int, ...] = ()


@dataclass(eq=False)
class Job:
    """One request for a model.

    Args:
        row: what the model reads: the ids of a prompt, or a source.
        request: what to generate.
        config: how; each job of samples is drawn by its own seed.
        adapter: the number of the adapter beside the weights that it is computed with; None = the weights alone.
        top: for one hypothesis or sample, the number of alternatives to report for each id, beside its
            log-probability; None = neither.
    """

    row: Any
    request: Request
    config: DecodingConfig
    adapter: int | None = None
    top: int | None = None


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


def beam_rows(prefixes: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B P"] | None:
    """Prefixes of different lengths as one tensor, -1 where a row is free; None if all are empty."""
    width = max((len(p) for p in prefixes), default=0)
    if width == 0:
        return None
    return torch.tensor([[*p, *[-1] * (width - len(p))] for p in prefixes], device=device)
