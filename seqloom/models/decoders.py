"""Decoders: (x, state) -> hidden, state. One method takes all positions at once, or one at a time."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from seqloom.models.convolutional import ConvolutionalConfig, ConvolutionalDecoder
from seqloom.models.recurrent import RecurrentDecoder, RecurrentDecoderConfig
from seqloom.nn.memory import Memory
from seqloom.nn.transformer import TransformerConfig, TransformerStack, TransformerState
from seqloom.shapes import Vectors

DecoderConfig = TransformerConfig | RecurrentDecoderConfig | ConvolutionalConfig


class TransformerDecoder(nn.Module):
    """Blocks of causal self-attention and, if there is a memory, of attention over it."""

    def __init__(self, config: TransformerConfig, memory_width: int) -> None:
        super().__init__()
        self.config = config
        self.stack = TransformerStack(config, causal=True, memory_width=memory_width or None)

    def start(self, memory: Memory | None, *, keep: bool) -> TransformerState:
        """The state before the first position. `keep`: whether later steps need the keys and values of this one."""
        return self.stack.start(memory, keep=keep)

    def forward(self, x: Vectors, state: TransformerState) -> tuple[Vectors, TransformerState]:
        """The hidden vectors of the positions that follow those of `state`, and the state after them."""
        return self.stack(x, None, state), replace(state, length=state.length + x.shape[1], documents=None)


def make_decoder(
    config: DecoderConfig, inputs: int, memory_width: int = 0, summary_width: int = 0
) -> TransformerDecoder | RecurrentDecoder | ConvolutionalDecoder:
    """The decoder a config describes, for embeddings of width `inputs` and a memory of the given widths.

    Widths of 0 mean no memory: `start` then takes None.
    """
    match config:
        case TransformerConfig():
            return TransformerDecoder(config, memory_width)
        case RecurrentDecoderConfig():
            return RecurrentDecoder(config, inputs, memory_width, summary_width)
        case ConvolutionalConfig():
            return ConvolutionalDecoder(config, memory_width, summary_width)
