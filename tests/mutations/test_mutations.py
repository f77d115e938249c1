"""Whether the tests notice when a line of wiring is cut: mutations.toml, one after the other, on copies of the tree.

pytest tests/mutations -m slow
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MUTATIONS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("mutations.toml").read_text("utf-8"))
COPIED = ("seqloom", "tests", "pyproject.toml")


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_mutated_and_the_tests_that_notice_it_are_there(name: str) -> None:
    mutation = MUTATIONS[name]
    assert mutation.keys() == {"file", "text", "replacement", "tests"}
    assert (ROOT / mutation["file"]).read_text("utf-8").count(mutation["text"]) == 1
    assert mutation["tests"]
    for test in mutation["tests"]:
        file, *_, function = test.partition("[")[0].split("::")
        assert f"def {function}(" in (ROOT / file).read_text("utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that the tests need."""
    folder = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def outcome(tree: Path, tests: list[str]) -> tuple[set[str], str]:
    """The functions among some tests that fail there, and what pytest wrote."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return {test for test in tests if any(f == test or f.startswith(f"{test}[") for f in failed)}, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_without_a_mutation_nothing_fails(tree: Path) -> None:
    failed, output = outcome(tree, sorted({test for mutation in MUTATIONS.values() for test in mutation["tests"]}))
    assert not failed, output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(name: str, tree: Path) -> None:
    mutation = MUTATIONS[name]
    file = tree / mutation["file"]
    whole = file.read_text("utf-8")
    file.write_text(whole.replace(mutation["text"], mutation["replacement"]), encoding="utf-8")
    try:
        failed, output = outcome(tree, mutation["tests"])
    finally:
        file.write_text(whole, encoding="utf-8")
    assert failed == {*mutation["tests"]}, output
