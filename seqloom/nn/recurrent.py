"""Recurrent layers over time: RNN (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014).

A layer carries one tensor (B P D) from step to step: h alone (P = 1), or h and the cell c of an LSTM (P = 2).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from seqloom.nn.dropout import Dropout
from seqloom.nn.effective import change, effective
from seqloom.nn.observe import Stream, note
from seqloom.shapes import Float, Int, Tensor

Cell = Literal["rnn", "lstm", "gru"]
Matrices = tuple[Float[Tensor, "G _"], Float[Tensor, "G D"]]
"""A layer's input matrix, which x goes through, and its recurrent matrix, which h of the previous position does."""
_MODULES: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}  # torch stacks their matrices
_KERNELS: dict[str, Any] = {"rnn": torch._VF.rnn_tanh, "lstm": torch._VF.lstm, "gru": torch._VF.gru}

# Training keeps all weights in one buffer, in its own order; cuDNN warns that it copies a layer's weights at each call.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk of memory")


def parts_of(cell: Cell) -> int:
    """P, the number of vectors that a cell carries."""
    return 2 if cell == "lstm" else 1


class RecurrentLayer(nn.Module):
    """One layer in one direction, by torch's kernels: h_t = cell(x_t, h_{t-1}).

    Args:
        cell: rnn (tanh), lstm or gru.
        inputs: features of x.
        width: D, features of h.
        weight_drop: the share of the recurrent matrix that is dropped in training (Merity et al. 2018).
    """

    def __init__(self, cell: Cell, inputs: int, width: int, weight_drop: float = 0.0) -> None:
        super().__init__()
        self.cell, self.parts = cell, parts_of(cell)
        self.cells: nn.RNNBase = _MODULES[cell](inputs, width, batch_first=True)
        if weight_drop:
            change(self.cells, "weight_hh_l0", Dropout(weight_drop))
        self.stacked = {f"cells.weight_{name}_l0": (width,) * _GATES[cell] for name in ("ih", "hh")}
        if cell == "lstm":  # the forget gate starts open (Jozefowicz et al. 2015)
            with torch.no_grad():
                self.cells.get_parameter("bias_hh_l0")[width : 2 * width] = 1.0

    def matrices(self) -> Matrices:
        """Its effective matrices, drawn once for a whole pass over a sequence."""
        return effective(self.cells, "weight_ih_l0"), effective(self.cells, "weight_hh_l0")

    def forward(
        self, x: Float[Tensor, "B T I"], carry: Float[Tensor, "B P D"] | None = None, matrices: Matrices | None = None
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B P D"]]:
        """h at each position, and the final carry; `carry` None = zeros, `matrices` None = the layer's own."""
        if carry is None:
            carry = x.new_zeros(x.shape[0], self.parts, self.cells.hidden_size)
        parts = carry.transpose(0, 1)[:, None].contiguous()  # P 1 B D: torch expects layers first
        start: Any = (parts[0], parts[1]) if self.parts == 2 else parts[0]
        biases = (self.cells.get_parameter(f"bias_{name}_l0") for name in ("ih", "hh"))
        weights = [*(self.matrices() if matrices is None else matrices), *biases]
        h, *ends = _KERNELS[self.cell](x, start, weights, True, 1, 0.0, self.training, False, True)
        note(self, Pass, self, x, carry, h)
        return h, torch.cat(ends, 0).transpose(0, 1)


@dataclass(frozen=True)
class Pass:
    """What a layer read and made, in its reading order: x (B T I), the carry before (B P D; None = zeros), h (B T D).

    Its gates follow from these (inspection/gates.py).
    """

    layer: RecurrentLayer
    x: Tensor
    carry: Tensor | None
    h: Tensor


class RecurrentStack(nn.Module):
    """A stack of layers, forward in time.

    Args:
        residual: whether a layer's input is added to its output, where both have the same width (Wu et al. 2016).
        dropout: the dropout between layers (Zaremba et al. 2014).
        weight_drop: the dropout of each layer's recurrent matrix.
    """

    def __init__(
        self,
        cell: Cell,
        inputs: int,
        width: int,
        layers: int,
        *,
        residual: bool,
        dropout: float,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.residual, self.parts = residual, parts_of(cell)
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, width if i else inputs, width, weight_drop) for i in range(layers)
        )
        self.dropout = Dropout(dropout)

    def matrices(self) -> tuple[Matrices, ...]:
        """Each layer's matrices for one pass over a sequence, see `RecurrentLayer.matrices`."""
        return tuple(layer.matrices() for layer in self.layers)  # type: ignore[operator]

    def forward(
        self, x: Float[Tensor, "B T I"], carry: Float[Tensor, "B L P D"] | None, matrices: Sequence[Matrices] = ()
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B L P D"]]:
        """The top layer's h at each position, and the final carry of every layer; `carry` None = zeros."""
        carried = []
        note(self, Stream, x)
        for i, layer in enumerate(self.layers):
            start, drawn = None if carry is None else carry[:, i], matrices[i] if matrices else None
            h, end = layer(self.dropout(x) if i else x, start, drawn)
            x = x + h if self.residual and x.shape == h.shape else h
            note(layer, Stream, x)
            carried.append(end)
        return x, torch.stack(carried, 1)


def reversed_rows(x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"] | None) -> Float[Tensor, "B T D"]:
    """Each row's first `lengths` positions reversed, the rest left in place; None = all positions."""
    if lengths is None:
        return x.flip(1)
    at = torch.arange(x.shape[1], device=x.device)
    back = lengths[:, None] - 1 - at
    return x.gather(1, torch.where(back >= 0, back, at)[:, :, None].expand_as(x))


def last(x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"] | None) -> Float[Tensor, "B D"]:
    """The vector at each row's last real position."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]
