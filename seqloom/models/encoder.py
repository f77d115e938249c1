"""Embedder, encoder and heads: models that read a whole text, image or signal (BERT, ViT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, cast

from torch import nn

from seqloom.config import Tree
from seqloom.errors import ConfigError
from seqloom.limits import Bounds, ShareBelowOne, WidthOrZero
from seqloom.models.encoders import EncoderConfig, make_encoder
from seqloom.models.inputs import make_embedder
from seqloom.models.presets import READING, Preset
from seqloom.nn.embedders import (
    EmbedderConfig,
    FrameConfig,
    Inputs,
    Modality,
    PatchConfig,
    TokenEmbedder,
    small_parameter,
)
from seqloom.nn.front import Front, FrontConfig
from seqloom.nn.heads import LabelHead, MaskedTokenHead, Reads
from seqloom.nn.linear import initialize
from seqloom.nn.memory import Memory
from seqloom.nn.norms import make_norm
from seqloom.nn.pooling import Pooling, PoolingKind, window_means
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Float, Int, Mask, Tensor, Vectors

_READS: Mapping[str, Reads] = {"label": "pooled", "next": "pooled", "tags": "states", "span": "states"}


@dataclass(frozen=True)
class EncoderOnlyConfig(Preset):
    """A model that reads whole texts, images or signals.

    Args:
        encoder: the layers between the embeddings and the states.
        embedder: what is read: tokens, the patches of an image, or the frames of a signal.
        front: convolutions between the embeddings of tokens or frames and the encoder.
        embedding: E, the width of the embeddings before the front, and of the table of tokens; 0 = that of the encoder.
        segments: the number of learned segment vectors (BERT has two: first and second text of a pair); 0 = none.
        matches: whether a learned vector marks the tokens of a pair that are also in the other text ("exact match":
            Chen et al. 2017), which small models do not learn to find by themselves.
        pooling, pooler: how the states become one vector, and whether a layer follows (see nn/pooling.py).
        head_dropout: before the last layer of a head.
    """

    kind: ClassVar[str] = "encoder-only"
    presets: ClassVar[Mapping[str, Tree]] = READING
    encoder: EncoderConfig = field(default_factory=TransformerConfig)
    embedder: EmbedderConfig | PatchConfig | FrameConfig = field(default_factory=EmbedderConfig)
    front: FrontConfig = field(default_factory=FrontConfig)
    embedding: WidthOrZero = 0
    segments: Annotated[int, Bounds(0, 1000)] = 2
    matches: bool = False
    pooling: PoolingKind = "first"
    pooler: Literal["none", "tanh", "relu"] = "none"
    head_dropout: ShareBelowOne = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        patches, limit = self.embedder, self.encoder.limit
        if not isinstance(patches, PatchConfig):
            return
        if self.front.strides:
            raise ValueError("model.front is for tokens and frames; the convolutions of images are embedder.stem")
        if limit is not None and limit < patches.positions:
            raise ValueError(f"encoder.positions.length is {limit:,}, an image has {patches.positions:,} positions")
        if self.pooling == "first" and not patches.class_token:
            raise ValueError("pooling = 'first' reads the class token: embedder.class_token must be true")

    def sized(self, sizes: Mapping[str, int]) -> EncoderOnlyConfig:
        """The config with the sizes of the data where its embedder leaves them open (0).

        Raises ConfigError where it states another size.
        """
        left = {name: size for name, size in sizes.items() if hasattr(self.embedder, name)}
        for name, size in left.items():
            if (stated := getattr(self.embedder, name)) not in (0, size):
                cure = f"leave it out; or data.{name} = {stated}, where data have this key, brings them to it"
                raise ConfigError(
                    f"is {stated:,}, that of the data {size:,}", where=f"model.embedder.{name}", cure=cure
                )
        try:
            return replace(self, embedder=replace(cast(Any, self.embedder), **left))
        except ValueError as error:
            raise ConfigError(str(error), where="model.embedder", cure="choose sizes that fit the data") from None


class EncoderOnly(nn.Module):
    """The model.

    Args:
        config: of the model.
        vocab_size: V; 0 for images.
        heads: the number of labels of each head: "label" and "next" (of the pooled vector), "tags" and "span" (of each
            state); "masked" scores the whole vocabulary at each state, whatever its number.
    """

    def __init__(self, config: EncoderOnlyConfig, vocab_size: int, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config
        width = config.encoder.memory_width
        inputs = config.encoder.input_width(config.embedding)
        E = config.embedding or inputs
        read = E if config.front.strides else inputs  # the width of what is embedded
        self.embedder = make_embedder(config.embedder, read, vocab_size, E)
        self.segments = small_parameter(config.segments, read) if config.segments else None
        self.matches = small_parameter(read) if config.matches else None
        self.front = Front(config.front, E, inputs) if config.front.strides else None
        self.encoder = make_encoder(config.encoder, inputs)
        self.pooling = Pooling(config.pooling, width, self.encoder.summary_width, config.pooler)
        self.heads = nn.ModuleDict({name: self._head(name, labels, vocab_size, E) for name, labels in heads.items()})
        initialize(self)

    def _head(self, name: str, labels: int, vocab_size: int, E: int) -> nn.Module:
        config, width, reads = self.config, self.config.encoder.memory_width, _READS.get(name, "states")
        if reads == "states" and config.front.stride > 1:
            cure = "for what has a label or a place at each position, each stride must be 1"
            raise ConfigError("shortens what is read", where="model.front.strides", cure=cure)
        if name == "masked":
            stack = config.encoder if isinstance(config.encoder, TransformerConfig) else TransformerConfig()
            table = self.embedder.weight if isinstance(self.embedder, TokenEmbedder) else None
            return MaskedTokenHead(vocab_size, width, E, table, make_norm(stack.norm, E, stack.eps))
        return LabelHead(self.pooling.width if reads == "pooled" else width, labels, config.head_dropout, reads)

    def embed(self, inputs: Inputs) -> tuple[Vectors, Mask | None]:
        """What the encoder reads, and the mask of what is real; without segments, every token is of the first."""
        read = inputs[self.embedder.modality]
        x: Tensor = self.embedder(read.values)
        if self.segments is not None:
            segments = read.segments if len(self.segments) > 1 else None
            x = x + (self.segments[0] if segments is None else self.segments[segments])
        if self.matches is not None and read.segments is not None:
            x = x + _in_other_segment(read)[:, :, None] * self.matches
        return (x, read.mask) if self.front is None else self.front(x, read.mask)

    def forward(self, inputs: Inputs) -> Memory:
        """The states of a text, an image or a signal."""
        return self.encoder(*self.embed(inputs))  # type: ignore[no-any-return]

    def pooled(self, memory: Memory, owner: Int[Tensor, " R"] | None = None) -> Float[Tensor, "B D"]:
        """One vector for each sequence, or the mean over the windows of each text where `owner` assigns them."""
        return window_means(self.pooling(memory), owner)

    def score(self, head: str, memory: Memory, owner: Int[Tensor, " R"] | None = None) -> Tensor:
        """The scores of a head: (B L) where it reads the pooled vector, (R T L) where it reads the states."""
        layer: Any = self.heads[head]
        scores: Tensor = layer(self.pooled(memory, owner) if layer.reads == "pooled" else memory.states)
        return scores


def _in_other_segment(read: Modality) -> Mask:
    """Whether the same token is also in another text of its row (B T)."""
    ids, segments = read.values, read.segments
    assert segments is not None
    same = (ids[:, :, None] == ids[:, None, :]) & (segments[:, :, None] != segments[:, None, :])
    return (same if read.mask is None else same & read.mask[:, None, :]).any(-1)
