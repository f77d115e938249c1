"""The training loop: a generator of steps, and the learners that take them.

The caller logs, evaluates and saves between the steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seqloom.errors import DivergedError, RunError, first_of
from seqloom.files import WEIGHTS
from seqloom.objectives.cross_entropy import Loss
from seqloom.training.checkpoint import save_tensors, save_weights
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
from seqloom.training.precision import Precision, dtype_for

CRITIC = "critic"
"""The name of a module that predicts rewards in training; a run in use has none."""


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
    carry: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    scores: Mapping[str, float] = field(default_factory=dict)


def train(
    model: nn.Module,
    objective: Callable[..., Loss],
    batches: Callable[[int], Any],
    optimizer: Optimizer,
    rate: Callable[[int], float],
    *,
    start: int = 0,
    accumulate: int = 1,
    carry: Mapping[str, Tensor] | None = None,
) -> Iterator[Step]:
    """Trains without end from step `start` + 1 on; batch (n - 1) * accumulate + j belongs to step n.

    A batch has `tokens`, the number of those that the objective sums its loss over, and `rows`, the numbers of its
    examples in the corpus.
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
            (result.value / tokens).backward()
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
    shown = first_of([str(row + 1) for part in rows for row in part], 8)
    raise DivergedError(
        f"the {what} is {value} at step {step}; the step was not taken. Its examples: {shown}",
        cure="lower optimizer.lr, lengthen schedule.warmup, or look at these lines of the training data",
    )


@runtime_checkable
class Learner(Protocol):
    """What `fit` trains; a checkpoint has `copies` values for each of the `learned` parameters."""

    copies: int
    learned: int

    def steps(self, start: int, rate: Callable[[int], float]) -> Iterator[Step]:
        """The steps from `start` + 1 on, without end; `rate` returns the learning rate of a step."""

    def measured(self, weights: Mapping[str, Tensor] | None) -> AbstractContextManager[None]:
        """A context in which the model can be evaluated, with these weights or, if None, those that would be saved."""

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes these weights, as `saved_weights` reads them."""

    def save(self, folder: Path) -> None:
        """Writes the weights to use, and whatever else it needs to resume."""

    def load(self, folder: Path) -> None:
        """Takes up what `save` wrote."""


class GradientLearner:
    """A model that learns from the gradients of an objective.

    Args:
        model: the model, on its device.
        objective, batches, accumulate: as for `train`.
        optimizer: the optimizer's config.
        ema: decay of an exponential moving average of the weights, which is then the model; 0 = none.
        precision: the type the model computes in; "auto" = bfloat16 where it is fast.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Callable[..., Any],
        batches: Callable[[int], Any],
        optimizer: AdamW,
        accumulate: int = 1,
        ema: float = 0.0,
        precision: Precision = "auto",
    ) -> None:
        self.model, self.objective, self.batches, self.accumulate = model, objective, batches, accumulate
        device = next(model.parameters()).device
        self.optimizer = Optimizer(FlatWeights(model, dtype_for(precision, device)), optimizer, ema)
        self.carry: Mapping[str, Tensor] = {}
        self._rehearsed: list[int] = []
        self.learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.copies = 4 + (ema > 0)  # the model, the master and two moments

    def rehearse(self, numbers: Sequence[int]) -> None:
        """From now on each step takes one of these batches, in this order: to time them."""
        self._rehearsed, self.accumulate = [*numbers], 1

    def _batch(self, number: int) -> Any:
        return self.batches(self._rehearsed[number] if self._rehearsed else number)

    def steps(self, start: int, rate: Callable[[int], float]) -> Iterator[Step]:
        """See Learner."""
        options: Any = {"start": start, "accumulate": self.accumulate, "carry": self.carry}
        for step in train(self.model, self.objective, self._batch, self.optimizer, rate, **options):
            self.carry = step.carry
            yield step

    @contextmanager
    def measured(self, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
        """See Learner."""
        flat = self.optimizer.ema
        if weights is not None:
            flat = torch.zeros_like(self.optimizer.weights.master)
            for name, view in self.optimizer.weights.views(flat).items():
                view.copy_(weights.get(name, view))
        self.model.eval()
        with self.optimizer.weights.lent(flat):
            yield

    def save(self, folder: Path) -> None:
        """See Learner; the weights to use are the EMA's if there is one."""
        used = self.optimizer.weights.master if self.optimizer.ema is None else self.optimizer.ema
        self.write(folder, self.optimizer.weights.views(used))
        tensors = {k: v.detach() for k, v in self.optimizer.state().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        tensors |= {f"carry.{k}": v for k, v in self.carry.items()}
        save_tensors(folder / "optimizer.safetensors", tensors)

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See Learner."""
        save_weights(folder / WEIGHTS, {n: w for n, w in weights.items() if not n.startswith(f"{CRITIC}.")})

    def load(self, folder: Path) -> None:
        """Loads weights, optimizer, random state and the carry for the next batch."""
        tensors = load_file(folder / "optimizer.safetensors")
        expected = {k: v.shape for k, v in self.optimizer.state().items() if k in ("master", "ema")}
        if any(k not in tensors or tensors[k].shape != shape for k, shape in expected.items()):
            raise RunError("the weights do not fit the config", where=str(folder), cure="use another --run")
        self.optimizer.load(tensors)
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        device = self.optimizer.weights.master.device
        self.carry = {k.removeprefix("carry."): v.to(device) for k, v in tensors.items() if k.startswith("carry.")}
