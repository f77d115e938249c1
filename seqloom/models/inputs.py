"""From inputs to one memory: the embedder of each kind, and the memories of several modalities joined."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

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


def make_embedder(
    config: EmbedderConfig | PatchConfig | FrameConfig, width: int, vocab_size: int, embedding: int
) -> TokenEmbedder | PatchEmbedder | FrameEmbedder:
    """The embedder a config describes, for a model of width D; see TokenEmbedder for the other two."""
    if isinstance(config, PatchConfig):
        return PatchEmbedder(config, width)
    if isinstance(config, FrameConfig):
        return FrameEmbedder(config, width)
    return TokenEmbedder(vocab_size, width, embedding, config=config)


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
