"""Series of values: NPZ, JSON lines, tables with a line for each time step, and .ts of the UCR and UEA archives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqloom.data.formats.arrays import labels_in, named, npz_arrays
from seqloom.data.formats.labelled import TAB, records
from seqloom.data.formats.lines import file_format, is_blank, json_records, read_each, text_of
from seqloom.data.rows import LabelledArray
from seqloom.errors import DataError, UsageError, counted, nearest
from seqloom.limits import LengthOrZero

Axes = Literal["auto", "NT", "NTC", "NCT", "TC", "CT"]
_KEYS = ("values", "series")
_NPZ = "write numpy.savez(FILE, values=..., label=...); data.values and data.label choose other names"
_JSON = 'write {"label": "...", "series": [[...], ...]}: equally many numbers, or null, for each time step'
_CELL = "write numbers; a missing value is an empty cell, NaN or ?"
_MISSING = frozenset(("", "?", "nan"))


@dataclass(frozen=True)
class Layout:
    """How series lie in files; its keys are those of the source `signals`, see there."""

    values: str = ""
    label: str = "label"
    names: tuple[str, ...] = ()
    axes: Axes = "auto"
    leave_out: tuple[str, ...] = ()
    window: LengthOrZero = 0
    stride: LengthOrZero = 0
    onsets: str = ""


def read_signals(paths: Sequence[str], layout: Layout, *, labelled: bool) -> list[LabelledArray]:
    """The series (T C) of some files, as float32 with NaN for a missing value.

    Raises DataError or UsageError at the first fault. `labelled`: whether each must have a label.
    """

    def read(path: Path) -> Iterator[LabelledArray]:
        for row in _rows(path, layout):
            if labelled and is_blank(row.label):
                cure = f"give each series one as {layout.label!r}; data.label chooses another name"
                raise DataError("a series without a label", where=row.where, cure=cure)
            yield LabelledArray(_checked(row.values, row.where), named(row.label, layout.names, row.where), row.where)

    return read_each(paths, read, "has no series", "name a file of series")


def _rows(path: Path, layout: Layout) -> Iterator[LabelledArray]:
    kind = file_format(path)
    if kind == ".npz":
        return _from_arrays(path, layout)
    if kind == ".jsonl":
        return _from_json(path, layout)
    if kind in (".csv", ".tsv"):
        return _from_table(path, layout)
    if kind == ".ts":
        return _from_archive(path)
    cure = "name .npz, .jsonl, .ts, or a .csv or .tsv with a line for each time step"
    raise UsageError("not a file of series", where=str(path), cure=cure)


def _checked(values: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        checked = np.ascontiguousarray(values, dtype=np.float32)
    if not checked.size or np.isnan(checked).all():
        raise DataError("a series without values", where=where, cure="remove it")
    if np.isinf(checked).any():
        problem, cure = "a value that is infinite, or beyond 3.4e38", "write NaN for a missing value"
        raise DataError(problem, where=where, cure=cure)
    return checked


def axes_of(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray | None, Axes]:
    """The values of an .npz, its labels, and what its axes are: of (N, T, C) and (N, C, T), C is the shorter one."""
    arrays = npz_arrays(path, "series", _NPZ)
    name = layout.values or next((key for key in _KEYS if key in arrays), _KEYS[0])
    if name not in arrays:
        cure = f"choose it with data.values; {nearest(name, arrays)}"
        raise DataError(f"has no array {name!r}", where=str(path), cure=cure)
    values, axes = arrays[name], layout.axes
    if axes == "auto":
        axes = "NT" if values.ndim == 2 else "NCT" if values.ndim == 3 and values.shape[1] < values.shape[2] else "NTC"
    if values.ndim != len(axes) or values.dtype.kind not in "fiub":
        problem = f"{name!r} is {values.dtype} of {values.shape}, and not numbers of {', '.join(axes)}"
        cure = f"set data.axes, to TC for one stream of time steps; {_NPZ}"
        raise DataError(problem, where=str(path), cure=cure)
    return values, arrays.get(layout.label), axes


def _from_arrays(path: Path, layout: Layout) -> Iterator[LabelledArray]:
    values, given, axes = axes_of(path, layout)
    if "C" not in axes:
        values = values[..., None]
    elif axes.endswith("CT"):
        values = values.swapaxes(-1, -2)
    if layout.onsets:
        yield from _events(values, given, axes, layout, path)
        return
    labels = None if given is None else labels_in(given, len(values), "series" if "N" in axes else "steps", path)
    if "N" not in axes:
        yield from _windows(values, labels, layout, [f"{path}:{i + 1}" for i in range(len(values))])
        return
    for i, series in enumerate(values):
        yield LabelledArray(series, "" if labels is None else labels[i], f"{path}:{i + 1}")


def _events(
    values: np.ndarray, given: np.ndarray | None, axes: Axes, layout: Layout, path: Path
) -> Iterator[LabelledArray]:
    """The series of a stream (T C) that begin at its onsets, each of `window` steps, or up to the next onset."""
    first = npz_arrays(path, "series", _NPZ).get(layout.onsets)
    if "N" in axes or first is None or first.ndim != 1 or first.dtype.kind not in "iu" or not first.size:
        problem = f"no list of whole numbers {layout.onsets!r}" if "N" not in axes else f"series {axes} have no onsets"
        cure = "data.onsets names the first steps, from 0, of the events of one stream, of data.axes TC or CT"
        raise DataError(problem, where=str(path), cure=cure)
    labels = None if given is None else labels_in(given, len(first), "onsets", path)
    edges = [*first.tolist(), len(values)]
    for i, (at, following) in enumerate(pairwise(edges)):
        end = at + layout.window if layout.window else following
        if not (0 <= at < following and end <= len(values)):
            then = f", and the next begins at {following:,}" if i + 1 < len(first) else ""
            problem = f"event {i + 1} has steps {at:,} to {end:,} of {len(values):,}{then}"
            cure = "write rising onsets within the stream, and choose a data.window that its end has room for"
            raise DataError(problem, where=str(path), cure=cure)
        yield LabelledArray(values[at:end], "" if labels is None else labels[i], f"{path}:{at + 1}")


def _windows(
    values: np.ndarray, labels: Sequence[str] | None, layout: Layout, places: Sequence[str]
) -> Iterator[LabelledArray]:
    """A stream (T C) as one series; or its windows, each with its most frequent label."""
    width = layout.window or len(values)
    if len(values) < width:
        problem = f"has {counted(len(values), 'time step')}, and data.window is {width:,}"
        raise DataError(problem, where=places[0] if places else "", cure="choose a shorter window")
    for first in range(0, len(values) - width + 1, layout.stride or width):
        seen = Counter(labels[first : first + width]) if labels is not None else Counter([""])
        if len(seen) > 1 and not layout.window:
            at = next(i for i, label in enumerate(labels or ()) if label != (labels or ())[0])
            cure = "data.window = 64 cuts windows of 64 steps, each with its most frequent label"
            raise DataError("the label changes within the series", where=places[at], cure=cure)
        yield LabelledArray(values[first : first + width], seen.most_common(1)[0][0], places[first])


def _from_json(path: Path, layout: Layout) -> Iterator[LabelledArray]:
    for record, where in json_records(path):
        key = layout.values or next((key for key in _KEYS if key in record), "")
        try:
            values = np.array(record.get(key), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise DataError("a series of steps that differ, or are no numbers", where=where, cure=_JSON) from None
        if values.ndim not in (1, 2):
            problem = f"no series {layout.values or 'values or series'!r} of time steps"
            raise DataError(problem, where=where, cure=f"{_JSON}; data.values chooses another key")
        values = values[:, None] if values.ndim == 1 else values.T if layout.axes.endswith("CT") else values
        label = record.get(layout.label, "")
        yield LabelledArray(values, label.strip() if isinstance(label, str) else str(label), where)


def columns_of(names: Sequence[str], layout: Layout, path: Path) -> list[str]:
    """The columns of a table that are values. Raises DataError for one to be left out that it does not have."""
    for name in layout.leave_out:
        if name not in names:
            raise DataError(f"no column {name!r} to leave out", where=f"{path}:1", cure=nearest(name, names))
    return [name for name in names if name not in (layout.label, *layout.leave_out)]


def _from_table(path: Path, layout: Layout) -> Iterator[LabelledArray]:
    rows, labels, places = list[list[float]](), list[str](), list[str]()
    columns: list[str] | None = None
    for record, where in records(path, True, 1, "," if file_format(path) == ".csv" else TAB):
        columns = columns_of([*record], layout, path) if columns is None else columns
        rows.append([_value(record[name], where, f"of the column {name!r}") for name in columns])
        labels.append(str(record.get(layout.label, "")).strip())
        places.append(where)
    if rows:
        yield from _windows(np.array(rows), labels if any(labels) else None, layout, places)


def _value(cell: Any, where: str, which: str) -> float:
    text = str(cell).strip()
    if text.lower() in _MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        cure = f"{_CELL}; data.leave_out names columns that are not read"
        raise DataError(f"the value {text[:40]!r} {which} is no number", where=where, cure=cure) from None


def _from_archive(path: Path) -> Iterator[LabelledArray]:
    """The series of a .ts file: dimensions separated by ":", then the label (timeseriesclassification.com)."""
    head: dict[str, str] = {}
    lines = ((line.strip(), where) for line, where in text_of(path))
    for line, where in ((line, where) for line, where in lines if line and line[0] not in "#%"):
        if line.startswith("@"):
            key, _, value = line[1:].partition(" ")
            head[key.lower()] = value.strip().lower()
            continue
        if "data" not in head:
            raise DataError("values before the line @data", where=where, cure="name a whole .ts file")
        yield _archived(line, where, head)


def _archived(line: str, where: str, head: Mapping[str, str]) -> LabelledArray:
    if head.get("timestamps", "").startswith("true"):
        raise DataError("series with time stamps are not read", where=where, cure="write one value for each step")
    channels, label = line.split(":"), ""
    if head.get("classlabel", "true").startswith("true"):
        *channels, label = channels
    values = [
        [_value(cell, where, f"of dimension {i}") for cell in row.split(",")] for i, row in enumerate(channels, 1)
    ]
    if len({len(row) for row in values}) != 1 or head.get("dimensions", str(len(values))) != str(len(values)):
        lengths = ", ".join(str(len(row)) for row in values) or "no"
        problem = f"{lengths} values in its {counted(len(values), 'dimension')}"
        raise DataError(problem, where=where, cure="write as many dimensions as @dimensions says, of one length")
    return LabelledArray(np.array(values).T, label.strip(), where)
