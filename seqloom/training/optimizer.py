"""Weights, gradients and optimizers on one flat buffer, with a float32 master where a model computes in bfloat16."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from seqloom.limits import Bounded, Bounds, LearningRate, ShareBelowOne, Weight
from seqloom.nn.linear import matrices
from seqloom.shapes import Float
from seqloom.training.precision import dtype_for

_ALIGN = 64  # elements; every parameter starts on a cache line, so that kernels always take the same path
# Coefficients of x -> a x + b x^3 + c x^5, which brings singular values close to 1, small ones fastest (Jordan et al.).
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


@dataclass(frozen=True)
class AdamW(Bounded):
    """AdamW (Loshchilov and Hutter 2019). Norms and biases are not decayed.

    Args:
        lr: the peak learning rate, which the schedule scales.
        betas: the decay of the first and the second moment.
        eps: added to the root of the second moment.
        weight_decay: the share of each weight that a step removes, times the learning rate.
        clip: the largest norm of the gradient; 0 = no clipping.
    """

    kind: ClassVar[str] = "adamw"
    lr: LearningRate = 1e-3
    betas: tuple[ShareBelowOne, ...] = (0.9, 0.98)
    eps: Annotated[float, Bounds(1e-30, 1)] = 1e-9
    weight_decay: Annotated[float, Bounds(0, 1000)] = 0.0
    clip: Weight = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, not {len(self.betas)}")


@dataclass(frozen=True)
class Muon(AdamW):
    """Muon (Jordan et al. 2024) for the matrices of layers, AdamW for embedding tables, norms and biases.

    Each matrix moves along the orthogonal matrix nearest to its momentum, also where several are stacked in one weight
    (Q, K and V; the gates of a cell). Its steps are scaled to the size of AdamW's (Liu et al. 2025), so that lr and
    weight_decay mean the same for both.

    Args:
        momentum: the decay of the gradients' running mean, with Nesterov momentum.
    """

    kind: ClassVar[str] = "muon"
    momentum: ShareBelowOne = 0.95


OptimizerConfig = AdamW | Muon


class FlatWeights:
    """The trainable parameters of a model as views of one buffer; frozen ones stay where they are.

    Args:
        model: the model; its trainable parameters move into one buffer, their gradients into another.
        dtype: the type the model computes in; the master stays float32.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.model = model
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names = sorted(named, key=lambda n: named[n].ndim < 2)  # matrices first: weight decay applies to one part
        self._spans: dict[str, tuple[int, torch.Size]] = {}
        end = 0
        for name in self.names:
            self._spans[name] = end, named[name].shape
            end += -(-named[name].numel() // _ALIGN) * _ALIGN
        self.matrices = {n: rows for n, rows in matrices(model).items() if n in named}
        self.decayed = next((self._spans[n][0] for n in self.names if named[n].ndim < 2), end)
        device = next(model.parameters()).device
        self.master = torch.zeros(end, device=device)
        for name, view in self.views(self.master).items():
            view.copy_(named[name].detach())
        same = dtype == torch.float32
        self.weights = self.master if same else self.master.to(dtype)
        self.grads = torch.zeros_like(self.weights)
        weights, grads = self.views(self.weights), self.views(self.grads)
        for name, parameter in named.items():
            parameter.data, parameter.grad = weights[name], grads[name]
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters by name, as views of a buffer with the layout of the weights."""
        return {n: flat[start : start + shape.numel()].view(shape) for n, (start, shape) in self._spans.items()}

    def publish(self) -> None:
        """Copies the master's weights to the model."""
        if self.weights is not self.master:
            self.weights.copy_(self.master)

    @contextmanager
    def lent(self, flat: Tensor | None) -> Iterator[None]:
        """A context in which the model uses the weights of another buffer; None = its own."""
        if flat is None:
            yield
            return
        saved = self.weights.clone()
        try:
            self.weights.copy_(flat)
            yield
        finally:
            self.weights.copy_(saved)


class Optimizer:
    """AdamW or Muon over flat weights, with gradients accumulated and clipped in float32."""

    def __init__(self, weights: FlatWeights, config: AdamW, ema: float = 0.0) -> None:
        self.weights, self.config, self.decay = weights, config, ema
        self.gradient = torch.zeros_like(weights.master)
        masters, grads = weights.views(weights.master), weights.views(self.gradient)
        turning = weights.matrices if isinstance(config, Muon) else {}
        turned = [
            both
            for n, rows in turning.items()
            for both in zip(torch.split(masters[n], list(rows)), torch.split(grads[n], list(rows)), strict=True)
        ]
        if turning:
            rest = [n for n in masters if n not in turning]
            decayed, other = (
                [(masters[n], grads[n]) for n in rest if (masters[n].ndim > 1) == d] for d in (True, False)
            )
        else:
            spans = slice(weights.decayed), slice(weights.decayed, None)
            decayed, other = ([(weights.master[span], self.gradient[span])] for span in spans)
        sorts = [[_learned(*both) for both in sort if both[0].numel()] for sort in (decayed, other, turned)]
        self._parts = [part for sort in sorts for part in sort]
        self._steppers: list[AdamWStepper | MuonStepper] = [
            AdamWStepper(sort, decay, config)
            for sort, decay in zip(sorts, (config.weight_decay, 0.0), strict=False)
            if sort
        ]
        if isinstance(config, Muon) and sorts[2]:
            dtype = dtype_for("auto", weights.master.device)
            self._steppers.append(MuonStepper(sorts[2], config.weight_decay, config.momentum, dtype))
        self.ema = weights.master.clone() if ema else None

    def gather(self) -> None:
        """Adds the model's gradients to those of the step, and clears them."""
        self.gradient += self.weights.grads
        self.weights.grads.zero_()

    def norm(self) -> float:
        """The norm of the accumulated gradient."""
        return float(torch.linalg.vector_norm(self.gradient))

    def step(self, lr: float, norm: float) -> None:
        """Takes a step with the accumulated gradient, whose norm is `norm`."""
        if self.config.clip and norm > self.config.clip:
            self.gradient.mul_(self.config.clip / (norm + 1e-6))
        for stepper in self._steppers:
            stepper.step(lr)
        self.gradient.zero_()
        if self.ema is not None:
            self.ema.lerp_(self.weights.master, 1 - self.decay)
        self.weights.publish()

    def clear(self) -> None:
        """Discards the gradients accumulated so far."""
        self.gradient.zero_()
        self.weights.grads.zero_()

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs besides the step, as tensors by name."""
        tensors = {"master": self.weights.master}
        if self.ema is not None:
            tensors["ema"] = self.ema
        for i, part in enumerate(self._parts):
            tensors |= {f"{i}.{k}": v for s in self._steppers if part in s.state for k, v in s.state[part].items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Loads what `state` returned."""
        self.weights.master.copy_(tensors["master"])
        if self.ema is not None:
            self.ema.copy_(tensors["ema"])
        device = self.weights.master.device
        for i, part in enumerate(self._parts):
            named = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(f"{i}.")}
            saved = {k: v.to(device, copy=True) for k, v in named.items()}
            for stepper in self._steppers:
                if part in stepper.state:
                    stepper.state[part] = saved
        self.weights.publish()


def training_bytes(model: nn.Module, config: object, ema: float = 0.0) -> int:
    """The bytes that training keeps of a model, in either precision: weights, gradients, moments and their average.

    Activations are not included, nor the rows that each buffer is rounded up to.
    """
    turned = matrices(model) if isinstance(config, Muon) else {}
    # The model and its gradients in bfloat16 take as much as the gradients in float32, which needs no master.
    values = {name: 5 - (name in turned) + (ema > 0) if p.requires_grad else 1 for name, p in model.named_parameters()}
    return 4 * sum(values[name] * p.numel() for name, p in model.named_parameters())


class AdamWStepper:
    """AdamW over float32 weights by torch's fused kernel.

    torch.optim.AdamW would import torch's compiler, which takes two seconds and is not used here.

    Args:
        weights: parameters with gradients.
        weight_decay: theirs.
        config: the other settings.
    """

    def __init__(self, weights: Iterable[nn.Parameter], weight_decay: float, config: AdamW) -> None:
        self.weight_decay, self.config = weight_decay, config
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {weight: {} for weight in weights}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One step."""
        for weight, state in self.state.items():
            if not state:
                state["step"] = torch.zeros((), device=weight.device)
                state |= {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
        grads: Any = [weight.grad for weight in self.state]
        assert all(grad is not None for grad in grads)
        steps, means, squares = ([s[n] for s in self.state.values()] for n in ("step", "exp_avg", "exp_avg_sq"))
        options: Any = {"lr": lr, "eps": self.config.eps, "weight_decay": self.weight_decay}
        options |= dict(zip(("beta1", "beta2"), self.config.betas, strict=True))
        adamw([*self.state], grads, means, squares, [], steps, fused=True, amsgrad=False, maximize=False, **options)


def nearest_orthogonal(matrix: Float[Tensor, "N M"], dtype: torch.dtype) -> Float[Tensor, "N M"]:
    """A matrix with the same singular vectors and singular values between about 0.7 and 1.2.

    Args:
        matrix: the matrix; zeros stay zeros.
        dtype: the type to compute in; bfloat16 is precise enough.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.t()).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.t()


class MuonStepper:
    """Muon over float32 matrices, like torch.optim.Muon but in a type of choice.

    torch's own always computes in bfloat16, which is hundreds of times slower than float32 on processors without
    instructions for it.

    Args:
        matrices: parameters with gradients.
        weight_decay, momentum: as in the config `Muon`.
        dtype: the type that the orthogonal matrices are computed in.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], weight_decay: float, momentum: float, dtype: torch.dtype
    ) -> None:
        self.weight_decay, self.momentum, self.dtype = weight_decay, momentum, dtype
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {matrix: {} for matrix in matrices}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One step; its update has the size of AdamW's (Liu et al. 2025, equation 4)."""
        for matrix, state in self.state.items():
            assert matrix.grad is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - self.momentum)
            turned = nearest_orthogonal(matrix.grad.lerp(mean, self.momentum), self.dtype)
            matrix.mul_(1 - lr * self.weight_decay)
            matrix.add_(turned, alpha=-lr * 0.2 * max(matrix.shape) ** 0.5)


def _learned(master: Tensor, grad: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(master)
    parameter.grad = grad
    return parameter
