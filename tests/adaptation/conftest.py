from pathlib import Path

import pytest
from adapted import BASES
from calls import call, train_in
from faults.kinds import KINDS

__all__ = ["call"]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each task: translate/run, ..."""
    folder = tmp_path_factory.mktemp("bases")
    for name, config in BASES.items():
        (folder / name).mkdir()
        KINDS[name].write(folder / name)
        (folder / name / "small.toml").write_text(config, encoding="utf-8")
        train_in(folder / name)
    return folder
