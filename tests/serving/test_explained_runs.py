"""One file that explains what a run does, for runs of each kind of input and of several tasks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqloom.errors import SeqloomError
from seqloom.training.log import Reporter
from seqloom.workflows.explain import explain

WAVE = [[0.3 * i, 9 - i] for i in range(12)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An input of each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    images = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    images.fromarray(pixels).save(folder / "one.png")
    np.savez(folder / "two.npz", values=np.array([WAVE, WAVE]))
    return {"image": str(folder / "one.png"), "signal": f"{folder / 'two.npz'}:2", "text": "ba ko mi"} | {
        "beside": f"{folder / 'one.png'}\tba ko mi"
    }


CASES = [("pictures", "", "image"), ("scenes", "", "image"), ("waves", "", "signal"), ("steps", "", "signal")]
CASES += [("pens", "", "signal"), ("both", "marks", "image"), ("both", "waves", "signal")]
CASES += [("both", "scenes", "image"), ("both", "films", "text"), ("label", "", "text")]
CASES += [("guide", "german", "beside")]


@pytest.mark.parametrize(("name", "task", "kind"), CASES)
def test_a_run_of_each_kind_is_explained(runs: Path, tmp_path: Path, inputs: dict[str, str], name, task, kind):
    path = explain(runs / name, inputs[kind], tmp_path / "one.html", Reporter(0), task)
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', path.read_text(encoding="utf-8"), re.S)
    assert found is not None
    kept = json.loads(found[1])
    named = {key.partition("[")[0] for key in kept["answers"]}
    assert {"inside", "lens", "counted", "walk"} <= named
    inside = next(value for key, value in kept["answers"].items() if key.startswith("inside"))
    assert (bool(inside["picture"]), bool(inside["chart"])) == (kind in ("image", "beside"), kind == "signal")
    assert kept["question"] == ({"text": inputs["text"]} if kind in ("text", "beside") else {})
    assert ("beam" in named) == (name in ("scenes", "pens", "guide") or task == "scenes")
    counted = [value for key, value in kept["answers"].items() if key.startswith("counted")]
    assert len(counted) == len(inside["predictions"])
    for each in counted:
        assert all(len(values) == len(inside["sides"][side]["names"]) for side, values in each["sides"].items())
    for key, packed in kept["answers"].items():
        if key.startswith("weights"):  # 16 bits for each head, row and column
            asked = dict(json.loads(key.removeprefix("weights")))
            about = next(each for each in inside["attention"] if each["title"] == asked["kind"])
            heads = 1 if asked["layer"] == "rollout" else about["heads"]
            assert len(base64.b64decode(packed)) == 2 * heads * len(about["rows"]) * len(about["columns"])
    if inside["attention"]:
        assert {"weights", "head", "off"} <= named


@pytest.mark.parametrize(
    ("name", "task", "kind", "told"),
    [
        ("both", "", "image", "has several tasks: marks, waves, scenes, films"),
        ("both", "none", "image", "has no task 'none'"),
        ("waves", "", "text", "no such file"),
        ("pictures", "", "text", "no such file"),
        ("pictures", "", "signal", "no such file"),
        ("ahead", "", "signal", "forecasts are not shown from inside"),
        ("guide", "german", "image", "there is no text beside the image"),
        ("vectors", "", "text", "no head for masked words"),
    ],
)
def test_what_cannot_be_explained_is_refused(runs: Path, tmp_path: Path, inputs: Any, name, task, kind, told):
    with pytest.raises(SeqloomError, match=told):
        explain(runs / name, inputs[kind], tmp_path / "one.html", Reporter(0), task)
    assert not (tmp_path / "one.html").exists()


def test_a_long_signal_is_refused(runs: Path, tmp_path: Path):
    np.savez(tmp_path / "long.npz", values=np.array([WAVE * 50]))
    with pytest.raises(SeqloomError, match="the input has 150 positions, the most that are explained are 128"):
        explain(runs / "pens", str(tmp_path / "long.npz"), tmp_path / "one.html", Reporter(0))
