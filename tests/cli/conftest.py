from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from calls import SMALL, call, train_in
from made_up import write_corpus

__all__ = ["call"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text files, small.toml, and the run it makes: run/. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    for name, count, seed in (("train", 60, 1), ("valid", 4, 2), ("test", 12, 3)):
        write_corpus(folder, name, count, seed)
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    train_in(folder)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `trained` that a test may do with what it likes; it is the working directory."""
    copy = tmp_path / "work"
    shutil.copytree(trained, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def seen(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`trained` itself as the working directory, for tests that only read."""
    monkeypatch.chdir(trained)
    return trained
