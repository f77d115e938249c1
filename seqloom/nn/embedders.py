"""Embedders: from the raw data of a modality (ids, pixels, frames) to vectors of the model's width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.errors import UsageError
from seqloom.limits import Bounded, Bounds
from seqloom.nn.effective import effective
from seqloom.nn.linear import Linear
from seqloom.nn.positions import sinusoids
from seqloom.shapes import Float, Ids, Int, Mask, Tensor, Vectors


@dataclass(frozen=True)
class Modality:
    """What a model reads of one modality, B rows.

    Args:
        values: ids, the pixels of images, or the frames of signals, in which a missing value is NaN.
        mask: True on real positions; None = all are real.
        segments: which text of its row each token belongs to, from 0; None = a row is one text.
    """

    values: Ids | Float[Tensor, "B N H W"] | Float[Tensor, "B T C"]
    mask: Mask | None = None
    segments: Ids | None = None

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Modality:
        """The same on a device."""
        present = {name: each for name, each in vars(self).items() if each is not None}
        return Modality(**{name: each.to(device, non_blocking=non_blocking) for name, each in present.items()})


@dataclass(frozen=True)
class Inputs:
    """What a model reads, by modality: "text", "image" or "signal"."""

    modalities: Mapping[str, Modality]

    @classmethod
    def text(cls, ids: Ids, mask: Mask | None = None, segments: Ids | None = None) -> Inputs:
        """Token ids alone; see Modality."""
        return cls({"text": Modality(ids, mask, segments)})

    @classmethod
    def image(cls, pixels: Float[Tensor, "B N H W"]) -> Inputs:
        """Images alone."""
        return cls({"image": Modality(pixels)})

    @classmethod
    def signal(cls, frames: Float[Tensor, "B T C"], mask: Mask | None = None) -> Inputs:
        """Signals alone."""
        return cls({"signal": Modality(frames, mask)})

    def __getitem__(self, name: str) -> Modality:
        """A modality. Raises UsageError where it was not given."""
        if name not in self.modalities:
            problem = f"the model reads {name}, the inputs are {', '.join(self.modalities) or 'empty'}"
            raise UsageError(problem, cure=f"pass Inputs.{name}(...)")
        return self.modalities[name]

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Inputs:
        """The same inputs on a device."""
        return Inputs({name: each.to(device, non_blocking=non_blocking) for name, each in self.modalities.items()})


@dataclass(frozen=True)
class EmbedderConfig:
    """A table of token embeddings.

    Args:
        vectors: a file or a run of word vectors (docs/word-vectors.md) that initialize the tokens they cover; "" = all
            are initialized at random.
        vectors_any_size: whether such a file may have another number of words than its header states.
        frozen: whether the table stays fixed during training.
        scaled: whether each vector is multiplied by sqrt(E), as in Vaswani et al. 2017.
    """

    kind: ClassVar[str] = "tokens"
    modality: ClassVar[str] = "text"
    vectors: str = ""
    vectors_any_size: bool = False
    frozen: bool = False
    scaled: bool = True


_PLAIN = EmbedderConfig()


@dataclass(frozen=True)
class PatchConfig(Bounded):
    """Square patches of an image, one vector each (ViT: Dosovitskiy et al. 2021).

    Args:
        size: the height and width of the image, in pixels; 0 = those of the training data.
        patch: the height and width of a patch, in pixels; it must divide `size`.
        channels: the channels of the image; 0 = those of the training data.
        class_token: whether a learned vector stands before the patches, as pooling = "first" needs.
        places: what represents where a patch is, besides the positions of the encoder: a learned vector for each, or
            sines and cosines of its row and its column (Chen et al. 2021); "encoder" = these positions alone.
        stem: convolutions of 3 x 3 for each halving of the image down to its patches, in place of a single one of
            patch x patch (Xiao et al. 2021); patch must be a power of 2. With some per halving, a whole CNN. 0 = none.
    """

    kind: ClassVar[str] = "patches"
    modality: ClassVar[str] = "image"
    size: Annotated[int, Bounds(0, 10_000)] = 0
    patch: Annotated[int, Bounds(1, 10_000)] = 4
    channels: Annotated[int, Bounds(0, 10_000)] = 0
    class_token: bool = True
    places: Literal["encoder", "learned", "sines"] = "encoder"
    stem: Annotated[int, Bounds(0, 100)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % self.patch:
            raise ValueError(f"patch {self.patch} must divide size {self.size}")
        if self.stem and (self.patch < 2 or self.patch & (self.patch - 1)):
            raise ValueError(f"with a stem, patch must be a power of 2, not {self.patch}")

    @property
    def positions(self) -> int:
        """The number of vectors per image."""
        return (self.size // self.patch) ** 2 + self.class_token

    def check(self, limit: int | None) -> None:
        """Raises ValueError where an encoder has positions for fewer."""
        if limit is not None and limit < self.positions:
            raise ValueError(f"encoder.positions.length is {limit:,}, an image has {self.positions:,} positions")


def small_parameter(*shape: int) -> nn.Parameter:
    """A parameter that begins small, as those of BERT and ViT do."""
    return nn.Parameter(nn.init.normal_(torch.empty(*shape), std=0.02))


class _Convolution(nn.Module):
    """A convolution of 3 x 3, normalized over groups of channels; with stride 1 there is a residual."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolve = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(math.gcd(outputs, 8), outputs)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.norm(F.conv2d(x, effective(self.convolve), None, self.stride, 1))
        return F.relu(h if self.stride > 1 else x + h)


def _stem(config: PatchConfig, width: int) -> nn.Sequential:
    halvings = config.patch.bit_length() - 1
    widths = [max(1, width >> (halvings - 1 - i)) for i in range(halvings)]
    layers: list[nn.Module] = []
    for before, after in zip((config.channels, *widths), widths, strict=False):
        layers += [_Convolution(after if i else before, after, 1 if i else 2) for i in range(config.stem)]
    return nn.Sequential(*layers)


class PatchEmbedder(nn.Module):
    """Pixels -> one vector per patch, row by row, after a learned first one."""

    modality: ClassVar[str] = "image"

    def __init__(self, config: PatchConfig, width: int) -> None:
        super().__init__()
        self.config, stem = config, bool(config.stem)
        self.stem = _stem(config, width) if stem else nn.Identity()
        step = 1 if stem else config.patch
        self.project = nn.Conv2d(width if stem else config.channels, width, step, stride=step)
        self.first = small_parameter(width) if config.class_token else None
        self.places = small_parameter(config.positions, width) if config.places == "learned" else None

    def forward(self, pixels: Float[Tensor, "B N H W"]) -> Vectors:
        """The vectors of the images."""
        weight, bias, step = effective(self.project), self.project.bias, self.project.stride
        grid = F.conv2d(self.stem(pixels.to(weight.dtype)), weight, bias, step)
        x = grid.flatten(2).transpose(1, 2)  # B D h w -> B (h w) D
        if self.config.places == "sines":
            x = x + grid_sinusoids(grid.shape[2], x.shape[2], x.device).to(x.dtype)
        if self.first is not None:
            x = torch.cat((self.first.expand(len(pixels), 1, -1), x), 1)
        return x if self.places is None else x + self.places


def grid_sinusoids(side: int, width: int, device: torch.device | None = None) -> Float[Tensor, "T D"]:
    """Sines and cosines of the row in the first half of the features, of the column in the second; row by row."""
    places = torch.arange(side, device=device)
    rows, columns = sinusoids(places, width - width // 2), sinusoids(places, width // 2)
    return torch.cat((rows.repeat_interleave(side, 0), columns.repeat(side, 1)), 1)


@dataclass(frozen=True)
class FrameConfig(Bounded):
    """A linear layer over the values of each time step of a signal; convolutions follow with model.front.

    A missing value is 0 after standardization, and a channel of its own marks it.

    Args:
        channels: the values of a time step; 0 = those of the training data.
    """

    kind: ClassVar[str] = "frames"
    modality: ClassVar[str] = "signal"
    channels: Annotated[int, Bounds(0, 100_000)] = 0


class FrameEmbedder(nn.Module):
    """Frames -> one vector for each; of C channels, another C mark the values that are missing."""

    modality: ClassVar[str] = "signal"

    def __init__(self, config: FrameConfig, width: int) -> None:
        super().__init__()
        self.channels = config.channels
        self.project = Linear(2 * config.channels, width)

    def forward(self, frames: Float[Tensor, "B T C"]) -> Vectors:
        """The vectors of the frames."""
        missing, dtype = frames.isnan(), self.project.weight.dtype
        both = torch.cat((frames.masked_fill(missing, 0).to(dtype), missing.to(dtype)), -1)
        projected: Tensor = self.project(both)
        return projected


class TokenEmbedder(nn.Module):
    """A learned vector for each token.

    Args:
        vocab_size: V.
        width: D, the width of the model.
        embedding: E, the width of the table; a projection follows where it differs from D.
        table: the weights (V E) of another embedder to share.
        config: the other settings.
    """

    modality: ClassVar[str] = "text"

    def __init__(
        self,
        vocab_size: int,
        width: int,
        embedding: int,
        table: nn.Parameter | None = None,
        config: EmbedderConfig = _PLAIN,
    ) -> None:
        super().__init__()
        if table is None:
            table = nn.Parameter(nn.init.normal_(nn.Parameter(torch.empty(vocab_size, embedding)), std=embedding**-0.5))
        self.weight = table
        self.scale = embedding**0.5 if config.scaled else 1.0
        self.project: nn.Module = nn.Identity() if embedding == width else Linear(embedding, width, bias=False)
        if config.frozen:
            self.weight.requires_grad_(False)

    def forward(self, ids: Ids) -> Vectors:
        """The vectors of the ids."""
        x = F.embedding(ids, effective(self))
        projected: Tensor = self.project(x if self.scale == 1 else x * self.scale)
        return projected

    @torch.no_grad()
    def take(self, vectors: Float[Tensor, "N E"], at: Int[Tensor, " N"]) -> None:
        """Gives the tokens `at` these vectors, scaled together to the size of freshly initialized ones."""
        size = vectors.square().mean().sqrt() * self.weight.shape[1] ** 0.5
        self.weight[at] = (vectors / size.clamp_min(1e-12)).to(self.weight)
