"""Muon (Jordan et al. 2024): each matrix moves along the orthogonal matrix nearest to its momentum."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seqloom.shapes import Float

# Coefficients of x -> a x + b x^3 + c x^5, which brings singular values close to 1, small ones fastest (Jordan et al.).
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


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
