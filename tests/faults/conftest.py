from __future__ import annotations

from pathlib import Path

import pytest
from calls import SMALL, call
from kinds import KINDS, Kind, make_run

__all__ = ["SMALL", "call"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of runs that were asked for so far; see `folder_of`."""
    return {"": tmp_path_factory.mktemp("faults")}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def whole(kind: Kind, made: dict[str, Path]) -> Path:
    """A folder with data, small.toml and the run it makes, run/, of one kind. Not to be changed."""
    if kind.name not in made:
        made[kind.name] = make_run(kind, made[""] / kind.name)
    return made[kind.name]
