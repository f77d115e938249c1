"""The training loop: a generator of steps. Whoever runs it logs, evaluates and saves between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from seqloom.errors import DivergedError
from seqloom.training.optimizer import Optimizer


class Counted(Protocol):
    """What every batch tells: where its examples stand in the corpus."""

    @property
    def rows(self) -> tuple[int, ...]:
        """The examples, by number."""
        ...


class Found(Protocol):
    """What every objective gives: a sum to differentiate, and over how many words."""

    @property
    def value(self) -> torch.Tensor:
        """The loss, summed."""
        ...

    @property
    def nll(self) -> float:
        """The negative log-likelihood in nats, summed."""
        ...

    @property
    def words(self) -> int:
        """How many words."""
        ...


B = TypeVar("B", bound=Counted)


@dataclass(frozen=True)
class Step:
    """One step that was taken.

    Args:
        number: from 1.
        loss, nll: per word, in nats; with and without smoothing.
        norm: the norm of the gradient before clipping.
        lr: the learning rate.
        words: target words.
        seconds: what it took.
    """

    number: int
    loss: float
    nll: float
    norm: float
    lr: float
    words: int
    seconds: float


def train(
    model: nn.Module,
    objective: Callable[[Any, B], Found],
    batches: Callable[[int], B],
    optimizer: Optimizer,
    rate: Callable[[int], float],
    *,
    start: int = 0,
    accumulate: int = 1,
) -> Iterator[Step]:
    """Trains without end from step `start` + 1 on; batch (n - 1) * accumulate + j belongs to step n.

    Raises DivergedError, before the step, at a loss or gradient that is not finite.
    """
    number = start
    while True:
        number += 1
        began = time.perf_counter()
        model.train()
        loss, nll, words = 0.0, 0.0, 0
        rows: list[tuple[int, ...]] = []
        for j in range(accumulate):
            batch = batches((number - 1) * accumulate + j)
            found = objective(model, batch)
            rows.append(batch.rows)
            loss, nll, words = loss + float(found.value.detach()), nll + found.nll, words + found.words
            if not math.isfinite(loss):
                _refuse("loss", loss, number, rows, optimizer)
            # Scaled before the gradients are made, so that bfloat16 ones have the size of a mean.
            (found.value / (found.words * accumulate)).backward()  # type: ignore[no-untyped-call]
            optimizer.gather()
        norm = optimizer.norm()
        if not math.isfinite(norm):
            _refuse("gradient norm", norm, number, rows, optimizer)
        lr = rate(number)
        optimizer.step(lr, norm)
        yield Step(number, loss / words, nll / words, norm, lr, words, time.perf_counter() - began)


def _refuse(what: str, value: float, step: int, rows: list[tuple[int, ...]], optimizer: Optimizer) -> None:
    optimizer.clear()
    listed = [str(row + 1) for part in rows for row in part]
    shown = ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    raise DivergedError(
        f"the {what} is {value} at step {step}; the step was not taken. Its examples: {shown}",
        cure="lower optimizer.lr, lengthen schedule.warmup, or look at these lines of the training data",
    )
