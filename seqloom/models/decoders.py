"""Decoders: (x, state) -> hidden, state. One method for all positions at once and for one at a time."""

from __future__ import annotations

from torch import nn

from seqloom.nn.memory import Memory
from seqloom.nn.transformer import TransformerConfig, TransformerStack, TransformerState, advance, empty_state
from seqloom.shapes import Vectors

DecoderConfig = TransformerConfig
State = TransformerState


class TransformerDecoder(nn.Module):
    """Blocks of causal self-attention and attention over the memory."""

    def __init__(self, config: TransformerConfig, memory_width: int) -> None:
        super().__init__()
        self.config = config
        self.stack = TransformerStack(config, causal=True, memory_width=memory_width)

    @property
    def limit(self) -> int | None:
        """The longest target there are positions for; None = no end."""
        return self.stack.positions.limit

    def start(self, memory: Memory | None, *, keep: bool) -> State:
        """The state before the first position. `keep`: whether further steps will need what this one computes."""
        return empty_state(self.stack, memory, keep=keep)

    def forward(self, x: Vectors, state: State) -> tuple[Vectors, State]:
        """The hidden vectors of the positions that follow those of `state`, and the state after them."""
        return self.stack(x, None, state), advance(state, x.shape[1])


def make_decoder(config: DecoderConfig, memory_width: int) -> TransformerDecoder:
    """The decoder a config describes, over a memory of the given width."""
    return TransformerDecoder(config, memory_width)
