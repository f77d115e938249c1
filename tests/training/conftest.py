from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from toys import Toy


@pytest.fixture
def make_toy(tmp_path: Path) -> Callable[[str], Toy]:
    return lambda name: Toy(tmp_path / name)


@pytest.fixture
def toy(make_toy: Callable[[str], Toy]) -> Toy:
    return make_toy("toy")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
