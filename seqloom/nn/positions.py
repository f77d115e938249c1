"""How a Transformer knows where each token stands: five ways, one interface.

A way either adds vectors to the embeddings, or turns queries and keys, or adds a bias to the attention scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from seqloom.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class Sinusoidal:
    """Fixed sines and cosines added to the embeddings (Vaswani et al. 2017)."""

    kind: ClassVar[str] = "sinusoidal"


@dataclass(frozen=True)
class Learned:
    """A learned vector for each of the first `length` positions, added to the embeddings (Gehring et al. 2017)."""

    kind: ClassVar[str] = "learned"
    length: int = 512

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, not {self.length}")


@dataclass(frozen=True)
class Rotary:
    """Queries and keys turned by an angle that grows with the position (Su et al. 2021)."""

    kind: ClassVar[str] = "rotary"
    base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.base <= 0:
            raise ValueError(f"base must be above 0, not {self.base}")


@dataclass(frozen=True)
class Alibi:
    """A penalty on the score that grows with the distance, steeper in some heads than others (Press et al. 2022)."""

    kind: ClassVar[str] = "alibi"


@dataclass(frozen=True)
class Relative:
    """A learned bias on the score for each bucket of distances, shared by all layers (T5: Raffel et al. 2020)."""

    kind: ClassVar[str] = "relative"
    buckets: int = 32
    distance: int = 128

    def __post_init__(self) -> None:
        # Half of a side's buckets hold one distance each, the others share what lies beyond them.
        if self.buckets < 4 or self.distance <= self.buckets // 2:
            raise ValueError("relative positions need at least 4 buckets, and a distance above half of them")


PositionConfig = Sinusoidal | Learned | Rotary | Alibi | Relative


@dataclass(frozen=True)
class Place:
    """What the positions contribute to one pass over a stack; None = nothing."""

    added: Float[Tensor, "T D"] | None = None
    rotation: tuple[Tensor, Tensor] | None = None
    bias: Float[Tensor, "H T S"] | None = None


class Positions(nn.Module):
    """The positions of one encoder or decoder stack.

    Args:
        config: which of the five.
        width: D.
        heads: H.
        causal: whether only the past is seen (it decides how T5's buckets are laid out).
    """

    def __init__(self, config: PositionConfig, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.config, self.width, self.heads, self.causal = config, width, heads, causal
        if isinstance(config, Learned):
            self.table = nn.Embedding(config.length, width)
            nn.init.normal_(self.table.weight, std=width**-0.5)
        elif isinstance(config, Relative):
            self.table = nn.Embedding(config.buckets, heads)
            nn.init.normal_(self.table.weight, std=width**-0.5)

    def forward(self, start: int, x: Float[Tensor, "B T D"]) -> Place:
        """What the positions `start`, ..., `start` + T - 1 of `x` contribute, seen with all before them."""
        end, device = start + x.shape[1], x.device
        queries = torch.arange(start, end, device=device)
        match self.config:
            case Sinusoidal():
                return Place(added=sinusoids(queries, self.width).to(x.dtype))
            case Learned():
                return Place(added=self.table(queries))
            case Rotary(base=base):
                angles = _angles(queries, self.width // self.heads, base)
                return Place(rotation=(angles.cos().to(x.dtype), angles.sin().to(x.dtype)))
            case Alibi():
                distance = _distance(queries, end)
                slopes = alibi_slopes(self.heads).to(device)
                return Place(bias=(-slopes[:, None, None] * distance.abs()).to(x.dtype))
            case Relative(buckets=buckets, distance=furthest):
                bucket = relative_bucket(_distance(queries, end), buckets, furthest, causal=self.causal)
                return Place(bias=self.table(bucket).permute(2, 0, 1))


def sinusoids(positions: Int[Tensor, " T"], width: int) -> Float[Tensor, "T D"]:
    """sin and cos of the position at geometric wavelengths from 2 pi to 10,000 * 2 pi, interleaved."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width))
    angles = positions[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]


def _angles(positions: Tensor, features: int, base: float) -> Tensor:
    rates = base ** (-torch.arange(0, features, 2, device=positions.device) / features)
    return (positions[:, None] * rates).repeat(1, 2)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """`x` (... T C) with each pair of features (i, i + C/2) turned by its angle."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def alibi_slopes(heads: int) -> Float[Tensor, " H"]:
    """2^(-8/H), 2^(-16/H), ...: a geometric series; between powers of two, every other slope of the next one."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(slopes)


def _distance(queries: Tensor, keys: int) -> Tensor:
    return torch.arange(keys, device=queries.device) - queries[:, None]


def relative_bucket(distance: Tensor, buckets: int, furthest: int, *, causal: bool) -> Tensor:
    """The bucket of key minus query: one for each short distance, then ever wider ones up to `furthest`."""
    offset = torch.zeros_like(distance)
    if causal:
        away = (-distance).clamp(min=0)
    else:
        buckets //= 2
        offset = (distance > 0).long() * buckets
        away = distance.abs()
    exact = buckets // 2
    ratio = torch.log(away.clamp(min=1) / exact) / math.log(furthest / exact)
    wide = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(away < exact, away, wide)
