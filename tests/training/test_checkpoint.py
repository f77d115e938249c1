from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from seqloom.errors import RunError
from seqloom.training.checkpoint import load_weights, save_weights


def test_weights_by_name(tmp_path: Path) -> None:
    first, second = nn.Linear(3, 5), nn.Linear(3, 5)
    save_weights(tmp_path / "w.safetensors", dict(first.named_parameters()))
    load_weights(tmp_path / "w.safetensors", second)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_weights_that_do_not_fit_are_listed_and_change_nothing(tmp_path: Path) -> None:
    model = nn.Linear(3, 5)
    before = model.weight.clone()
    save_weights(tmp_path / "w.safetensors", {"weight": torch.zeros(5, 7), "scale": torch.zeros(2)})
    with pytest.raises(RunError, match=r"missing bias; unknown scale; weight is \(5, 7\) instead of \(5, 3\)"):
        load_weights(tmp_path / "w.safetensors", model)
    assert torch.equal(model.weight, before)
