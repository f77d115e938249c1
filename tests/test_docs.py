"""The documentation: its Python runs, its lines fit a terminal, its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    path
    for path in (ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY"))
    if path.exists()
]
WITH_PYTHON = [path for path in DOCS if "```python" in path.read_text(encoding="utf-8")]
LONGEST_LINE, WIDEST_TABLE = 120, 160


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec("\n".join(blocks), {})


def test_there_is_a_page_with_python() -> None:
    assert any(page.name == "word-vectors.md" for page in WITH_PYTHON)


def breakable(line: str) -> bool:
    """Whether a line is more than one word after the mark of a list."""
    return len(re.sub(r"^\s*(?:[-*]|\d+\.)\s", "", line).split()) > 1


def tables(text: str) -> Iterator[list[str]]:
    """The tables of a page, each as its lines."""
    for is_table, lines in groupby(text.split("\n"), key=lambda line: line.startswith("|")):
        if is_table:
            yield list(lines)


def width(table: list[str]) -> int:
    """How wide a table is with its columns aligned."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if not set(line) <= set("|-: ")]
    return sum(max(map(len, column)) + 3 for column in zip(*cells, strict=True)) + 1


@pytest.mark.parametrize("page", [*PAGES, *DOCS], ids=name_of)
def test_lines_fit_a_terminal(page: Path) -> None:
    lines = [line for line in page.read_text(encoding="utf-8").split("\n") if not line.startswith("|")]
    assert [line for line in lines if len(line) > LONGEST_LINE and breakable(line)] == []


@pytest.mark.parametrize("page", [*PAGES, *DOCS], ids=name_of)
def test_tables_fit_a_wide_terminal(page: Path) -> None:
    for table in tables(page.read_text(encoding="utf-8")):
        assert max(map(len, table)) <= WIDEST_TABLE, table[0]
        assert width(table) <= WIDEST_TABLE, table[0]


def anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, *DOCS], ids=name_of)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for name, fragment in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        assert target.exists(), name
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{name}#{fragment}"
