from __future__ import annotations

from pathlib import Path

import pytest
from calls import SMALL, call
from kinds import KINDS, Kind, make_run

__all__ = ["SMALL", "call"]


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="session")
def whole(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, small.toml and the run it makes, run/, of one kind. Not to be changed."""
    return make_run(kind, tmp_path_factory.mktemp("faults") / kind.name)
