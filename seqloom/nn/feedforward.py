"""The position-wise feed-forward layer."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from seqloom.nn.dropout import Dropout

Activation = Literal["relu", "gelu", "swiglu"]


class FeedForward(nn.Module):
    """W2 a(W1 x): ReLU (Vaswani et al. 2017), GELU (Hendrycks and Gimpel 2016) or SwiGLU (Shazeer 2020).

    SwiGLU has a gate beside the values: silu(gate) * value, both of width `inner`.
    """

    def __init__(self, width: int, inner: int, activation: Activation, bias: bool, dropout: float) -> None:
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(width, 2 * inner if activation == "swiglu" else inner, bias=bias)
        self.contract = nn.Linear(inner, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (... D) in and out."""
        h = self.expand(x)
        if self.activation == "relu":
            h = F.relu(h)
        elif self.activation == "gelu":
            h = F.gelu(h)
        else:
            gate, value = h.chunk(2, dim=-1)
            h = F.silu(gate) * value
        contracted: Tensor = self.contract(self.dropout(h))
        return contracted
