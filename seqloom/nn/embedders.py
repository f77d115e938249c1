"""Where a modality ends: from raw ids to vectors of the model's width."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.shapes import Ids, Tensor, Vectors


class TokenEmbedder(nn.Module):
    """A learned vector for each word, scaled by sqrt(E) as in Vaswani et al. 2017.

    Args:
        words: V.
        width: D, what the model wants.
        embedding: E, the width of the table; a projection lies between where it differs from D.
        table: the weights (V E) of another embedder to share.
    """

    def __init__(self, words: int, width: int, embedding: int, table: nn.Parameter | None = None) -> None:
        super().__init__()
        if table is None:
            table = nn.Parameter(nn.init.normal_(nn.Parameter(torch.empty(words, embedding)), std=embedding**-0.5))
        self.weight = table
        self.scale = embedding**0.5
        self.project: nn.Module = nn.Identity() if embedding == width else nn.Linear(embedding, width, bias=False)

    def forward(self, ids: Ids) -> Vectors:
        """The vectors of the ids."""
        x: Tensor = self.project(F.embedding(ids, self.weight) * self.scale)
        return x
