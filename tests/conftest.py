from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Tests of the ordinary kinds say what they say of a processor, whatever else the machine has."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("seqloom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seqloom")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same random tensors, in whatever order the tests run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
