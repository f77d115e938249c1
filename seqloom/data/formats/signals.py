"""Series of values: NPZ, JSON lines, tables with a line for each time step, and .ts of the UCR and UEA archives."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seqloom.data.formats.arrays import DAMAGED, check_unpacked, labels_in, named, npz_arrays
from seqloom.data.formats.lines import file_format, is_blank, json_records, read_each, text_of
from seqloom.data.formats.series import Axes, Layout, Series, infinite
from seqloom.data.formats.series_tables import from_table, value_of
from seqloom.data.rows import LabelledArray, TaggedArray
from seqloom.errors import DataError, UsageError, counted, nearest
from seqloom.limits import LengthOrZero

_KEYS = ("values", "series")
_NPZ = "write numpy.savez(FILE, values=..., label=...); data.values and data.label choose other names"
_JSON = 'write {"label": "...", "series": [[...], ...]}: equally many numbers, or null, for each time step'
_NOTHING = "has no series", "name a file of series"


@dataclass(frozen=True)
class Cut:
    """How streams are cut into series.

    Args:
        window: a stream (a table, or an array TC) is cut into windows of so many steps, each with its most frequent
            label; 0 = a stream is one series.
        stride: steps from the start of one window to that of the next; 0 = as many as a window has.
        onsets: the name of an array of the first steps, from 0, of the events of a stream in .npz, each of which has a
            label and is one series: of `window` steps, or up to the next.
    """

    window: LengthOrZero = 0
    stride: LengthOrZero = 0
    onsets: str = ""


_UNCUT = Cut()


def read_signals(paths: Sequence[str], layout: Layout, *, labelled: bool, cut: Cut = _UNCUT) -> list[LabelledArray]:
    """The series (T C) of some files, as float32 with NaN for a missing value.

    Raises DataError or UsageError at the first fault.

    Args:
        paths: the files.
        layout: how series lie in them.
        labelled: whether each must have a label.
        cut: how streams are cut.
    """

    def each(path: Path) -> Iterator[LabelledArray]:
        if cut.onsets:
            return _events(path, layout, cut)
        series = _in_file(path, layout, labelled)
        return (row for one in series for row in (_windows(one, cut) if one.stream else [_whole(one)]))

    def read(path: Path) -> Iterator[LabelledArray]:
        for row in each(path):
            if labelled and is_blank(row.label):
                cure = f"give each series one as {layout.label!r}; data.label chooses another name"
                raise DataError("a series without a label", where=row.where, cure=cure)
            label = named(row.label, layout.names, row.where)
            yield replace(row, values=checked(row.values, row.where), label=label)

    return read_each(paths, read, *_NOTHING)


def read_steps(paths: Sequence[str], layout: Layout, *, labelled: bool) -> list[LabelledArray]:
    """The same with a label for each step, as TaggedArray; a stream is one series."""

    def rows(series: Series) -> Iterator[LabelledArray]:
        where, labels = series.places[0] if series.places else "", series.labels
        if labelled and len(labels) != len(series.values):
            steps, given = counted(len(series.values), "time step"), counted(len(labels), "label")
            raise DataError(f"{steps} and {given}", where=where, cure=f"give each step one as {layout.label!r}")
        if labelled and any(map(is_blank, labels)):
            step = next(i for i, label in enumerate(labels) if is_blank(label))
            raise DataError("a time step without a label", where=series.place(step), cure="give each step one")
        tags = [named(label, layout.names, series.place(i)) for i, label in enumerate(labels)]
        yield TaggedArray(checked(series.values, where), "", where, tuple(tags), channels=series.channels)

    return read_each(
        paths, lambda path: (row for one in _in_file(path, layout, labelled) for row in rows(one)), *_NOTHING
    )


class Places:
    """Series of files by their places: FILE where it has one series, FILE:NUMBER as messages name one of several, and
    FILE:NUMBER+NUMBER for some of them, one after the other.

    Args:
        read: (file) -> its series.
    """

    def __init__(self, read: Callable[[str], Sequence[LabelledArray]]) -> None:
        self._read = read
        self._files: dict[str, dict[str, LabelledArray]] = {}

    def file(self, name: str) -> dict[str, LabelledArray]:
        """The series of a file by place."""
        if name not in self._files:
            self._files[name] = {row.where: row for row in self._read(name)}
        return self._files[name]

    def named(self, name: str) -> list[str]:
        """The places of all series of a file, or a place itself."""
        return [name] if _NUMBERS.fullmatch(name) else [*self.file(name)]

    def __call__(self, place: str) -> LabelledArray:
        """The series at a place. Raises UsageError, DataError."""
        if (match := _NUMBERS.fullmatch(place)) is None:
            rows = [*self.file(place).values()]
            if len(rows) > 1:
                raise UsageError(f"has {len(rows):,} series", where=place, cure=f"name one, like {rows[0].where}")
            return rows[0]
        rows, series = [], self.file(match[1])
        for number in match[2].split("+"):
            if (where := f"{match[1]}:{number}") not in series:
                first, *_, last = [*series] * 2
                raise UsageError(f"has no series {number}", where=match[1], cure=f"name one from {first} to {last}")
            rows.append(series[where])
        if len({row.values.shape[1] for row in rows}) > 1:
            raise DataError("series with other numbers of channels", where=place, cure="join series of one kind")
        return replace(rows[0], values=np.concatenate([row.values for row in rows]), where=place)


_NUMBERS = re.compile(r"(.+):(\d+(?:\+\d+)*)")


def _in_file(path: Path, layout: Layout, labelled: bool) -> Iterator[Series]:
    """The series of a file; without their labels where none are asked for, which may then change within a series."""
    return (series if labelled else replace(series, labels=()) for series in _of_format(path, layout))


def _of_format(path: Path, layout: Layout) -> Iterator[Series]:
    kind = file_format(path)
    if kind == ".npz":
        return _from_arrays(path, layout)
    if kind == ".jsonl":
        return _from_json(path, layout)
    if kind in (".csv", ".tsv"):
        return from_table(path, layout)
    if kind == ".ts":
        return _from_archive(path)
    cure = "name .npz, .jsonl, .ts, or a .csv or .tsv with a line for each time step"
    raise UsageError("not a file of series", where=str(path), cure=cure)


def checked(values: np.ndarray, where: str) -> np.ndarray:
    """The values of a series as float32. Raises DataError where there are none, or some are infinite."""
    with np.errstate(over="ignore"):
        checked = np.ascontiguousarray(values, dtype=np.float32)
    if not checked.size or np.isnan(checked).all():
        raise DataError("a series without values", where=where, cure="remove it")
    if np.isinf(checked).any():
        raise infinite(where)
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


def _steps_first(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray | None, Axes]:
    """The values as ([N] T C), their labels, and what the axes were."""
    values, given, axes = axes_of(path, layout)
    if "C" not in axes:
        return values[..., None], given, axes
    return values.swapaxes(-1, -2) if axes.endswith("CT") else values, given, axes


def _from_arrays(path: Path, layout: Layout) -> Iterator[Series]:
    values, given, axes = _steps_first(path, layout)
    if "N" not in axes:
        labels = () if given is None else labels_in(given, len(values), "steps", path)
        yield Series(values, labels, [f"{path}:{i + 1}" for i in range(len(values))], stream=True)
        return
    each: Sequence[Sequence[str]] = [()] * len(values)
    if given is not None and given.ndim == 2 and len(given) == len(values):
        each = [labels_in(row, values.shape[1], "steps", path) for row in given]
    elif given is not None:
        each = [[label] for label in labels_in(given, len(values), "series", path)]
    for i, series in enumerate(values):
        yield Series(series, each[i], [f"{path}:{i + 1}"])


def _whole(series: Series) -> LabelledArray:
    """A series with one label."""
    if len(series.labels) > 1:
        cure = "task = 'tag' learns the labels of steps"
        raise DataError("a label for each step, not for the series", where=series.places[0], cure=cure)
    return LabelledArray(series.values, next(iter(series.labels), ""), series.places[0])


def _events(path: Path, layout: Layout, cut: Cut) -> Iterator[LabelledArray]:
    """The series of a stream that begin at its onsets, each of `window` steps, or up to the next onset."""
    if file_format(path) != ".npz":
        raise UsageError("only .npz has onsets", where=str(path), cure="leave data.onsets out")
    values, given, axes = _steps_first(path, layout)
    first = npz_arrays(path, "series", _NPZ).get(cut.onsets)
    if "N" in axes or first is None or first.ndim != 1 or first.dtype.kind not in "iu" or not first.size:
        problem = f"no list of whole numbers {cut.onsets!r}" if "N" not in axes else f"series {axes} have no onsets"
        cure = "data.onsets names the first steps, from 0, of the events of one stream, of data.axes TC or CT"
        raise DataError(problem, where=str(path), cure=cure)
    labels = None if given is None else labels_in(given, len(first), "onsets", path)
    edges = [*first.tolist(), len(values)]
    for i, (at, following) in enumerate(pairwise(edges)):
        end = at + cut.window if cut.window else following
        if not (0 <= at < following and end <= len(values)):
            then = f", and the next begins at {following:,}" if i + 1 < len(first) else ""
            problem = f"event {i + 1} has steps {at:,} to {end:,} of {len(values):,}{then}"
            cure = "write rising onsets within the stream, and choose a data.window that its end has room for"
            raise DataError(problem, where=str(path), cure=cure)
        yield LabelledArray(values[at:end], "" if labels is None else labels[i], f"{path}:{at + 1}")


def _windows(series: Series, cut: Cut) -> Iterator[LabelledArray]:
    """A stream as one series; or its windows, each with its most frequent label."""
    values, labels, places = series.values, series.labels, series.places
    width = cut.window or len(values)
    if len(values) < width:
        problem = f"has {counted(len(values), 'time step')}, and data.window is {width:,}"
        raise DataError(problem, where=places[0] if places else "", cure="choose a shorter window")
    for first in range(0, len(values) - width + 1, cut.stride or width):
        seen = Counter(labels[first : first + width] or ("",))
        if len(seen) > 1 and not cut.window:
            at = next(i for i, label in enumerate(labels) if label != labels[0])
            cure = "data.window = 64 cuts windows of 64 steps, each with its most frequent label"
            raise DataError("the label changes within the series", where=places[at], cure=cure)
        label = seen.most_common(1)[0][0]
        yield LabelledArray(values[first : first + width], label, places[first], channels=series.channels)


def numbers(series: Any, where: str) -> np.ndarray:
    """The numbers of a series in JSON, NaN for null. Raises DataError."""
    try:
        return np.array(series, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError("a series of steps that differ, or are no numbers", where=where, cure=_JSON) from None


def sent_series(
    data: bytes, form: str, number: int, where: str, read: Callable[[Sequence[str]], Sequence[LabelledArray]]
) -> LabelledArray:
    """A series of a file that others sent.

    Args:
        data: the bytes of the file.
        form: what its name ends in: "csv", ...
        number: which of its series, from 1; 0 = there is one.
        where: what messages call it.
        read: (files) -> their series.

    Raises DataError.
    """
    with tempfile.TemporaryDirectory(prefix="seqloom-") as folder:
        path = Path(folder, f"sent.{form}")
        path.write_bytes(data)
        try:
            if form == "npz":
                with suppress(*DAMAGED):  # which reading it reports
                    check_unpacked(path, _MOST_SENT)
            rows = read([str(path)])
        except (DataError, UsageError) as error:
            raise DataError(error.problem, where=error.where.replace(str(path), where), cure=error.cure) from None
    if (len(rows) > 1 and not number) or number > len(rows):
        raise DataError(f"has {len(rows):,} series", where=where, cure="name one of them by its number, from 1")
    return rows[number - 1 if number else 0]


_MOST_SENT = 1 << 26
"""The most bytes that an .npz of others unpacks to."""


def _from_json(path: Path, layout: Layout) -> Iterator[Series]:
    for record, where in json_records(path, "one JSON object per line, with null for a missing value"):
        key = layout.values or next((key for key in _KEYS if key in record), "")
        values = numbers(record.get(key), where)
        if values.ndim not in (1, 2):
            problem = f"{key!r} is no list of time steps, or one of lists that are too deep"
            if key not in record:
                problem = f"no series {layout.values or 'values or series'!r} of time steps"
            raise DataError(problem, where=where, cure=f"{_JSON}; data.values chooses another key")
        values = values[:, None] if values.ndim == 1 else values.T if layout.axes.endswith("CT") else values
        label = record.get(layout.label)
        labels = label if isinstance(label, list) else [label]
        yield Series(values, ["" if each is None else str(each).strip() for each in labels], [where])


def _from_archive(path: Path) -> Iterator[Series]:
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


def _archived(line: str, where: str, head: Mapping[str, str]) -> Series:
    if head.get("timestamps", "").startswith("true"):
        raise DataError("series with time stamps are not read", where=where, cure="write one value for each step")
    channels, label = line.split(":"), ""
    if head.get("classlabel", "true").startswith("true"):
        *channels, label = (cell.strip() for cell in channels)
        label, labels = "" if label == "?" else label, head.get("classlabel", "").split()[1:]
        if label and labels and label.lower() not in labels:
            raise DataError(f"the label {label!r} is not in @classLabel", where=where, cure=nearest(label, labels))
    values = [
        [value_of(cell, where, f"of dimension {i}") for cell in row.split(",")] for i, row in enumerate(channels, 1)
    ]
    if len({len(row) for row in values}) != 1 or head.get("dimensions", str(len(values))) != str(len(values)):
        lengths = ", ".join(str(len(row)) for row in values) or "no"
        problem = f"{lengths} values in its {counted(len(values), 'dimension')}"
        raise DataError(problem, where=where, cure="write as many dimensions as @dimensions says, of one length")
    return Series(np.array(values).T, [label], [where])
