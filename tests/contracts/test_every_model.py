"""What holds for every model, whatever its form: every member of the other contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_adapted import LANGUAGE, READING, VISION, subject_of
from test_models import CHOICES, FAMILY, config_of

from seqloom.config import load, to_toml
from seqloom.models.encoder import EncoderOnlyConfig

every = pytest.mark.parametrize(
    "config", [*map(config_of, CHOICES), *FAMILY, *READING, *LANGUAGE, VISION], ids=lambda config: config.kind
)


@every
def test_a_config_comes_back_from_toml(config: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load(type(config), path) == config


@every
def test_weights_loaded_elsewhere_give_the_same_bits(config: Any) -> None:
    subject, other = subject_of(config), subject_of(config)
    expected = subject.outputs()
    for parameter in other.model.parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.equal(other.outputs(), expected)
    other.model.load_state_dict(subject.model.state_dict())
    assert torch.equal(other.outputs(), expected)


@every
def test_every_parameter_has_a_finite_gradient(config: Any) -> None:
    subject = subject_of(config)
    subject.model.train()
    outputs = subject.outputs()
    (outputs * torch.linspace(-1, 1, outputs.shape[-1])).sum().backward()
    for name, parameter in subject.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any() or isinstance(config, EncoderOnlyConfig), name
