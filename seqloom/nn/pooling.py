"""One vector for a whole sequence."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from seqloom.nn.linear import Linear
from seqloom.nn.memory import Memory, mean_summary
from seqloom.shapes import Float, Int, Tensor

PoolingKind = Literal["first", "mean", "max", "summary", "attention"]


class Pooling(nn.Module):
    """Memory -> (B D).

    Args:
        kind: the first state (BERT's [CLS]), the mean or the maximum of the states, the encoder's own summary, or a
            mean with learned weights: softmax of u tanh(W h) (Yang et al. 2016).
        width, summary_width: features of a state and of a summary.
        layer: the activation of an additional layer of the same width (BERT's "pooler" has tanh); "none" = no layer.
    """

    def __init__(
        self, kind: PoolingKind, width: int, summary_width: int, layer: Literal["none", "tanh", "relu"] = "none"
    ) -> None:
        super().__init__()
        self.kind, self.activation = kind, layer
        self.width = summary_width if kind == "summary" else width
        self.score: nn.Module = nn.Identity()
        if kind == "attention":
            self.score = nn.Sequential(Linear(width, width), nn.Tanh(), Linear(width, 1, bias=False))
        self.layer: nn.Module = nn.Identity() if layer == "none" else Linear(self.width, self.width)

    def forward(self, memory: Memory) -> Float[Tensor, "B D"]:
        """The vector of each sequence; padding is ignored."""
        pooled: Tensor = self.layer(self._pooled(memory))
        return pooled if self.activation == "none" else getattr(torch, self.activation)(pooled)

    def _pooled(self, memory: Memory) -> Tensor:
        states, mask = memory.states, memory.mask
        match self.kind:
            case "first":
                return states[:, 0]
            case "mean":
                return mean_summary(states, mask)
            case "summary":
                return memory.summary
            case "max":
                return (states if mask is None else states.masked_fill(~mask[:, :, None], -torch.inf)).amax(1)
            case "attention":
                scores = self.score(states)[:, :, 0]
                scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
                return torch.einsum("bs,bsd->bd", scores.softmax(-1), states)


def window_means(vectors: Float[Tensor, "R D"], owner: Int[Tensor, " R"] | None) -> Float[Tensor, "B D"]:
    """The mean vector of each text's windows; `owner` is the text of each window, None = each is a text of its own."""
    if owner is None:
        return vectors
    counts = torch.bincount(owner)
    total = vectors.new_zeros(len(counts), vectors.shape[1]).index_add(0, owner, vectors)
    return total / counts[:, None].to(vectors.dtype)
