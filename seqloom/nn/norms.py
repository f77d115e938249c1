"""Normalization of each position over its features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

NormKind = Literal["layer", "rms"]


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019), in plain operations: torch's kernel is slow on CPUs."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Shape (... D) in and out."""
        mean = x.to(torch.promote_types(x.dtype, torch.float32)).square().mean(-1, keepdim=True)
        return x * (mean + self.eps).rsqrt().to(x.dtype) * self.weight


NORMS = (nn.LayerNorm, RMSNorm)


def make_norm(kind: NormKind, width: int, eps: float = 0.0) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm over the last `width` features; eps 0 = 1e-5 and 1e-6."""
    return nn.LayerNorm(width, eps or 1e-5) if kind == "layer" else RMSNorm(width, eps or 1e-6)
