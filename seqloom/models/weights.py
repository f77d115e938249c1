"""What all models have in common about their weights: how they begin, and how many they are."""

from __future__ import annotations

from torch import nn

from seqloom.nn.embedders import TokenEmbedder
from seqloom.nn.heads import VocabularyHead


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


def of_words(model: nn.Module) -> list[str]:
    """The names of the parameters with one row a word: tables of vectors, and the heads' scores of words."""
    own = {
        id(p)
        for module in model.modules()
        if isinstance(module, TokenEmbedder | VocabularyHead)
        for p in (module.weight, getattr(module, "bias", None))
        if p is not None
    }
    return [name for name, parameter in model.named_parameters() if id(parameter) in own]
