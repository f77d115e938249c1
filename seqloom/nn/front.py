"""Convolutions over time between an embedder and an encoder, which see short windows and may shorten a sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.limits import Bounded, Bounds
from seqloom.nn.effective import effective
from seqloom.shapes import Bool, Float, Mask, Tensor, Vectors


@dataclass(frozen=True)
class FrontConfig(Bounded):
    """Convolutions of the embedded positions, before the encoder.

    Args:
        strides: for each convolution, the positions from one window to the next. A single convolution is linear: with
            the kernel as its stride, patches of time. Several are normalized and followed by ReLU, and have a residual
            where the stride is 1 (fully convolutional: Wang et al. 2017). () = none.
        kernel: the positions of a window, at least as many as of each stride.
    """

    strides: tuple[Annotated[int, Bounds(1, 1000)], ...] = ()
    kernel: Annotated[int, Bounds(1, 10_000)] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel < max(self.strides, default=1):
            raise ValueError(f"kernel must be at least the stride {max(self.strides)}, or positions are never read")

    @property
    def stride(self) -> int:
        """The positions that become one."""
        return math.prod(self.strides)


class _SequenceNorm(nn.Module):
    """Normalizes each sequence over all real positions and features together ("gLN": Luo and Mesgarani 2019).

    Over the features of each position alone, a flat stretch would be as loud as a steep one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Vectors, mask: Mask | None) -> Vectors:
        real = x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
        weight = real[:, :, None] / (real.sum(1)[:, None, None] * x.shape[2])
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = (wide * weight).sum((1, 2), keepdim=True)
        variance = ((wide - mean).square() * weight).sum((1, 2), keepdim=True)
        return ((wide - mean) * (variance + 1e-5).rsqrt()).to(x.dtype) * self.weight + self.bias


class Front(nn.Module):
    """The convolutions. What padding holds changes no position, and each has a mask of its own length.

    Args:
        config: their sizes.
        inputs: features of the positions.
        width: D, of each convolution.
    """

    def __init__(self, config: FrontConfig, inputs: int, width: int) -> None:
        super().__init__()
        self.config = config
        sizes = [inputs, *(width for _ in config.strides)]
        self.layers = nn.ModuleList(nn.Conv1d(size, width, config.kernel) for size in sizes[:-1])
        several = len(config.strides) > 1
        self.norms = nn.ModuleList(_SequenceNorm(width) for _ in config.strides if several)

    def forward(
        self, x: Float[Tensor, "B T E"], mask: Mask | None
    ) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"] | None]:
        """The outputs and their mask: a window that begins beside a real position is real."""
        for i, (layer, stride) in enumerate(zip(self.layers, self.config.strides, strict=True)):
            assert isinstance(layer, nn.Conv1d)
            h = self._windows(x if mask is None else x * mask[:, :, None].to(x.dtype), layer, stride)
            mask = None if mask is None else mask[:, ::stride]
            if self.norms:
                h = F.relu(self.norms[i](h, mask))
            x = x + h if i and stride == 1 else h
        return x, mask

    def _windows(self, x: Tensor, layer: nn.Conv1d, stride: int) -> Tensor:
        T, kernel = x.shape[1], self.config.kernel
        before = (kernel - stride) // 2
        after = (-(-T // stride) - 1) * stride + kernel - before - T
        padded = F.pad(x.transpose(1, 2), (before, after))
        return F.conv1d(padded, effective(layer), layer.bias, stride).transpose(1, 2)
