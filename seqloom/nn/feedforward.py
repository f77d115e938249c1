"""The position-wise feed-forward layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import Linear

Activation = Literal["relu", "gelu", "gelu-tanh", "silu", "swiglu", "geglu"]
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}
_GATES = {"swiglu": "silu", "geglu": "gelu-tanh"}


def activate(kind: Activation, x: Tensor) -> Tensor:
    """The activation of each feature; in gated kinds the first half of the features is the gate."""
    if kind in _GATES:
        gate, value = x.chunk(2, dim=-1)
        return _PLAIN[_GATES[kind]](gate) * value
    return _PLAIN[kind](x)


class FeedForward(nn.Module):
    """W2 a(W1 x), where a is ReLU (Vaswani et al. 2017), GELU (Hendrycks and Gimpel 2016; "gelu-tanh" is GPT-2's
    approximation of it) or SiLU. SwiGLU and GEGLU (Shazeer 2020) have a gate beside the values, both of width `inner`.
    """

    def __init__(self, width: int, inner: int, activation: Activation, bias: bool, dropout: float) -> None:
        super().__init__()
        self.activation = activation
        self.expand = Linear(width, (inner, inner) if activation in _GATES else inner, bias=bias)
        self.contract = Linear(inner, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (... D) in and out."""
        contracted: Tensor = self.contract(self.dropout(activate(self.activation, self.expand(x))))
        return contracted
