"""Embedder, encoder, and heads: what reads a text, or an image, whole (BERT, ViT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from seqloom.config import Tree
from seqloom.models.encoders import EncoderConfig, make_encoder
from seqloom.models.presets import READING, under
from seqloom.models.weights import initialize
from seqloom.nn.embedders import EmbedderConfig, PatchConfig, PatchEmbedder, TokenEmbedder
from seqloom.nn.heads import LabelHead, MaskedTokenHead
from seqloom.nn.memory import Memory
from seqloom.nn.pooling import Pooling, PoolingKind
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Float, Ids, Mask, Tensor

POOLED = ("label", "next")


@dataclass(frozen=True)
class EncoderOnlyConfig:
    """A model that reads.

    Args:
        preset: bert-tiny to bert-large, minilm, vit-tiny, ...: what is not given otherwise.
        encoder: all that lies between the embedded words and the states.
        embedder: what is read: words, or the patches of an image.
        embedding: E, the width of the word vectors; 0 = that of the encoder.
        segments: kinds of text that are told apart by a learned vector each (BERT's first and second text); 0 = none.
        matches: whether, of a pair, words that are in the other text, too, are told apart by a learned vector ("exact
            match": Chen et al. 2017); small models do not learn by themselves to find them.
        pooling, pooler: how states become one vector, and whether a layer follows (see nn/pooling.py).
        head_dropout: before the last layer of a head.
    """

    kind: ClassVar[str] = "encoder-only"
    preset: str = ""
    encoder: EncoderConfig = field(default_factory=TransformerConfig)
    embedder: EmbedderConfig | PatchConfig = field(default_factory=EmbedderConfig)
    embedding: int = 0
    segments: int = 2
    matches: bool = False
    pooling: PoolingKind = "first"
    pooler: Literal["none", "tanh", "relu"] = "none"
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.segments < 0 or not 0 <= self.head_dropout < 1:
            raise ValueError("segments must not be negative, head_dropout must be in [0, 1)")

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree laid over its preset."""
        return under(READING, tree)


class EncoderOnly(nn.Module):
    """The model.

    Args:
        config: of the model.
        words: V; 0 where no words are read.
        heads: the number of labels of each head: "label" and "next" are for pooled vectors, any other for states;
            "masked" is for masked tokens and has as many as there are tokens, whatever the number.
    """

    def __init__(self, config: EncoderOnlyConfig, vocab_size: int, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config
        width = config.encoder.memory_width
        inputs = config.encoder.input_width(config.embedding)
        E = config.embedding or inputs
        self.embedder: TokenEmbedder | PatchEmbedder
        if isinstance(config.embedder, PatchConfig):
            self.embedder = PatchEmbedder(config.embedder, inputs)
        else:
            self.embedder = TokenEmbedder(vocab_size, inputs, E, scaled=config.embedder.scaled)
        self.segments: nn.Parameter | None = None
        if config.segments:
            self.segments = nn.Parameter(nn.init.normal_(torch.empty(config.segments, inputs), std=0.02))
        self.matches: nn.Parameter | None = None
        if config.matches:
            self.matches = nn.Parameter(nn.init.normal_(torch.empty(inputs), std=0.02))
        self.encoder = make_encoder(config.encoder, inputs)
        self.pooling = Pooling(config.pooling, width, self.encoder.summary_width, config.pooler)
        self.heads = nn.ModuleDict({name: self._head(name, labels, vocab_size, E) for name, labels in heads.items()})
        initialize(self)
        if isinstance(self.embedder, TokenEmbedder) and getattr(config.embedder, "frozen", False):
            self.embedder.weight.requires_grad_(False)

    def _head(self, name: str, labels: int, vocab_size: int, E: int) -> nn.Module:
        config, width = self.config, self.config.encoder.memory_width
        if name == "masked":
            stack = config.encoder if isinstance(config.encoder, TransformerConfig) else TransformerConfig()
            table = self.embedder.weight if isinstance(self.embedder, TokenEmbedder) else None
            return MaskedTokenHead(vocab_size, width, E, table, norm=stack.norm, eps=stack.eps)
        return LabelHead(self.pooling.width if name in POOLED else width, labels, config.head_dropout)

    def forward(self, read: Ids | Float[Tensor, "B N H W"], mask: Mask | None, segments: Ids | None = None) -> Memory:
        """The states of what is read: ids, or pixels.

        Args:
            read: the ids, or pixels.
            mask: True on real positions; None = all are.
            segments: which kind of text each word belongs to; None = all to the first, and there is no other.
        """
        x = self.embedder(read)
        if self.segments is not None:
            x = x + (self.segments[0] if segments is None else self.segments[segments])
        if self.matches is not None and segments is not None:
            x = x + in_the_other(read, mask, segments)[:, :, None] * self.matches
        return self.encoder(x, mask)  # type: ignore[no-any-return]

    def pooled(self, memory: Memory) -> Float[Tensor, "B D"]:
        """One vector for each sequence."""
        return self.pooling(memory)  # type: ignore[no-any-return]

    def score(self, head: str, memory: Memory) -> Tensor:
        """What a head says: (B L) of the pooled vectors for "label" and "next", (B T L) for each state else."""
        scores: Tensor = self.heads[head](self.pooled(memory) if head in POOLED else memory.states)
        return scores


def in_the_other(ids: Ids, mask: Mask | None, segments: Ids) -> Mask:
    """Which words of each row are in a text of it that is not their own, too (B T)."""
    same = (ids[:, :, None] == ids[:, None, :]) & (segments[:, :, None] != segments[:, None, :])
    found: Tensor = (same if mask is None else same & mask[:, None, :]).any(-1)
    return found
