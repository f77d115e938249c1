"""From hidden vectors to what a model says."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.shapes import Float, Tensor


class VocabularyHead(nn.Module):
    """A score for each word: hidden (D) -> E if they differ -> logits (V).

    Args:
        words: V.
        width: D.
        embedding: E, the width of the output table.
        table: the weights (V E) of an embedder to share ("tied", Press and Wolf 2017).
    """

    def __init__(self, words: int, width: int, embedding: int, table: nn.Parameter | None = None) -> None:
        super().__init__()
        if table is None:
            table = nn.Parameter(nn.init.normal_(nn.Parameter(torch.empty(words, embedding)), std=embedding**-0.5))
        self.weight = table
        self.project: nn.Module = nn.Identity() if embedding == width else nn.Linear(width, embedding, bias=False)

    def forward(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """The logits."""
        return F.linear(self.project(hidden), self.weight)
