"""The training loop: a generator of steps. Whoever runs it logs, evaluates and saves between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from seqloom.errors import DivergedError
from seqloom.training.optimizer import Optimizer


@runtime_checkable
class Counted(Protocol):
    """What every batch tells: how many words it teaches, and where its examples stand in the corpus."""

    @property
    def tokens(self) -> int:
        """How many words the objective will sum its loss over."""
        ...

    @property
    def rows(self) -> tuple[int, ...]:
        """The examples, by number."""
        ...


@runtime_checkable
class Found(Protocol):
    """What every objective gives: sums over the words of the batch, the first to be differentiated."""

    @property
    def value(self) -> torch.Tensor:
        """The loss, summed."""
        ...

    @property
    def nll(self) -> float:
        """The negative log-likelihood in nats, summed."""
        ...

    @property
    def carry(self) -> Mapping[str, torch.Tensor]:
        """What the next batch goes on from, without gradients; empty for batches that have nothing to do with it."""
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
        tokens: target tokens.
        seconds: what it took.
        carry: what the next step goes on from.
    """

    number: int
    loss: float
    nll: float
    norm: float
    lr: float
    tokens: int
    seconds: float
    carry: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)


def train(
    model: nn.Module,
    objective: Callable[..., Found],
    batches: Callable[[int], B],
    optimizer: Optimizer,
    rate: Callable[[int], float],
    *,
    start: int = 0,
    accumulate: int = 1,
    carry: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[Step]:
    """Trains without end from step `start` + 1 on; batch (n - 1) * accumulate + j belongs to step n.

    An objective that found a `carry` is called with it and the next batch; `carry` is that of step `start`.
    A step goes down the gradient of the mean over all words of its batches, however they are cut into batches.
    Raises DivergedError, before the step, at a loss or gradient that is not finite.
    """
    number = start
    while True:
        number += 1
        began = time.perf_counter()
        model.train()
        loss, nll = 0.0, 0.0
        parts = [batches((number - 1) * accumulate + j) for j in range(accumulate)]
        tokens = sum(part.tokens for part in parts)
        rows = [part.rows for part in parts]
        for part in parts:
            found = objective(model, part, carry) if carry else objective(model, part)
            carry = found.carry
            loss, nll = loss + float(found.value.detach()), nll + found.nll
            if not math.isfinite(loss):
                _refuse("loss", loss, number, rows, optimizer)
            # Scaled before the gradients are made, so that bfloat16 ones have the size of a mean.
            (found.value / tokens).backward()  # type: ignore[no-untyped-call]
            optimizer.gather()
        norm = optimizer.norm()
        if not math.isfinite(norm):
            _refuse("gradient norm", norm, number, rows, optimizer)
        lr = rate(number)
        optimizer.step(lr, norm)
        yield Step(number, loss / tokens, nll / tokens, norm, lr, tokens, time.perf_counter() - began, carry or {})


def _refuse(what: str, value: float, step: int, rows: list[tuple[int, ...]], optimizer: Optimizer) -> None:
    optimizer.clear()
    listed = [str(row + 1) for part in rows for row in part]
    shown = ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    raise DivergedError(
        f"the {what} is {value} at step {step}; the step was not taken. Its examples: {shown}",
        cure="lower optimizer.lr, lengthen schedule.warmup, or look at these lines of the training data",
    )
