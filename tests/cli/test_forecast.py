"""Signals continued through the command line, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from calls import Call, unknown_scores

from seqloom.cli import main
from seqloom.measures import MEASURES, measured
from seqloom.run import Run

SMALL = """\
task = "forecast"
horizon = 6

[data]
train = ["series.csv"]
leave_out = ["day"]
last = 60

[model.decoder]
width = 16

[batches]
length = 24
tokens = 200

[optimizer]
lr = 0.01

[training]
steps = 40
evaluate_every = 20
threads = 1
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of two channels, small.toml, and the run it makes: run/."""
    folder, t = tmp_path_factory.mktemp("forecast"), np.arange(300)
    both = np.stack((np.sin(0.5 * t), 50 + 5 * np.sin(0.3 * t)), 1)
    lines = [f"{day},{a:.4f},{b:.4f}" if day % 50 else f"{day},,{b:.4f}" for day, (a, b) in enumerate(both)]
    (folder / "series.csv").write_text("\n".join(["day,a,b", *lines]) + "\n", encoding="utf-8")
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQLOOM_KEEP_MEMORY", "0")
        for run in ("run", "other"):
            main(["train", "small.toml", "--run", run, "-q"])
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_check_eval_report_and_compare(call: Call, here: Path) -> None:
    summary = json.loads(call("check", "small.toml", "--json", "-q").out)["summary"]
    assert {row["split"]: (row["steps"], row["predicted"]) for row in summary} == {
        "train": (216, 216),
        "valid": (240, 24),
        "test": (300, 60),
    }
    scores = json.loads(call("eval", "run", "--json", "-q").out)
    assert scores == Run.open("run").evaluation("test")
    assert (scores["examples"], unknown_scores(scores)) == (10, set())
    shown = " ".join(call("eval", "run").out.split())
    assert all(MEASURES[key].name in shown for key in measured(scores))
    assert "steps ahead model last value mean autoregression" in shown
    assert call("report", "run", "-q").code == 0
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "Values a second" in page
    assert page.count(", a</h3>") + page.count(", b</h3>") == 4  # four forecasts of the validation
    assert call("report", "run", "series.csv", "-q").code == 0
    assert "series.csv:2, step 295, a</h3>" in Path("run/report.html").read_text(encoding="utf-8")
    shown = call("compare", "run", "other", "--to", "both", "-q").out
    assert "skill" in shown
    assert "10 examples" in shown


def test_forecasts_are_printed_and_written(call: Call, here: Path, tmp_path: Path) -> None:
    lines = [line.split("\t") for line in call("forecast", "run", "series.csv", "--steps", "4").lines]
    assert lines[0] == ["signal", "step", "a", "b"]
    assert [line[:2] for line in lines[1:]] == [["series.csv:2", str(step)] for step in range(301, 305)]
    values = [[float(value) for value in line[2:]] for line in lines[1:]]
    assert all(20 < row[1] < 80 for row in values)
    row = json.loads(call("forecast", "run", "series.csv", "--steps", "4", "--json").out)
    assert (row["signal"], row["first"]) == ("series.csv:2", 301)
    assert row["values"] == [pytest.approx(each, rel=1e-4, abs=1e-4) for each in values]
    for name in ("f.csv", "f.npz", "f.csv"):  # what forecast wrote is replaced
        assert call("forecast", "run", "series.csv", "--to", tmp_path / name).out.endswith("1 signal, 6 steps\n")
    assert np.load(tmp_path / "f.npz")["values"][0, :4] == pytest.approx(np.array(values), rel=1e-4, abs=1e-4)
    assert (tmp_path / "f.csv").read_text(encoding="utf-8").split("\n")[1].startswith("series.csv:2,301,")
    (tmp_path / "mine.csv").write_text("mine", encoding="utf-8")
    refused = call("forecast", "run", "series.csv", "--to", tmp_path / "mine.csv")
    refused.refused(2, "holds mine.csv, which is no earlier output")


def test_wrong_calls(call: Call, here: Path, tmp_path: Path) -> None:
    call("forecast", "run").refused(2, "there are no signals", "seqloom forecast run new.csv")
    call("forecast", "run", "nothing.csv").refused(2, "nothing.csv: no such file")
    call("forecast", "run", "series.csv", "--to", "x.txt").refused(2, "must end in .csv, .tsv or .npz")
    assert call("forecast", "run", "series.csv", "--steps", "-1").code == 2
    (tmp_path / "bad.csv").write_text("day,a,b\n1,2,x\n", encoding="utf-8")
    call("forecast", "run", tmp_path / "bad.csv").refused(3, "bad.csv:2: the value 'x' of the column 'b' is no number")
    (tmp_path / "one.csv").write_text("day,a\n1,2\n", encoding="utf-8")
    call("forecast", "run", tmp_path / "one.csv").refused(3, "has the columns a, and the model has learned a, b")
    (tmp_path / "turned.csv").write_text("day,b,a\n1,2,3\n", encoding="utf-8")
    call("forecast", "run", tmp_path / "turned.csv").refused(3, "turned.csv:2: has the columns b, a, and the model")
    (tmp_path / "nameless.csv").write_text("day,2.5,3\n1,2,3\n", encoding="utf-8")
    call("forecast", "run", tmp_path / "nameless.csv").refused(3, "nameless.csv:1: the first line has values")
    (tmp_path / "endless.csv").write_text("day,a,b\n1,2,3\n2,3,1e39\n", encoding="utf-8")
    call("forecast", "run", tmp_path / "endless.csv").refused(3, "endless.csv:3: a value that is infinite")
    np.savez(tmp_path / "one.npz", values=np.ones((1, 9, 1)))
    call("forecast", "run", tmp_path / "one.npz").refused(3, "1 channel, and the model reads 2")
    call("forecast", "run", "series.csv", "--json", "--to", "x.csv").refused(2, "JSON is printed")
    call("generate", "run", "a").refused(2, "is a run of the task 'forecast'")
    call("export", "run", tmp_path / "out", "--to", "hf").refused(2, "continues signals, as no format here does")
    call("eval", "run", "--decoding.beam", "2").refused(2, "unknown option '--decoding.beam'")
    call("train", "small.toml", "--run", tmp_path / "r", "--data.last", "0", "-q")
    call("eval", tmp_path / "r").refused(2, "the config names no test data")
    text = 'task = "language_model"\nstart = "run"\n[data]\ntrain = ["small.toml"]\n'
    (tmp_path / "text.toml").write_text(text, encoding="utf-8")
    call("train", tmp_path / "text.toml").refused(2, "'frames' reads signals, and the data are texts", cured=False)
