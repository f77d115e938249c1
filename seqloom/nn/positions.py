"""Positions of a Transformer: six kinds behind one interface.

Each kind adds vectors to the embeddings, or rotates queries and keys, or adds a bias to the attention scores, or
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.limits import Bounded, Bounds, NotNegative
from seqloom.nn.effective import effective
from seqloom.shapes import Bool, Float, Int, Tensor

_TABLE = 4096  # positions that are looked up


@dataclass(frozen=True)
class Sinusoidal:
    """Fixed sines and cosines added to the embeddings (Vaswani et al. 2017).

    Args:
        interleaved: sine and cosine of a wavelength side by side as in the paper, or all sines before all cosines, as
            the authors' own code and published checkpoints have them.
    """

    kind: ClassVar[str] = "sinusoidal"
    interleaved: bool = False


@dataclass(frozen=True)
class Learned(Bounded):
    """A learned vector for each of the first `length` positions, added to the embeddings (Gehring et al. 2017).

    Args:
        length: the longest sequence, in positions.
    """

    kind: ClassVar[str] = "learned"
    length: Annotated[int, Bounds(1, 10**7)] = 512


@dataclass(frozen=True)
class Rotary(Bounded):
    """Queries and keys rotated by an angle that grows with the position (Su et al. 2021).

    Args:
        base: the longest wavelength is nearly 2 pi * base positions.
        stretch: the factor by which long wavelengths are lengthened, so that a model reads longer texts than it was
            trained on.
        trained: the length it was trained on, in positions; 0 = all wavelengths are lengthened (Chen et al. 2023).
        low, high: wavelengths above trained / low positions are lengthened, those below trained / high stay, and those
            between are interpolated (Llama 3.1).
    """

    kind: ClassVar[str] = "rotary"
    base: Annotated[float, Bounds(1e-3, 10**12)] = 10_000.0
    stretch: Annotated[float, Bounds(1, 10**6)] = 1.0
    trained: NotNegative = 0
    low: Annotated[float, Bounds(1e-6, 10**6)] = 1.0
    high: Annotated[float, Bounds(1e-6, 10**6)] = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise ValueError(f"low must be below high, not {self.low} and {self.high}")


@dataclass(frozen=True)
class Alibi:
    """A penalty on the score that grows with the distance, with a different slope in each head (Press et al. 2022)."""

    kind: ClassVar[str] = "alibi"


@dataclass(frozen=True)
class Relative(Bounded):
    """A learned bias on the score for each bucket of distances, shared by all layers (T5: Raffel et al. 2020).

    Args:
        buckets: the number of buckets; half of them for each side where both sides are seen.
        distance: the distance from which on all share the last bucket.
    """

    kind: ClassVar[str] = "relative"
    buckets: Annotated[int, Bounds(4, 10**6)] = 32
    distance: Annotated[int, Bounds(1, 10**7)] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        # Half of a side's buckets hold one distance each; the others share the longer distances.
        if self.distance <= self.buckets // 2:
            raise ValueError(f"distance must be above half of the buckets, {self.buckets // 2}")


@dataclass(frozen=True)
class NoPositions:
    """Nothing: what the embeddings do not state of their places, only a causal mask can (Kazemnejad et al. 2023)."""

    kind: ClassVar[str] = "none"


PositionConfig = Sinusoidal | Learned | Rotary | Alibi | Relative | NoPositions


def document_starts(documents: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """Whether each position begins a document; document 0 has begun before the first position."""
    return documents.diff(dim=1, prepend=documents.new_zeros(len(documents), 1)) != 0


def places_in(documents: Int[Tensor, "B T"], start: int = 0) -> Int[Tensor, "B T"]:
    """The position of each token in its document, where the first token has position `start` in document 0."""
    now = torch.arange(start, start + documents.shape[1], device=documents.device)
    return now - torch.where(document_starts(documents), now, 0).cummax(1).values


Rotation = tuple[Tensor, Tensor]
"""The cosines and sines of the angles by which queries and keys are turned."""


@dataclass(frozen=True)
class Place:
    """The contributions of the positions to one pass through a stack; None = nothing."""

    added: Float[Tensor, "*BT D"] | None = None
    rotation: Rotation | None = None
    bias: Float[Tensor, "H T S"] | None = None


class Positions(nn.Module):
    """The positions of one encoder or decoder stack.

    Args:
        config: one of the kinds.
        width: D.
        heads, features: H, C.
        causal: whether only earlier positions are seen (it decides the layout of T5's buckets).
    """

    def __init__(self, config: PositionConfig, width: int, heads: int, features: int, *, causal: bool) -> None:
        super().__init__()
        self.config, self.width, self.heads, self.features, self.causal = config, width, heads, features, causal
        if isinstance(config, Learned | Relative):
            sizes = (config.length, width) if isinstance(config, Learned) else (config.buckets, heads)
            self.table = nn.Embedding(*sizes)
            nn.init.normal_(self.table.weight, std=width**-0.5)

    def forward(self, start: int, x: Float[Tensor, "B T D"], places: Int[Tensor, "B T"] | None = None) -> Place:
        """The contributions of the positions `start`, ..., `start` + T - 1 of `x`, which see all earlier ones.

        `places`: the position of each within its own text, where that differs.
        """
        end, device = start + x.shape[1], x.device
        match self.config:
            case NoPositions():
                return Place()
            case Sinusoidal():
                (added,) = _waves_at(self.config, self.width, (start, end), places, x)
                return Place(added=added)
            case Rotary():
                cos, sin = _waves_at(self.config, self.features, (start, end), places, x)
                # B 1 T C: all heads alike
                return Place(rotation=(cos, sin) if places is None else (cos[:, None], sin[:, None]))
        queries = torch.arange(start, end, device=device)
        match self.config:
            case Learned():
                return Place(added=F.embedding(queries if places is None else places, effective(self.table)))
            case Alibi():
                distance = _distance(queries, end)
                slopes = alibi_slopes(self.heads).to(device)
                return Place(bias=(-slopes[:, None, None] * distance.abs()).to(x.dtype))
            case Relative(buckets=buckets, distance=furthest):
                bucket = relative_bucket(_distance(queries, end), buckets, furthest, causal=self.causal)
                return Place(bias=F.embedding(bucket, effective(self.table)).permute(2, 0, 1))


def _waves_at(
    config: Sinusoidal | Rotary,
    size: int,
    span: tuple[int, int],
    places: Int[Tensor, "B T"] | None,
    like: Float[Tensor, "B T D"],
) -> tuple[Tensor, ...]:
    """What `_waves` gives for a span of positions, or for `places`, which lie before its end."""
    start, end = span
    if torch.is_inference_mode_enabled() and end <= _TABLE:  # a step of decoding looks them up
        table = _waves_until(config, size, 1 << max(6, (end - 1).bit_length()), like.dtype, like.device)
        return tuple(part[start:end] if places is None else part[places] for part in table)
    positions = torch.arange(start, end, device=like.device) if places is None else places
    return _waves(config, size, positions, like.dtype)


@lru_cache(maxsize=32)
def _waves_until(
    config: Sinusoidal | Rotary, size: int, length: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    return _waves(config, size, torch.arange(length, device=device), dtype)


def _waves(
    config: Sinusoidal | Rotary, size: int, positions: Int[Tensor, "*T"], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """The sinusoids of positions; or the cosines and sines that rotate a head of `size` features."""
    if isinstance(config, Sinusoidal):
        return (sinusoids(positions, size, config.interleaved).to(dtype),)
    angles = positions[..., None] * rotary_rates(config, size).to(positions.device)
    angles = torch.cat((angles, angles), -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def sinusoids(positions: Int[Tensor, "*T"], width: int, interleaved: bool = False) -> Float[Tensor, "*T D"]:
    """sin and cos of the position at geometric wavelengths from 2 pi to 10,000 * 2 pi."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width))
    angles = positions[..., None] * rates
    if interleaved:
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :width]
    return torch.cat((angles.sin(), angles.cos()), dim=-1)[..., :width]


def rotary_rates(config: Rotary, features: int) -> Float[Tensor, " C2"]:
    """The angle of each pair of features at position 1."""
    rates = config.base ** (-torch.arange(0, features, 2, dtype=torch.float64) / features)
    if not config.trained:
        return rates / config.stretch
    turns = config.trained * rates / (2 * math.pi)  # of each pair over the trained length
    kept = ((turns - config.low) / (config.high - config.low)).clamp(0, 1)
    return rates * (kept + (1 - kept) / config.stretch)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """`x` (... T C) with each pair of features (i, i + C/2) rotated by its angle."""
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
    """The bucket of key minus query: one for each short distance, then wider and wider ones up to `furthest`."""
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
