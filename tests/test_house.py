"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import seqloom
from seqloom.cli.doctor import WHAT_FOR

PACKAGE = Path(seqloom.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "numpy", "tokenizers", "sacrebleu", "transformers"}
LARGEST_FILE, LARGEST_FUNCTION, MOST_PARAMETERS = 300, 45, 8
LARGEST_TRACKED = 150_000  # bytes; docs/config.md has the keys of all tasks


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported(*words: str) -> set[str]:
    """The top-level packages that a fresh Python imports to run the given words."""
    result = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.split("\n") if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "words", [["-c", "import seqloom"], ["-m", "seqloom", "--help"], ["-m", "seqloom", "--version"]]
)
def test_nothing_heavy_is_imported_before_it_is_needed(words: list[str]) -> None:
    found = imported(*words)
    assert "seqloom" in found
    assert not found & HEAVY


@pytest.fixture
def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    path = PACKAGE.parent / "pyproject.toml"
    if not path.exists():
        pytest.skip("seqloom is installed away from its source")
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return table


def test_the_version_is_that_of_the_project(project: dict[str, Any]) -> None:
    assert project["version"] == seqloom.__version__


def test_what_the_project_asks_for_is_pinned_within_its_range(project: dict[str, Any]) -> None:
    lines = (PACKAGE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]  # an option or a path is no requirement
    assert [str(pin) for pin in pins if pin.url or [s.operator for s in pin.specifier] != ["=="]] == []
    for asked in map(Requirement, chain(project["dependencies"], *project["optional-dependencies"].values())):
        versions = [next(iter(pin.specifier)).version for pin in pins if pin.name == asked.name]
        assert versions, f"{asked.name} has no pin: make lock"
        assert all(version in asked.specifier for version in versions), f"{asked}: {versions}"


def extras_named_by_errors() -> set[str]:
    """The last argument of every MissingExtra(...) and optional(...) in the package."""
    calls = [node for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    calls = [node for node in calls if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named = [node.args[-1] for node in calls if node.func.id in ("MissingExtra", "optional")]
    return {ast.literal_eval(extra) for extra in named if isinstance(extra, ast.Constant)}


def test_the_extras_are_those_that_doctor_explains_and_errors_name(project: dict[str, Any]) -> None:
    extras = set(project["optional-dependencies"]) - {"test", "bench"}
    assert set(WHAT_FOR) == extras
    assert extras_named_by_errors() == extras


def test_the_public_names_exist() -> None:
    for name in seqloom.__all__:
        assert getattr(seqloom, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        seqloom.lod  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_says_what_it_is_and_stays_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "has no docstring"
    code = [line for line in text.split("\n") if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= LARGEST_FILE


def too_large(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    a = node.args
    parameters = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.arg not in ("self", "cls")]
    return length > LARGEST_FUNCTION or len(parameters) > MOST_PARAMETERS


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_stays_small(path: Path) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, functions)]
    assert [node.name for node in nodes if too_large(node)] == []


def test_no_data_is_committed() -> None:
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a clone: there is no telling what is committed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    tracked = [root / name for name in listed.split("\0") if name]
    assert [str(p) for p in tracked if p.is_file() and p.stat().st_size > LARGEST_TRACKED] == []


@pytest.mark.parametrize(
    ("given", "set_"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")]
)
def test_the_command_line_lets_waiting_threads_yield_and_the_library_does_not(given, set_):
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    for code, wanted in (
        ("import seqloom.cli as c; c.main(['runs', '.']); print(os.environ.get('GOMP_SPINCOUNT'))", set_),
        (
            "import seqloom.cli, seqloom.tasks.task; print(os.environ.get('GOMP_SPINCOUNT'))",
            given.get("GOMP_SPINCOUNT", "None"),
        ),
    ):
        result = subprocess.run(
            [sys.executable, "-c", f"import os; {code}"], env=clean | given, capture_output=True, text=True, timeout=120
        )
        assert result.stdout.split()[-1] == wanted, result.stderr
