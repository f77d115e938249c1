from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from seqloom.errors import RunError
from seqloom.files import WEIGHTS
from seqloom.models.assemblies import vocabulary_parameters
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.nn.heads import MaskedTokenHead
from seqloom.nn.transformer import TransformerConfig
from seqloom.training.checkpoint import load_weights, save_weights, saved_weights, start_weights


def test_weights_by_name(tmp_path: Path) -> None:
    first, second = nn.Linear(3, 5), nn.Linear(3, 5)
    save_weights(tmp_path / WEIGHTS, dict(first.named_parameters()))
    load_weights(tmp_path, second)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_weights_that_do_not_fit_are_listed_and_change_nothing(tmp_path: Path) -> None:
    model = nn.Linear(3, 5)
    before = model.weight.clone()
    save_weights(tmp_path / WEIGHTS, {"weight": torch.zeros(5, 7), "scale": torch.zeros(2)})
    with pytest.raises(RunError, match=r"missing bias; unknown scale; weight is \(5, 7\) instead of \(5, 3\)"):
        load_weights(tmp_path, model)
    assert torch.equal(model.weight, before)


def start(folder: Path, model: nn.Module, grown: Mapping[str, int]) -> None:
    with saved_weights(folder) as weights:
        start_weights(weights, model, str(folder), grown=grown)


def language_model(words: int) -> LanguageModel:
    stack = TransformerConfig(layers=1, width=7, inner=7, heads=1, bias=True)
    return LanguageModel(DecoderOnlyConfig(decoder=stack, tie=False), words)


def test_only_what_has_a_row_a_word_grows_though_others_have_as_many_rows(tmp_path: Path) -> None:
    first, second = language_model(7), language_model(11)
    save_weights(tmp_path / WEIGHTS, dict(first.named_parameters()))
    assert set(vocabulary_parameters(second)) == {"embedder.weight", "head.weight"}
    start(tmp_path, second, grown=dict.fromkeys(vocabulary_parameters(second), 7))
    old = dict(first.named_parameters())
    for name, parameter in second.named_parameters():
        assert torch.equal(parameter[: len(old[name])], old[name])
        if name in vocabulary_parameters(second):
            torch.testing.assert_close(parameter[7:].detach(), old[name].detach().mean(0).expand(4, -1))


def test_nothing_grows_that_was_not_asked_to(tmp_path: Path) -> None:
    save_weights(tmp_path / WEIGHTS, {"weight": torch.zeros(5, 3), "bias": torch.zeros(5)})
    for grown in ({}, {"bias": 5}, {"weight": 5}, {"weight": 4, "bias": 4}):
        with pytest.raises(RunError, match=r"is \(5,.* instead of \(7,"):
            start(tmp_path, nn.Linear(3, 7), grown=grown)
    with pytest.raises(RunError, match=r"instead of \(3, 3\)"):  # and nothing shrinks
        start(tmp_path, nn.Linear(3, 3), grown={"weight": 5, "bias": 5})
    start(tmp_path, nn.Linear(3, 7), grown={"weight": 5, "bias": 5})


def test_the_scores_of_words_grow_with_their_table() -> None:
    table = nn.Parameter(torch.zeros(5, 3))
    head = MaskedTokenHead(5, 3, 3, table, nn.LayerNorm(3))
    assert set(vocabulary_parameters(head)) == {"weight", "bias"}
