"""What is added to weights that stay as they are: products of low rank, and rows of new tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqloom.adaptation.config import LoRA
from seqloom.nn.dropout import keep_mask
from seqloom.shapes import Bool, Float


class LowRank(nn.Module):
    """W -> W + s B A; B is zero at first, so that nothing changes.

    Args:
        weight: W (E ...); more than two dimensions are read as E x the rest.
        rows: the rows of each of the matrices stacked in it.
        config: r, s and the dropout.
    """

    def __init__(self, weight: Tensor, rows: Sequence[int], config: LoRA) -> None:
        super().__init__()
        self.rows, self.rank, self.scale, self.dropout = [*rows], config.rank, config.scale, config.dropout
        columns = weight[0].numel()
        bound = columns**-0.5  # the start of torch's linear layers
        self.down = nn.Parameter(weight.new_empty(len(rows) * config.rank, columns).uniform_(-bound, bound))
        self.up = nn.Parameter(weight.new_zeros(len(weight), config.rank))

    def forward(self, weight: Float[Tensor, "E ..."]) -> Float[Tensor, "E ..."]:
        """The changed weight."""
        down: Tensor = self.down
        if self.training and self.dropout:
            down = down * keep_mask(down[0], self.dropout)
        parts = zip(
            torch.split(weight.flatten(1), self.rows),
            torch.split(self.up, self.rows),
            torch.split(down, self.rank),
            strict=True,
        )
        sums = [torch.addmm(w, b, a, alpha=self.scale) for w, b, a in parts]
        return (sums[0] if len(sums) == 1 else torch.cat(sums)).view_as(weight)

    def beside(self, x: Float[Tensor, "R ... D"], rows: Bool[Tensor, " R"] | None = None) -> Float[Tensor, "R ... E"]:
        """What it adds to the outputs of a linear layer in some rows, or all: s (x A^T) B^T, and 0 in the others."""
        low = x @ self.down.t()
        if rows is not None:
            low = low.masked_fill(~rows.view(-1, *[1] * (x.ndim - 1)), 0.0)
        parts = zip(torch.split(low, self.rank, -1), torch.split(self.up, self.rows), strict=True)
        return torch.cat([part @ up.t() for part, up in parts], -1) * self.scale


class NewRows(nn.Module):
    """The last rows of a table are learned, those of tokens that the base does not have.

    Args:
        table: (V E), with all rows.
        count: the number of new ones.
    """

    def __init__(self, table: Tensor, count: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(table[len(table) - count :].detach().clone())

    def forward(self, weight: Float[Tensor, "V E"]) -> Float[Tensor, "V E"]:
        """The table with them."""
        return torch.cat((weight[: len(weight) - len(self.rows)], self.rows))
