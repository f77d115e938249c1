"""Heads: from hidden vectors to logits and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import Linear, Rounded, product
from seqloom.shapes import Float, Tensor

Reads = Literal["states", "pooled"]
"""What a head reads: every state, or one pooled vector a sequence."""


class VocabularyHead(nn.Module):
    """A logit for each token: hidden (D) -> E if they differ -> logits (V).

    Args:
        vocab_size: V.
        width: D.
        embedding: E, the width of the output table.
        table: the weights (V E) of an embedder to share ("tied", Press and Wolf 2017).
        bias: whether each token has a bias.
        project: from hidden to E, where it is not a plain projection.
    """

    packed: Tensor | Rounded | None = None
    packed_from: int = 1
    beside: Mapping[int | None, Any] | None = None

    def __init__(
        self,
        vocab_size: int,
        width: int,
        embedding: int,
        table: nn.Parameter | None = None,
        *,
        bias: bool = False,
        project: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if table is None:
            table = nn.Parameter(nn.init.normal_(nn.Parameter(torch.empty(vocab_size, embedding)), std=embedding**-0.5))
        self.weight = table
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        plain = nn.Identity() if embedding == width else Linear(width, embedding, bias=False)
        self.project: nn.Module = plain if project is None else project

    def forward(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """The logits."""
        return product(self.project(hidden), self)


class MaskedTokenHead(VocabularyHead):
    """The logits of a masked token: a layer, an activation and a norm before the table (BERT).

    Args:
        vocab_size, width, embedding, table: as for VocabularyHead.
        norm: the norm before the table.
    """

    reads: Reads = "states"

    def __init__(
        self, vocab_size: int, width: int, embedding: int, table: nn.Parameter | None, norm: nn.Module
    ) -> None:
        project = nn.Sequential(_Activated(width, embedding), norm)
        super().__init__(vocab_size, width, embedding, table, bias=True, project=project)


class _Activated(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(super().forward(x))


class LabelHead(nn.Module):
    """Scores of `labels` classes, or as many predicted numbers, for a pooled vector or for every state."""

    def __init__(self, width: int, labels: int, dropout: float, reads: Reads) -> None:
        super().__init__()
        self.reads = reads
        self.dropout = Dropout(dropout)
        self.linear = Linear(width, labels)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B L"]:
        """The scores."""
        scores: Tensor = self.linear(self.dropout(x))
        return scores


def changed(frames: Float[Tensor, "B T C"], changes: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
    """The last N frames (T >= N), changed: each channel from its last value that is not missing, 0 before the first."""
    steps = torch.arange(frames.shape[1], device=frames.device)[:, None]
    last = torch.where(frames.isnan(), 0, steps).cummax(1).values
    return frames.gather(1, last).nan_to_num(nan=0.0)[:, -changes.shape[1] :] + changes.to(frames.dtype)
