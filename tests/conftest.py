from __future__ import annotations

import os
from collections.abc import Iterator

import jaxtyping
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


# Where whole runs are trained and used, the checks of shapes would take half of the time; the same layers have them on
# in the tests of their own and in the contracts.
_UNCHECKED = {"adapted_runs", "adapter_files", "benchmarks", "cli", "faults", "interop", "serving", "tasks"}


@pytest.fixture(autouse=True)
def shapes(request: pytest.FixtureRequest) -> None:
    """Checks the shapes in signatures, or not."""
    parts = request.path.relative_to(request.config.rootpath).parts
    whole = _UNCHECKED & {request.path.stem.removeprefix("test_"), *parts}
    jaxtyping.config.update("jaxtyping_disable", bool(whole))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
