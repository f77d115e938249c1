"""A model without memory has the parameters of the real one, whatever its parts, and draws nothing at random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_encoder_models import FAMILY as READERS
from test_encoder_models import HEADS
from test_language_models import FAMILY as WRITERS
from test_models import FAMILY as TRANSLATORS
from torch import nn

from seqloom.models.assemblies import make_model, unallocated
from seqloom.models.word_vectors import Word2Vec, Word2VecConfig
from seqloom.nn.embedders import PatchConfig

V = 17


def parameters(model: nn.Module) -> dict[str, tuple[torch.Size, bool]]:
    return {name: (p.shape, p.requires_grad) for name, p in model.named_parameters()}


@pytest.mark.parametrize("config", [*WRITERS, *READERS, *TRANSLATORS], ids=lambda config: config.kind)
def test_the_parameters_are_those_of_the_real_model(config: Any) -> None:
    heads = HEADS if config.kind == "encoder-only" else {}
    vocab_size = 0 if isinstance(getattr(config, "embedder", None), PatchConfig) else V
    before = torch.get_rng_state()
    with unallocated():
        model = make_model(config, vocab_size, heads)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in model.parameters())
    assert parameters(model) == parameters(make_model(config, vocab_size, heads))


def test_word_vectors() -> None:
    config = Word2VecConfig(width=7, shortest=2, longest=3, buckets=19)
    with unallocated():
        model = Word2Vec(config, V, 1)
    assert model.input.is_meta
    assert parameters(model) == parameters(Word2Vec(config, V, 1))
