"""Learners, which take the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seqloom.errors import RunError
from seqloom.files import WEIGHTS
from seqloom.training.checkpoint import Saved, save_tensors, save_weights
from seqloom.training.loop import Step, train
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
from seqloom.training.precision import Precision, dtype_for

CRITIC = "critic"
"""The name of a module that predicts rewards in training; a run in use has none."""


@runtime_checkable
class Learner(Saved, Protocol):
    """What `fit` trains; a checkpoint has `copies` values for each of the `learned` parameters."""

    copies: int
    learned: int

    def steps(self, start: int, rate: Callable[[int], float]) -> Iterator[Step]:
        """The steps from `start` + 1 on, without end; `rate` returns the learning rate of a step."""
        ...

    def measured(self, weights: Mapping[str, Tensor] | None) -> AbstractContextManager[None]:
        """A context in which the model can be evaluated, with these weights or, if None, those that would be saved."""
        ...

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes these weights, as `saved_weights` reads them."""
        ...


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
        for step in train(
            self.model,
            self.objective,
            self._batch,
            self.optimizer,
            rate,
            start=start,
            accumulate=self.accumulate,
            carry=self.carry,
        ):
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
        """See Saved; the weights to use are the EMA's if there is one."""
        used = self.optimizer.weights.master if self.optimizer.ema is None else self.optimizer.ema
        self.write(folder, self.optimizer.weights.views(used))
        tensors = {k: v.detach() for k, v in self.optimizer.state().items()}
        tensors |= {f"random.{k}": v for k, v in _random_state().items()}
        tensors |= {f"carry.{k}": v for k, v in self.carry.items()}
        save_tensors(folder / "optimizer.safetensors", tensors)

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See Learner; a critic is only for training, and is kept with the optimizer."""
        save_weights(folder / WEIGHTS, {n: w for n, w in weights.items() if not n.startswith(f"{CRITIC}.")})

    def load(self, folder: Path) -> None:
        """Loads weights, optimizer, random state and the carry for the next batch."""
        tensors = load_file(folder / "optimizer.safetensors")
        expected = {k: v.shape for k, v in self.optimizer.state().items() if k in ("master", "ema")}
        if any(k not in tensors or tensors[k].shape != shape for k, shape in expected.items()):
            raise RunError("the weights do not fit the config", where=str(folder), cure="use another --run")
        random, carry = (
            {k.removeprefix(kind): tensors.pop(k) for k in list(tensors) if k.startswith(kind)}
            for kind in ("random.", "carry.")
        )
        self.optimizer.load(tensors)
        _set_random_state(random)
        self.carry = {k: v.to(self.optimizer.weights.master.device) for k, v in carry.items()}


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
