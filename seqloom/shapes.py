"""The legend of dimension names, and aliases for the tensors that pass between packages.

    B  sequences of a batch            S  positions of a source or memory
    T  positions of a target           D  width of the model
    E  width of an embedding           F  inner width of a feed-forward layer
    H  attention heads                 G  key-value heads (G divides H)
    C  features of one head            V  tokens of a vocabulary
    K  hypotheses of one sentence      R  rows of a decoding batch (B * K)
    N  tokens of a batch without padding

Shapes are checked by beartype under pytest and cost nothing otherwise.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Ids", "Int", "Mask", "Tensor", "Vectors"]

Ids = Int[Tensor, "B T"]
Mask = Bool[Tensor, "B T"]
Vectors = Float[Tensor, "B T D"]
