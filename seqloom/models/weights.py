"""What all models have in common about their weights: how they begin, and how many they are."""

from __future__ import annotations

from torch import nn


def initialize(model: nn.Module) -> None:
    """Glorot-uniform matrices and zero biases; embeddings keep their own normal start."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameter_count(model: nn.Module) -> int:
    """How many numbers are learned; a shared table counts once."""
    return sum(p.numel() for p in model.parameters())
