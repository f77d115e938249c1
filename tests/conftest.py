from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("seqloom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seqloom")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same random tensors, in whatever order the tests run."""
    torch.manual_seed(0)
