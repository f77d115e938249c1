"""Embedders: from the raw data of a modality (ids, pixels) to vectors of the model's width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.errors import UsageError
from seqloom.limits import Bounded, Bounds
from seqloom.nn.effective import effective
from seqloom.nn.linear import Linear
from seqloom.shapes import Float, Ids, Int, Mask, Tensor, Vectors


@dataclass(frozen=True)
class Modality:
    """What a model reads of one modality, B rows.

    Args:
        values: ids, or the pixels of images.
        mask: True on real positions; None = all are real.
        segments: which text of its row each token belongs to, from 0; None = a row is one text.
    """

    values: Ids | Float[Tensor, "B N H W"]
    mask: Mask | None = None
    segments: Ids | None = None


@dataclass(frozen=True)
class Inputs:
    """What a model reads, by modality: "text" or "image"."""

    modalities: Mapping[str, Modality]

    @classmethod
    def text(cls, ids: Ids, mask: Mask | None = None, segments: Ids | None = None) -> Inputs:
        """Token ids alone; see Modality."""
        return cls({"text": Modality(ids, mask, segments)})

    @classmethod
    def image(cls, pixels: Float[Tensor, "B N H W"]) -> Inputs:
        """Images alone."""
        return cls({"image": Modality(pixels)})

    def __getitem__(self, name: str) -> Modality:
        """A modality. Raises UsageError where it was not given."""
        if name not in self.modalities:
            problem = f"the model reads {name}, the inputs are {', '.join(self.modalities) or 'empty'}"
            raise UsageError(problem, cure=f"pass Inputs.{name}(...)")
        return self.modalities[name]

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Inputs:
        """The same inputs on a device."""

        def moved(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        return Inputs({k: Modality(*map(moved, vars(m).values())) for k, m in self.modalities.items()})


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
    vectors: str = ""
    vectors_any_size: bool = False
    frozen: bool = False
    scaled: bool = True


_PLAIN = EmbedderConfig()


@dataclass(frozen=True)
class PatchConfig(Bounded):
    """Square patches of an image, one vector each, after a learned first vector (ViT: Dosovitskiy et al. 2021).

    Args:
        size: the height and width of the image, in pixels.
        patch: the height and width of a patch, in pixels; it must divide `size`.
        channels: the channels of the image.
    """

    kind: ClassVar[str] = "patches"
    size: Annotated[int, Bounds(1, 10_000)] = 32
    patch: Annotated[int, Bounds(1, 10_000)] = 4
    channels: Annotated[int, Bounds(1, 10_000)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % self.patch:
            raise ValueError(f"patch {self.patch} must divide size {self.size}")

    @property
    def positions(self) -> int:
        """The number of vectors per image."""
        return (self.size // self.patch) ** 2 + 1


def small_parameter(*shape: int) -> nn.Parameter:
    """A parameter that begins small, as those of BERT and ViT do."""
    return nn.Parameter(nn.init.normal_(torch.empty(*shape), std=0.02))


class PatchEmbedder(nn.Module):
    """Pixels -> a learned first vector and one vector per patch, row by row."""

    modality: ClassVar[str] = "image"

    def __init__(self, config: PatchConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Conv2d(config.channels, width, config.patch, stride=config.patch)
        self.first = small_parameter(width)

    def forward(self, pixels: Float[Tensor, "B N H W"]) -> Vectors:
        """The vectors of the images."""
        weight, bias, step = effective(self.project), self.project.bias, self.project.stride
        patches = F.conv2d(pixels, weight, bias, step).flatten(2).transpose(1, 2)  # B D h w -> B (h w) D
        return torch.cat((self.first.expand(len(pixels), 1, -1), patches), 1)


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
