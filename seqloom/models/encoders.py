"""Encoders: (x, mask) -> Memory. Each has the width of its summary; its config, those of its inputs and states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from seqloom.limits import ShareBelowOne, Width
from seqloom.models.convolutional import ConvolutionalConfig, ConvolutionalEncoder
from seqloom.models.recurrent import RecurrentEncoder, RecurrentEncoderConfig
from seqloom.nn.dropout import Dropout
from seqloom.nn.memory import Memory, mean_summary
from seqloom.nn.state import StackConfig
from seqloom.nn.transformer import TransformerConfig, TransformerStack
from seqloom.shapes import Mask, Vectors


@dataclass(frozen=True)
class BagConfig(StackConfig):
    """The embedded tokens alone, in no order: the baseline that every other encoder must beat.

    Args:
        width: D.
        dropout: on the embeddings.
    """

    kind: ClassVar[str] = "bag"
    width: Width = 256
    dropout: ShareBelowOne = 0.1


EncoderConfig = TransformerConfig | RecurrentEncoderConfig | ConvolutionalConfig | BagConfig


class BagEncoder(nn.Module):
    """States are the embedded tokens, the summary is their mean."""

    def __init__(self, config: BagConfig) -> None:
        super().__init__()
        self.summary_width = config.width
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Vectors, mask: Mask | None) -> Memory:
        """The memory of the source; `mask` is True on real positions, None = all are."""
        states = self.dropout(x)
        return Memory(states, mask, mean_summary(states, mask))


class TransformerEncoder(nn.Module):
    """Blocks of self-attention over the whole source; the summary is the mean state."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.summary_width = config.width
        self.stack = TransformerStack(config, causal=False)

    def forward(self, x: Vectors, mask: Mask | None) -> Memory:
        """The memory of the source; `mask` is True on real positions, None = all are."""
        states = self.stack(x, mask)
        return Memory(states, mask, mean_summary(states, mask))


def make_encoder(
    config: EncoderConfig, inputs: int
) -> TransformerEncoder | RecurrentEncoder | ConvolutionalEncoder | BagEncoder:
    """The encoder a config describes, for embeddings of width `inputs`."""
    match config:
        case TransformerConfig():
            return TransformerEncoder(config)
        case RecurrentEncoderConfig():
            return RecurrentEncoder(config, inputs)
        case ConvolutionalConfig():
            return ConvolutionalEncoder(config)
        case BagConfig():
            return BagEncoder(config)
