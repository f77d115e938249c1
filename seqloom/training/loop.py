"""The training loop: a generator of steps. The caller logs, evaluates and saves between them."""

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
    """What every batch has: the number of its target tokens, and the numbers of its examples in the corpus."""

    @property
    def tokens(self) -> int:
        """The number of tokens that the objective sums its loss over."""
        ...

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of its examples."""
        ...


@runtime_checkable
class Loss(Protocol):
    """What every objective returns: sums over the tokens of the batch."""

    @property
    def value(self) -> torch.Tensor:
        """The loss, summed, with gradients."""
        ...

    @property
    def nll(self) -> float:
        """The negative log-likelihood in nats, summed."""
        ...

    @property
    def carry(self) -> Mapping[str, torch.Tensor]:
        """The state that the next batch continues from, without gradients; empty if batches are independent."""
        ...

    @property
    def scores(self) -> Mapping[str, float]:
        """Further means over the batch, for the log."""
        ...


B = TypeVar("B", bound=Counted)


@dataclass(frozen=True)
class Step:
    """One completed step.

    Args:
        number: its number, from 1.
        loss, nll: nats per token, with and without label smoothing.
        norm: the norm of the gradient before clipping.
        lr: the learning rate.
        tokens: target tokens.
        seconds: the time it took.
        carry: the state that the next step continues from.
        scores: further means, of its last batch.
    """

    number: int
    loss: float
    nll: float
    norm: float
    lr: float
    tokens: int
    seconds: float
    carry: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)
    scores: Mapping[str, float] = field(default_factory=dict)


def train(
    model: nn.Module,
    objective: Callable[..., Loss],
    batches: Callable[[int], B],
    optimizer: Optimizer,
    rate: Callable[[int], float],
    *,
    start: int = 0,
    accumulate: int = 1,
    carry: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[Step]:
    """Trains without end from step `start` + 1 on; batch (n - 1) * accumulate + j belongs to step n.

    An objective that returned a `carry` gets it with the next batch; `carry` is that of step `start`.
    A step follows the gradient of the mean over all tokens of its batches, however they are divided into batches.
    Raises DivergedError, before the step, if the loss or gradient is not finite.
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
            result = objective(model, part, carry) if carry else objective(model, part)
            carry = result.carry
            loss, nll = loss + float(result.value.detach()), nll + result.nll
            if not math.isfinite(loss):
                _diverged("loss", loss, number, rows, optimizer)
            # Scaled before the backward pass, so that bfloat16 gradients have the size of a mean.
            (result.value / tokens).backward()  # type: ignore[no-untyped-call]
            optimizer.gather()
        norm = optimizer.norm()
        if not math.isfinite(norm):
            _diverged("gradient norm", norm, number, rows, optimizer)
        lr = rate(number)
        optimizer.step(lr, norm)
        seconds = time.perf_counter() - began
        yield Step(number, loss / tokens, nll / tokens, norm, lr, tokens, seconds, carry or {}, result.scores)


def _diverged(what: str, value: float, step: int, rows: list[tuple[int, ...]], optimizer: Optimizer) -> None:
    optimizer.clear()
    listed = [str(row + 1) for part in rows for row in part]
    shown = ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    raise DivergedError(
        f"the {what} is {value} at step {step}; the step was not taken. Its examples: {shown}",
        cure="lower optimizer.lr, lengthen schedule.warmup, or look at these lines of the training data",
    )
