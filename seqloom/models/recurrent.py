"""Recurrent encoders and decoders: from the context vector (Sutskever et al. 2014, Cho et al. 2014) to attention
before the cell (Bahdanau et al. 2015) and after it (Luong et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from seqloom.limits import Layers, ShareBelowOne, Width
from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import Linear
from seqloom.nn.memory import Memory
from seqloom.nn.observe import Stream, note
from seqloom.nn.positions import document_starts
from seqloom.nn.recurrent import Cell, Matrices, RecurrentLayer, RecurrentStack, last, reversed_rows
from seqloom.nn.scored_attention import AttendedMemory, AttentionConfig, ScoredAttention
from seqloom.nn.state import StackConfig, State
from seqloom.shapes import Bool, Float, Int, Mask, Tensor, Vectors


@dataclass(frozen=True)
class RecurrentConfig(StackConfig):
    """Recurrent layers.

    Args:
        cell: rnn (tanh), lstm or gru.
        layers: the number of stacked layers.
        width: cells of each layer, and in an encoder of each direction.
    """

    kind: ClassVar[str] = "recurrent"
    cell: Cell = "gru"
    layers: Layers = 1
    width: Width = 256

    def input_width(self, embedding: int) -> int:
        """That of the embeddings; 0 = that of the layers."""
        return embedding or self.width


@dataclass(frozen=True)
class RecurrentEncoderConfig(RecurrentConfig):
    """A recurrent encoder.

    Args:
        direction: forward, backward (from the end: "source reversal"), or both side by side.
        residual: whether a layer's input is added to its output where they have the same width.
        dropout: on the embeddings, between the layers and on the states.
        weight_drop: on the recurrent matrices, drawn once a sequence (Merity et al. 2018).
    """

    direction: Literal["forward", "backward", "both"] = "both"
    residual: bool = False
    dropout: ShareBelowOne = 0.1
    weight_drop: ShareBelowOne = 0.0

    @property
    def memory_width(self) -> int:
        """Features of a state."""
        return self.width * (2 if self.direction == "both" else 1)


@dataclass(frozen=True)
class RecurrentDecoderConfig(RecurrentConfig):
    """A recurrent decoder.

    Args:
        residual: whether a layer's input is added to its output where they have the same width.
        dropout: on the embeddings, between the layers and on the output.
        weight_drop: on the recurrent matrices, drawn once a sequence (Merity et al. 2018).
        context: whether the memory's summary only starts the cells, or is also part of each input and output.
        attention: how it attends to the memory; none = it has only the summary.
        place: attention before the cell, as part of its input, or after it.
        input_feeding: whether the last output is part of the next input (Luong et al. 2015, section 3.3).
    """

    residual: bool = False
    dropout: ShareBelowOne = 0.1
    weight_drop: ShareBelowOne = 0.0
    context: Literal["initial", "repeated"] = "initial"
    attention: AttentionConfig | None = None
    place: Literal["before", "after"] = "before"
    input_feeding: bool = False

    def check_alone(self) -> None:
        """Raises ValueError if the config needs a memory; a language model has none."""
        if self.attention is not None or self.context == "repeated" or self.input_feeding:
            needing = "attention, context = 'repeated' and input_feeding need an encoder's memory"
            raise ValueError(f"{needing}, and this model has none: leave them out")


class RecurrentEncoder(nn.Module):
    """Layers over time; the summary is the last h of every layer, both directions side by side."""

    def __init__(self, config: RecurrentEncoderConfig, inputs: int) -> None:
        super().__init__()
        self.config = config
        self.directions = ("forward", "backward") if config.direction == "both" else (config.direction,)

        def layer(width: int) -> RecurrentLayer:
            return RecurrentLayer(config.cell, width, config.width, config.weight_drop)

        widths = [inputs, *[config.memory_width] * (config.layers - 1)]
        self.layers = nn.ModuleList(nn.ModuleList(layer(width) for _ in self.directions) for width in widths)
        self.dropout = Dropout(config.dropout)
        self.summary_width = config.layers * config.memory_width

    def forward(self, x: Vectors, mask: Mask | None) -> Memory:
        """The memory of the source; `mask` is True on real positions, None = all are."""
        lengths = None if mask is None else mask.sum(1)
        summary = []
        note(self, Stream, x)
        for layers in self.layers:
            inside, outputs = self.dropout(x), []
            assert isinstance(layers, nn.ModuleList)
            for direction, layer in zip(self.directions, layers, strict=True):
                back = direction == "backward"
                h, _ = layer(reversed_rows(inside, lengths) if back else inside, None, layer.matrices())  # type: ignore[operator]
                summary.append(last(h, lengths))
                outputs.append(reversed_rows(h, lengths) if back else h)
            h = torch.cat(outputs, -1)
            x = x + h if self.config.residual and x.shape == h.shape else h
            note(layers, Stream, x)
        return Memory(self.dropout(x), mask, torch.cat(summary, -1))


@dataclass(frozen=True)
class RecurrentState(State):
    """What a recurrent decoder carries from step to step.

    Args:
        carry: h, and c of an LSTM, of each layer, R rows; None = zeros.
        matrices: those each layer multiplies by, drawn once for the whole sequence.
        summary: the memory's, where it is part of each input; B rows, R is a multiple of B.
        memory: what is attended to; B rows.
        fed: the last output, where it is part of the next input.
        covered: the attention each source position has received so far.
        documents: the document of each position now read; None = one document per row.
        first: what each document begins with, but for document 0.
    """

    of_rows: ClassVar[tuple[str, ...]] = ("carry", "fed", "covered")
    of_sentences: ClassVar[tuple[str, ...]] = ("summary", "memory")

    carry: Float[Tensor, "R L P D"] | None
    matrices: tuple[Matrices, ...] = ()
    summary: Float[Tensor, "B M"] | None = None
    memory: AttendedMemory | None = None
    fed: Float[Tensor, "R D"] | None = None
    covered: Float[Tensor, "R S"] | None = None
    documents: Int[Tensor, "R T"] | None = None
    first: RecurrentState | None = None

    def joined(self, *others: Any) -> RecurrentState:
        """See State; what covers a source is as wide as the longest one."""
        joined: Any = super().joined(*others)
        covered = None if joined.covered is None else joined.covered[:, : joined.memory.kv.keys.shape[2]]
        return replace(joined, covered=covered)  # type: ignore[no-any-return]

    def apart(self, documents: Int[Tensor, "R T"] | None) -> RecurrentState:
        """The state that is this one again wherever a document begins."""
        return self if documents is None else replace(self, documents=documents, first=self)

    def begun(self, rows: Bool[Tensor, " R"]) -> RecurrentState:
        """The state in which the given rows begin a document."""
        begun: Any = {name: _begun(rows, getattr(self.first, name), getattr(self, name)) for name in self.of_rows}
        return replace(self, **begun)

    @property
    def carried(self) -> dict[str, Tensor]:
        """What the layers carry, without gradients."""
        return {} if self.carry is None else {"carry": self.carry.detach()}


def _begun(rows: Bool[Tensor, " R"], first: Tensor | None, now: Tensor | None) -> Tensor | None:
    """`first`, None = zeros, in the given rows, `now` in the others; a state that is None has not left its first."""
    if now is None:
        return first
    return torch.where(rows.view(-1, *[1] * (now.ndim - 1)), 0.0 if first is None else first, now)


class RecurrentDecoder(nn.Module):
    """Layers over time that start from the memory's summary and may attend to its states.

    Without a memory (both widths 0) they start from zeros.
    """

    def __init__(self, config: RecurrentDecoderConfig, inputs: int, memory_width: int, summary_width: int) -> None:
        super().__init__()
        if not memory_width:
            config.check_alone()
        self.config = config
        D = config.width
        self.cross = None if config.attention is None else ScoredAttention(config.attention, D, memory_width)
        context = 0 if self.cross is None else self.cross.context
        repeated = summary_width if config.context == "repeated" else 0
        before = config.place == "before"
        fed = D if config.input_feeding else 0
        into = inputs + repeated + fed + (context if before else 0)
        drops = {"dropout": config.dropout, "weight_drop": config.weight_drop}
        self.stack = RecurrentStack(config.cell, into, D, config.layers, residual=config.residual, **drops)
        self.bridge = Linear(summary_width, (D,) * (config.layers * self.stack.parts)) if memory_width else None
        # Beside h, the output sees every context, and the embedded token where a context came before the cell.
        self.sees_token = bool(repeated or (context and before))
        beside = context + repeated + (inputs if self.sees_token else 0)
        self.mix = Linear(D + beside, D) if beside else None
        self.dropout = Dropout(config.dropout)

    @property
    def sequential(self) -> bool:
        """Whether each position needs the output of the one before it, so that they cannot be computed at once."""
        config = self.config
        attends_first = config.attention is not None and (config.place == "before" or config.attention.coverage)
        return attends_first or config.input_feeding

    def start(self, memory: Memory | None, *, keep: bool) -> RecurrentState:
        """The state before the first position."""
        matrices = self.stack.matrices()
        if memory is None or self.bridge is None:
            return RecurrentState(0, None, matrices)
        (B, S, _), config = memory.states.shape, self.config
        carry = self.bridge(memory.summary).tanh().view(B, config.layers, self.stack.parts, config.width)
        summary = memory.summary if config.context == "repeated" else None
        read = None if self.cross is None else self.cross.read(memory)
        fed = memory.states.new_zeros(B, config.width) if config.input_feeding else None
        covers = config.attention is not None and config.attention.coverage
        covered = memory.states.new_zeros(B, S) if covers else None
        return RecurrentState(0, carry, matrices, summary, read, fed, covered)

    def forward(self, x: Float[Tensor, "R T E"], state: RecurrentState) -> tuple[Vectors, RecurrentState]:
        """The hidden vectors of the positions that follow those of `state`, and the state after them."""
        x = self.dropout(x)
        if state.documents is None:
            return self._read(x, state)
        starts = document_starts(state.documents)
        edges = sorted({0, *starts.any(0).nonzero().squeeze(1).tolist(), x.shape[1]})
        outputs = []
        for begin, end in pairwise(edges):
            h, state = self._read(x[:, begin:end], state.begun(starts[:, begin]))
            outputs.append(h)
        return torch.cat(outputs, 1), replace(state, documents=None, first=None)

    def _read(self, x: Float[Tensor, "R T E"], state: RecurrentState) -> tuple[Vectors, RecurrentState]:
        """The same within documents."""
        if not self.sequential:
            return self._advance(x, state)
        outputs = []
        for token in torch.split(x, 1, dim=1):
            h, state = self._advance(token, state)
            outputs.append(h)
        return torch.cat(outputs, 1), state

    def _advance(self, x: Float[Tensor, "R T E"], state: RecurrentState) -> tuple[Vectors, RecurrentState]:
        R, T, _ = x.shape
        contexts, covered = [], state.covered
        if state.summary is not None:
            contexts.append(state.summary.repeat_interleave(R // len(state.summary), 0)[:, None].expand(-1, T, -1))
        if self.cross is not None and self.config.place == "before":
            assert state.memory is not None
            assert state.carry is not None
            query = state.carry[:, -1, 0][:, None]  # h of the top layer
            context, covered = self.cross(query, state.memory, covered)
            contexts.append(context)
        inputs = [x, *contexts] if state.fed is None else [x, *contexts, state.fed[:, None]]
        h, carry = self.stack(torch.cat(inputs, -1), state.carry, state.matrices)
        if self.cross is not None and self.config.place == "after":
            assert state.memory is not None
            context, covered = self.cross(h, state.memory, covered)
            contexts.append(context)
        if self.mix is not None:
            h = self.mix(torch.cat([h, *contexts, x] if self.sees_token else [h, *contexts], -1)).tanh()
        fed = None if state.fed is None else h[:, -1]
        return self.dropout(h), replace(state, length=state.length + T, carry=carry, fed=fed, covered=covered)
