"""Options and output that several verbs share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.errors import DataError

Overrides = Annotated[
    str, Parameter(allow_leading_hyphen=True, help="Config keys: --section.key VALUE ... (e.g. --training.steps 1000).")
]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Only warnings.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="Every step as a line.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="The result as JSON on standard output.")]


def verbosity(quiet: bool, verbose: bool) -> int:
    """0, 1 or 2."""
    return 0 if quiet else 2 if verbose else 1


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


class Right(str):
    """A text that stands to the right in its column, as numbers do."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    # No frame, because ten columns must fit into the 80 of a terminal.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        numeric = all(row[i] is None or isinstance(row[i], (int, float, Right)) for row in rows) and bool(rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_shown, row))
    Console(file=sys.stdout, highlight=False, markup=False).print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def check_typed(texts: Sequence[str]) -> None:
    """Raises DataError for a text of the command line that was not UTF-8."""
    for number, text in enumerate(texts, start=1):
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise DataError("is not UTF-8", where=f"text {number}", cure="give the text in UTF-8")
