from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toys import Toy


@pytest.fixture
def make_toy(tmp_path: Path) -> Callable[[str], Toy]:
    return lambda name: Toy(tmp_path / name)


@pytest.fixture
def toy(make_toy: Callable[[str], Toy]) -> Toy:
    return make_toy("toy")
