"""From inputs to one memory: the embedder of each kind, and the memories of several modalities joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from seqloom.errors import ConfigError
from seqloom.nn.embedders import (
    EmbedderConfig,
    FrameConfig,
    FrameEmbedder,
    PatchConfig,
    PatchEmbedder,
    TokenEmbedder,
)
from seqloom.nn.linear import Linear
from seqloom.nn.memory import Memory

C = TypeVar("C", bound=Any)


def make_embedder(
    config: EmbedderConfig | PatchConfig | FrameConfig, width: int, vocab_size: int, embedding: int
) -> TokenEmbedder | PatchEmbedder | FrameEmbedder:
    """The embedder a config describes, for a model of width D; see TokenEmbedder for the other two."""
    if isinstance(config, PatchConfig):
        return PatchEmbedder(config, width)
    if isinstance(config, FrameConfig):
        return FrameEmbedder(config, width)
    return TokenEmbedder(vocab_size, width, embedding, config=config)


def sized(config: C, key: str, sizes: Mapping[str, int]) -> C:
    """The config of a model with the sizes of the data where its embedder, under `key`, leaves them open (0).

    Raises ConfigError where it states another size.
    """
    embedder: Any = getattr(config, key)
    left = {name: size for name, size in sizes.items() if hasattr(embedder, name)}
    for name, size in left.items():
        if (stated := getattr(embedder, name)) not in (0, size):
            problem, where = f"is {stated:,}, that of the data {size:,}", f"model.{key}.{name}"
            raise ConfigError(
                problem,
                where=where,
                cure=f"leave it out; or data.{name} = {stated}, where data have this key, brings them to it",
            )
    try:
        changed: Any = {key: replace(embedder, **left)}
        return replace(config, **changed)
    except ValueError as error:
        raise ConfigError(str(error), where=f"model.{key}", cure="choose sizes that fit the data") from None


class Join(nn.Module):
    """The memories of several modalities as one, position after position; its summary is the mean of theirs.

    Args:
        widths: features of each memory's states and of its summary; what is not `width` wide is projected.
        width: D, of the states and the summary of the joint memory.
    """

    def __init__(self, widths: Sequence[tuple[int, int]], width: int) -> None:
        super().__init__()

        def projections(sizes: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(nn.Identity() if size == width else Linear(size, width) for size in sizes)

        self.states, self.summaries = map(projections, zip(*widths, strict=True))

    def forward(self, memories: Sequence[Memory]) -> Memory:
        """The joint memory."""
        parts = zip(memories, self.states, self.summaries, strict=True)
        first, *others = [Memory(states(m.states), m.mask, summary(m.summary)) for m, states, summary in parts]
        return first.concat(*others)
