"""What is asked of a model: one result, and how it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seqloom.decoding.config import DecodingConfig


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
