"""Series of values from tables with a line for each time step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seqloom.data.formats.labelled import TAB, records
from seqloom.data.formats.lines import file_format
from seqloom.data.formats.series import Layout, Series, infinite
from seqloom.errors import DataError, nearest

_CELL = "write numbers; a missing value is an empty cell, NaN or ?"
_MISSING = frozenset(("", "?", "nan"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LARGEST = float(np.finfo(np.float32).max)


def _columns(names: Sequence[str], layout: Layout, path: Path) -> list[str]:
    """The columns that are values. Raises DataError for one to be left out that there is not, and for no names."""
    for name in layout.leave_out:
        if name not in names:
            raise DataError(f"no column {name!r} to leave out", where=f"{path}:1", cure=nearest(name, names))
    columns = [name for name in names if name not in (layout.label, *layout.leave_out)]
    numbers = [float(name) for name in columns if _NUMBER.fullmatch(name)]
    if len(numbers) == len(columns) and any(b - a != 1 for a, b in pairwise(numbers)):
        cure = "begin it with a line that names the columns; they may be numbers that count, 0, 1, 2, ..."
        raise DataError("the first line has values in place of names", where=f"{path}:1", cure=cure)
    return columns


def from_table(path: Path, layout: Layout) -> Iterator[Series]:
    """The one series of a table. Raises DataError."""
    rows, labels, places = list[list[float]](), list[str](), list[str]()
    columns: list[str] | None = None
    for record, where in records(path, True, 1, "," if file_format(path) == ".csv" else TAB):
        columns = _columns([*record], layout, path) if columns is None else columns
        rows.append([value_of(record[name], where, f"of the column {name!r}") for name in columns])
        labels.append(str(record.get(layout.label, "")).strip())
        places.append(where)
    if rows:
        yield Series(np.array(rows), labels if any(labels) else (), places, stream=True, channels=tuple(columns or ()))


def value_of(cell: Any, where: str, which: str) -> float:
    """The number of a cell, NaN where it is missing. Raises DataError."""
    text = str(cell).strip()
    if text.lower() in _MISSING:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        cure = f"{_CELL}; data.leave_out of the config names columns that are not read"
        raise DataError(f"the value {text[:40]!r} {which} is no number", where=where, cure=cure) from None
    if abs(value) > _LARGEST:
        raise infinite(where)
    return value
