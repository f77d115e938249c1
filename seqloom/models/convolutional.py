"""Convolutional sequence to sequence learning (Gehring et al. 2017): gated windows, attention in every block."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from seqloom.errors import UsageError
from seqloom.limits import Bounds, Layers, ShareBelowOne, Width
from seqloom.nn.convolution import GatedConvolution
from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import Linear
from seqloom.nn.memory import Memory, mean_summary
from seqloom.nn.observe import Stream, note
from seqloom.nn.positions import Learned, Positions, Sinusoidal, places_in
from seqloom.nn.scored_attention import AttendedMemory, AttentionConfig, ScoredAttention
from seqloom.nn.state import StackConfig, State, padding_together, places_after, together
from seqloom.shapes import Float, Int, Mask, Tensor, Vectors

_HALF = 0.5**0.5  # keeps the variance of a sum of two


@dataclass(frozen=True)
class ConvolutionalConfig(StackConfig):
    """A stack of gated convolutions, each with a residual.

    Args:
        layers: the number of convolutions.
        width: D, features of each position between the layers.
        kernel: positions of a window; odd.
        positions: how a layer learns where each token stands.
        dropout: on the embeddings and before each convolution.
    """

    kind: ClassVar[str] = "convolutional"
    layers: Layers = 6
    width: Width = 256
    kernel: Annotated[int, Bounds(1, 1000)] = 3
    positions: Sinusoidal | Learned = field(default_factory=Sinusoidal)
    dropout: ShareBelowOne = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")


class _Convolutional(nn.Module):
    def __init__(self, config: ConvolutionalConfig, *, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.positions = Positions(config.positions, config.width, 1, config.width, causal=causal)
        self.blocks = nn.ModuleList(
            GatedConvolution(config.width, config.kernel, causal=causal, dropout=config.dropout)
            for _ in range(config.layers)
        )
        self.dropout = Dropout(config.dropout)

    def _placed(self, x: Vectors, start: int, places: Int[Tensor, "R T"] | None = None) -> Vectors:
        added = self.positions(start, x, places).added
        assert added is not None
        return self.dropout(x + added)  # type: ignore[no-any-return]


class ConvolutionalEncoder(_Convolutional):
    """Windows around each position; a state is the top layer plus the embedded token, the summary the mean state."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config, causal=False)
        self.summary_width = config.width

    def forward(self, x: Vectors, mask: Mask | None) -> Memory:
        """The memory of the source; `mask` is True on real positions, None = all are."""
        real = None if mask is None else mask[:, :, None].to(x.dtype)
        x = self._placed(x, 0)
        h = x
        note(self, Stream, h)
        for block in self.blocks:
            inside = self.dropout(h)
            # Padding must not enter the windows of real positions.
            h = (block(inside if real is None else inside * real) + h) * _HALF
            note(block, Stream, h)
        states = (h + x) * _HALF
        return Memory(states, mask, mean_summary(states, mask))


@dataclass(frozen=True)
class ConvolutionalState(State):
    """What a convolutional decoder carries from step to step.

    Args:
        past: the inputs of each layer before its next window, R rows; None = zeros.
        memory: what each layer attends to; B rows, R is a multiple of B.
        documents: the document of each position now read; None = one document per row.
        padding: the number of positions that each row has read less than the longest one; None = all have read as many.
    """

    of_rows: ClassVar[tuple[str, ...]] = ("past", "padding")
    of_sentences: ClassVar[tuple[str, ...]] = ("memory",)

    past: tuple[Float[Tensor, "R P D"] | None, ...]
    memory: tuple[AttendedMemory, ...] = ()
    documents: Int[Tensor, "R T"] | None = None
    padding: Int[Tensor, " R"] | None = None

    def joined(self, *others: Any) -> ConvolutionalState:
        """See State."""
        parts = (self, *others)
        padding = padding_together(parts, [part.past[0] for part in parts])
        length = max(part.length for part in parts)
        past, memory = (together([getattr(part, name) for part in parts]) for name in ("past", "memory"))
        return ConvolutionalState(length, past, memory, padding=padding)

    def apart(self, documents: Int[Tensor, "R T"] | None) -> ConvolutionalState:
        """The state whose windows hold nothing of an earlier document. Raises UsageError where one has begun."""
        if documents is None:
            return self
        if self.length:
            raise UsageError("documents cannot be told apart within a text", cure="tell them apart from its beginning")
        return replace(self, documents=documents)


class ConvolutionalDecoder(_Convolutional):
    """Windows that end at each position, each followed by attention over the memory, if any (widths above 0)."""

    def __init__(self, config: ConvolutionalConfig, memory_width: int, summary_width: int) -> None:
        super().__init__(config, causal=True)
        D = config.width
        self.start_from = Linear(summary_width, D) if memory_width else None
        reading = AttentionConfig(score="general")
        reads = config.layers if memory_width else 0
        self.cross = nn.ModuleList(ScoredAttention(reading, D, memory_width) for _ in range(reads))
        self.queries = nn.ModuleList(Linear(D, D) for _ in range(reads))
        self.contexts = nn.ModuleList(Linear(memory_width, D) for _ in range(reads))

    def start(self, memory: Memory | None, *, keep: bool) -> ConvolutionalState:
        """The state before the first position: windows filled from the summary, or with zeros."""
        if memory is None or self.start_from is None:
            return ConvolutionalState(0, (None,) * self.config.layers)
        first = self.start_from(memory.summary)[:, None].expand(-1, self.config.kernel - 1, -1)
        reads = tuple(reader.read(memory) for reader in self.cross)  # type: ignore[operator]
        return ConvolutionalState(0, (first,) * self.config.layers, reads)

    def forward(self, x: Vectors, state: ConvolutionalState) -> tuple[Vectors, ConvolutionalState]:
        """The hidden vectors of the positions that follow those of `state`, and the state after them."""
        places = None if state.documents is None else places_in(state.documents)
        x = self._placed(x, state.length, places_after(state, x.shape[1]) if places is None else places)
        h, past = x, []
        note(self, Stream, h)
        for i, block in enumerate(self.blocks):
            inside, before = self.dropout(h), state.past[i]
            if before is None:
                before = inside.new_zeros(inside.shape[0], self.config.kernel - 1, inside.shape[2])
            # Before the first position all of a window is the same, and so it is before each document.
            gated = block(inside, before, (places, before[:, :1]) if places is not None and before.shape[1] else None)
            past.append(torch.cat((before, inside), 1)[:, inside.shape[1] :])
            if state.memory:
                # Unscaled, untrained attention would be as sharp as its random weights.
                query = (self.queries[i](gated) + x) * _HALF * self.config.width**-0.5
                context, _ = self.cross[i](query, state.memory[i])
                gated = (gated + self.contexts[i](context)) * _HALF
            h = (gated + h) * _HALF
            note(block, Stream, h)
        after = replace(state, length=state.length + x.shape[1], past=tuple(past), documents=None)
        return self.dropout(h), after
