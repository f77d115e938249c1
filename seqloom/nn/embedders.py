"""Where a modality ends: from raw ids to vectors of the model's width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.shapes import Float, Ids, Int, Tensor, Vectors


@dataclass(frozen=True)
class EmbedderConfig:
    """What a table of word vectors begins as.

    Args:
        vectors: a file or a run of word vectors (docs/word-vectors.md) for the words it has; "" = all are drawn.
        frozen: whether the table stays as it is.
    """

    vectors: str = ""
    frozen: bool = False


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

    @torch.no_grad()
    def take(self, vectors: Float[Tensor, "N E"], at: Int[Tensor, " N"]) -> None:
        """Gives the words `at` the vectors, scaled as a whole to the size of freshly drawn ones."""
        size = vectors.square().mean().sqrt() * self.weight.shape[1] ** 0.5
        self.weight[at] = (vectors / size.clamp_min(1e-12)).to(self.weight)
