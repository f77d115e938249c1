"""Encoders: (x, mask) -> Memory."""

from __future__ import annotations

from torch import nn

from seqloom.nn.memory import Memory, mean_summary
from seqloom.nn.transformer import TransformerConfig, TransformerStack
from seqloom.shapes import Mask, Vectors

EncoderConfig = TransformerConfig


class TransformerEncoder(nn.Module):
    """Blocks of self-attention over the whole source; the summary is the mean state."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.stack = TransformerStack(config, causal=False)

    @property
    def limit(self) -> int | None:
        """The longest source there are positions for; None = no end."""
        return self.stack.positions.limit

    def forward(self, x: Vectors, mask: Mask | None) -> Memory:
        """The memory of the sources; `mask` is True on real positions, None = all are."""
        states = self.stack(x, mask)
        return Memory(states, mask, mean_summary(states, mask))


def make_encoder(config: EncoderConfig) -> TransformerEncoder:
    """The encoder a config describes."""
    return TransformerEncoder(config)
