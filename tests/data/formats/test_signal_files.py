"""Series of values in the files people have: NPZ, JSON lines, tables, .ts; and what is wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqloom.data.formats.series import Layout
from seqloom.data.formats.signals import Cut, Places, read_signals
from seqloom.data.rows import LabelledArray, digest_rows
from seqloom.data.sources.signals import SignalFiles
from seqloom.errors import DataError, SeqloomError, UsageError

VALUES = np.random.default_rng(1).normal(size=(5, 7, 2)).astype(np.float32)  # N T C
VALUES[1, 3, 0] = np.nan
LABELS = ["up", "down", "up", "flat", "down"]


def read(path: Path, *, labelled: bool = True, **keys: Any) -> list[LabelledArray]:
    cut = {key: keys.pop(key) for key in ("window", "stride", "onsets") if key in keys}
    return read_signals([str(path)], Layout(**keys), labelled=labelled, cut=Cut(**cut))


def text(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def json_line(values: np.ndarray, label: str) -> str:
    steps = [[None if np.isnan(v) else v for v in step] for step in values.astype(np.float64).tolist()]
    return json.dumps({"label": label, "series": steps})


def cells(row: np.ndarray) -> str:
    return ",".join("?" if np.isnan(v) else repr(float(v)) for v in row)


def refused(message: str, path: Path, error: type[SeqloomError] = DataError, **layout: Any) -> None:
    with pytest.raises(error, match=message):
        read(path, **layout)


def test_all_forms_hold_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=VALUES, label=np.array(LABELS))
    expected = read(tmp_path / "a.npz")
    assert [row.label for row in expected] == LABELS
    assert [row.where for row in expected] == [f"{tmp_path / 'a.npz'}:{i}" for i in range(1, 6)]
    np.testing.assert_array_equal(np.stack([row.values for row in expected]), VALUES)
    digest = digest_rows(expected)
    np.savez(tmp_path / "b.npz", x=VALUES.swapaxes(1, 2), kind=np.array([1, 0, 1, 2, 0]))
    named = {"values": "x", "label": "kind", "names": ("down", "up", "flat")}
    assert digest_rows(read(tmp_path / "b.npz", **named)) == digest
    assert digest_rows(read(tmp_path / "b.npz", axes="NTC", **named)) != digest
    lines = [json_line(v, k) for v, k in zip(VALUES, LABELS, strict=True)]
    assert digest_rows(read(text(tmp_path / "c.jsonl", *lines))) == digest
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    assert digest_rows(read(tmp_path / "d.jsonl.gz")) == digest
    archive = ["# x", "@problemName x", "@dimensions 2", "@classLabel true up down flat", "@data"]
    archive += [f"{cells(v[:, 0])}:{cells(v[:, 1])}:{k}" for v, k in zip(VALUES, LABELS, strict=True)]
    assert digest_rows(read(text(tmp_path / "e.ts", *archive))) == digest
    table = ["at\tx\ty\tlabel", *(f"{t}\t{cells(VALUES[1, t]).replace(',', chr(9))}\tdown" for t in range(7))]
    found = read(text(tmp_path / "f.tsv", *table), leave_out=("at",))
    assert digest_rows(found) == digest_rows(expected[1:2])


def test_a_matrix_is_series_of_one_channel_and_a_list_of_numbers_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=VALUES[..., 1], label=np.arange(5))
    rows = read(tmp_path / "a.npz")
    assert {row.values.shape for row in rows} == {(7, 1)}
    line = json.dumps({"label": 3, "values": VALUES[2, :, 1].astype(float).tolist()})
    assert digest_rows(read(text(tmp_path / "b.jsonl", line)))
    np.testing.assert_array_equal(read(tmp_path / "b.jsonl")[0].values, rows[2].values)
    assert read(tmp_path / "b.jsonl")[0].label == "3"


def test_a_stream_is_cut_into_windows(tmp_path: Path) -> None:
    stream, labels = np.arange(20.0).reshape(10, 2), np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    np.savez(tmp_path / "a.npz", values=stream, label=labels)
    rows = read(tmp_path / "a.npz", axes="TC", window=4, stride=3)
    assert [(row.label, float(row.values[0, 0]), len(row.values)) for row in rows] == [
        ("0", 0, 4),
        ("0", 6, 4),
        ("1", 12, 4),
    ]
    np.savez(tmp_path / "b.npz", values=stream.T)
    found = read(tmp_path / "b.npz", axes="CT", labelled=False)
    np.testing.assert_array_equal(found[0].values, stream)
    refused(r"a.npz:6: the label changes within the series\n  data.window = 64", tmp_path / "a.npz", axes="TC")
    refused("has 10 time steps, and data.window is 11", tmp_path / "a.npz", axes="TC", window=11)


def test_the_events_of_a_stream_are_series(tmp_path: Path) -> None:
    path, stream = tmp_path / "a.npz", np.arange(20.0).reshape(10, 2)
    events = {"onset": np.array([1, 4, 8]), "code": np.array([2, 0, 2])}
    np.savez(path, values=stream.T, **events)
    rows = read(path, axes="CT", label="code", onsets="onset")
    assert [(row.label, row.where) for row in rows] == [("2", f"{path}:2"), ("0", f"{path}:5"), ("2", f"{path}:9")]
    for row, (first, end) in zip(rows, [(1, 4), (4, 8), (8, 10)], strict=True):
        np.testing.assert_array_equal(row.values, stream[first:end])
    for row, first in zip(read(path, axes="CT", label="code", onsets="onset", window=2), [1, 4, 8], strict=True):
        np.testing.assert_array_equal(row.values, stream[first : first + 2])
    assert [row.label for row in read(path, axes="CT", onsets="onset", labelled=False)] == ["", "", ""]
    more: Any = {"axes": "CT", "label": "code"}
    refused("event 3 has steps 8 to 11 of 10", path, onsets="onset", window=3, **more)
    refused("event 1 has steps 2 to 0 of 10, and the next begins at 0", path, axes="CT", label="onset", onsets="code")
    refused("no list of whole numbers 'onsets'\n  data.onsets names", path, onsets="onsets", **more)
    refused("no list of whole numbers 'values'", path, onsets="values", **more)
    np.savez(path, values=VALUES, **events)
    refused("series NTC have no onsets", path, onsets="onset", axes="NTC")
    np.savez(path, values=stream, onset=events["onset"], code=np.array([2, 0]))
    refused("3 onsets and 2 labels", path, axes="TC", label="code", onsets="onset")


def test_what_is_held_out_of_a_stream_overlaps_nothing_that_is_learned() -> None:
    rows = [LabelledArray(np.zeros((8, 1)), str(i % 2), str(i)) for i in range(40)]
    train, valid, message = SignalFiles(("x",), window=8, stride=3).hold_out(rows, 1)
    assert [row.where for row in valid] == ["36", "37", "38", "39"]
    assert int(train[-1].where) * 3 + 8 <= 36 * 3
    assert len(train) == 34
    assert "the last 4 windows" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"label": "a", "series": [[1, 2], [3]]}', "a series of steps that differ, or are no numbers"),
        ('{"label": "a", "series": [[1, "x"]]}', "a series of steps that differ, or are no numbers"),
        ('{"label": "a", "series": [[1, 1e39]]}', "a value that is infinite, or beyond 3.4e38"),
        ('{"label": "a", "series": [[NaN]]}', "not JSON.*\n.*with null for a missing value"),
        ('{"label": "a", "series": [[null]]}', "a series without values"),
        ('{"label": "a", "series": []}', "a series without values"),
        ('{"label": "a"}', "no series 'values or series' of time steps"),
        ('{"label": "a", "series": [[[1]]]}', "'series' is no list of time steps, or one of lists that are too deep"),
        ('{"series": [[1]]}', "a series without a label"),
    ],
)
def test_faulty_lines_are_named(line: str, message: str, tmp_path: Path) -> None:
    path = text(tmp_path / "a.jsonl", '{"label": "a", "series": [[1, 2]]}', line)
    refused(f"a.jsonl:2: {message}", path)


def test_labels_that_are_not_asked_for_may_change(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "x,label", "1,rest", "2,jump")
    refused("the label changes within the series", path)
    np.savez(tmp_path / "b.npz", values=VALUES, label=np.zeros((5, 7), int))
    refused("a label for each step", tmp_path / "b.npz")
    for file, count in ((path, 1), (tmp_path / "b.npz", 5)):
        assert [row.label for row in read(file, labelled=False)] == [""] * count


def test_a_number_that_no_series_has(tmp_path: Path) -> None:
    path = text(tmp_path / "a.jsonl", *(json_line(values, "a") for values in VALUES))
    with pytest.raises(UsageError, match=r"has no series 9\n  name one from .*a.jsonl:1 to .*a.jsonl:5"):
        Places(lambda name: read(Path(name)))(f"{path}:9")


def test_faulty_files_are_named(tmp_path: Path) -> None:
    refused("not a file of series", text(tmp_path / "a.wav", "x"), UsageError)
    refused("no such file", tmp_path / "none.npz", UsageError)
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 cut off")
    refused("b.npz: not an .npz of series", tmp_path / "b.npz")
    np.savez(tmp_path / "a.npz", values=VALUES)
    whole = (tmp_path / "a.npz").read_bytes()
    method = whole.index(b"PK\x01\x02") + 10  # of compression, in the directory of the archive
    for damaged in (whole.replace(b"(5, 7, 2), }", b"(5, 7, 2   }"), whole[:method] + b"\x63" + whole[method + 1 :]):
        (tmp_path / "b.npz").write_bytes(damaged)
        refused("b.npz: not an .npz of series", tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", value=VALUES, label=np.array(LABELS))
    refused("has no array 'values'\n  choose it with data.values; did you mean 'value'", tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", values=VALUES, label=np.array(LABELS[:3]))
    refused("d.npz: 5 series and 3 labels", tmp_path / "d.npz")
    refused(r"'values' is float32 of \(5, 7, 2\), and not numbers of T, C", tmp_path / "d.npz", axes="TC")
    np.savez(tmp_path / "e.npz", values=VALUES, label=np.array([0, 1, 2, 3, 0]))
    refused("e.npz:4: the label '3' is out of range", tmp_path / "e.npz", names=("a", "b", "c"))
    refused("the value 'x' of the column 'b' is no number", text(tmp_path / "f.csv", "a,b", "1,x"))
    refused("no column 'c' to leave out", text(tmp_path / "g.csv", "a,b", "1,2"), leave_out=("c",))
    refused("2 columns instead of 3", text(tmp_path / "h.tsv", "a\tb\tlabel", "1\t2"))
    refused("values before the line @data", text(tmp_path / "i.ts", "1,2:a"))
    refused("2, 1 values in its 2 dimensions", text(tmp_path / "j.ts", "@data", "1,2:3:a"))
    declared = ["@classLabel true a B", "@data", "1,2:b"]
    refused(
        "l.ts:4: the label 'zz' is not in @classLabel\n  known are: a, b", text(tmp_path / "l.ts", *declared, "1,2:zz")
    )
    refused("m.ts:4: a series without a label", text(tmp_path / "m.ts", *declared, "1,2:?"))
    refused("time stamps are not read", text(tmp_path / "k.ts", "@timestamps true", "@data", "(0,1):a"))
