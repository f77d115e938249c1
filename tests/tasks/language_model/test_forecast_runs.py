"""Runs that continue signals, made small: they learn, resume to the bit, adapt, and never look ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starts import check_resuming
from toys import Listener

import seqloom
from seqloom.config import build, load, to_toml
from seqloom.data.rows import Recording
from seqloom.errors import ConfigError, DataError, UsageError
from seqloom.tasks.language_model.forecast import ForecastConfig
from seqloom.tasks.language_model.recordings import FrameReader
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.inside import sample_of
from seqloom.workflows.train import train_run

Tree = dict[str, Any]


def waves(count: int, seed: int, steps: int = 60) -> np.ndarray:
    """Sums of two sines in two channels (N T 2) of other sizes, with some missing values."""
    random, t = np.random.default_rng(seed), np.arange(steps)
    phases = random.uniform(0, 6, (2, 2, count, 1))
    first = np.sin(0.5 * t + phases[0, 0]) + 0.4 * np.sin(1.3 * t + phases[0, 1])
    second = 100 + 20 * np.sin(0.7 * t + phases[1, 0])
    values = np.stack((first, second), -1)
    values[random.random(values.shape) < 0.02] = np.nan
    return values.astype(np.float32)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name, count, seed in (("train", 40, 1), ("valid", 6, 2), ("test", 6, 3)):
        np.savez(tmp_path / f"{name}.npz", values=waves(count, seed))
    return {
        "task": "forecast",
        "run": str(tmp_path / "run"),
        "horizon": 8,
        "data": {"kind": "signals", **{name: [str(tmp_path / f"{name}.npz")] for name in ("train", "valid", "test")}},
        "model": {"decoder": {"width": 32}},
        "optimizer": {"lr": 0.01},
        "batches": {"tokens": 600, "length": 30},
        "schedule": {"warmup": 5},
        "training": {"steps": 120, "evaluate_every": 60, "threads": 1},
    }


def briefly(tree: Tree, steps: int, **more: Any) -> ForecastConfig:
    return build(ForecastConfig, {**tree, "training": {"steps": steps, "evaluate_every": 2, "threads": 1}, **more})


def test_sines_are_learned_and_continued_in_the_units_of_the_data(tree: Tree, tmp_path: Path) -> None:
    made = build(ForecastConfig, tree)
    (tmp_path / "c.toml").write_text(to_toml(made), encoding="utf-8")
    assert load(ForecastConfig, tmp_path / "c.toml") == made
    run = train_run(made, Listener())
    scores = evaluate_run(run, (), "", (), Listener())
    assert scores["skill"] > 80
    assert scores["rmse"] < 0.5 * scores["rmse_of_mean"] < scores["rmse_of_last"]
    assert scores["examples"] == 6 * ((60 - 30) // 8)
    forecaster = seqloom.load(run.path)
    with pytest.raises(UsageError, match="not shown from inside"):
        forecaster.look(waves(1, 5)[0])
    frames = json.loads(sample_of(run, forecaster)["signal"])
    assert len(frames) == 60
    assert len(frames[0]) == 2
    whole = np.nan_to_num(waves(1, 7)[0], nan=50)
    found = forecaster(whole[:40], steps=12)
    assert found.shape == (12, 2)
    assert abs(found[:, 1] - 100).max() < 30
    several = forecaster([whole[:40], whole[:25], f"{tmp_path / 'test.npz'}:2"], steps=3)
    np.testing.assert_allclose(several[0], found[:3], rtol=1e-4, atol=1e-4)
    assert [each.shape for each in several] == [(3, 2)] * 3
    assert len(forecaster(whole)) == 8
    for wrong, said in (
        (np.zeros((5, 3)), "3 channels, and the model reads 2"),
        (np.full((5, 2), np.inf), "a value that is infinite"),
        (np.zeros((0, 2)), "not a series"),
        (["a.csv", "b.csv"], "no such file"),
    ):
        with pytest.raises((DataError, UsageError), match=said):
            forecaster(wrong)
    with pytest.raises(UsageError, match="there are no -1 next steps"):
        forecaster(whole, steps=-1)


@pytest.mark.parametrize("preset", ["signal-lstm", "signal-transformer", "signal-cnn"])
def test_a_run_that_was_stopped_has_the_same_bits(tree: Tree, tmp_path: Path, preset: str) -> None:
    decoder = {"width": 16, "dropout": 0.2, **({"heads": 2} if preset == "signal-transformer" else {})}
    check_resuming(briefly(tree, 6, model={"preset": preset, "decoder": decoder}), tmp_path)


def test_another_run_is_adapted_and_its_scale_is_kept(tree: Tree, tmp_path: Path) -> None:
    run = train_run(briefly(tree, 4), Listener())
    np.savez(tmp_path / "other.npz", values=5 * waves(12, 4))
    rest = {key: tree[key] for key in ("task", "horizon", "batches", "data")}
    rest["data"] = {**rest["data"], "train": [str(tmp_path / "other.npz")]}
    more = {"start": str(run.path), "adapt": {"kind": "lora", "rank": 2}, "run": str(tmp_path / "tuned")}
    tuned = train_run(briefly(rest, 4, **more), Listener())
    np.savez(tmp_path / "narrow.npz", values=waves(12, 4)[..., :1])
    rest["data"] = {**rest["data"], "train": [str(tmp_path / "narrow.npz")]}
    with pytest.raises(DataError, match=r"data.train: the data have 1 channel, and .* has learned 2\n  name data"):
        briefly(rest, 4, **more).prepare(Listener())
    assert 0 < tuned.info()["training"]["learned"] < tuned.info()["training"]["parameters"]
    both = seqloom.load(run.path, adapters={"tuned": tuned.path})
    signal, one, other = waves(1, 5)[0], seqloom.load(run.path), seqloom.load(tuned.path)
    assert one.medium.scale.mean.tolist() == other.medium.scale.mean.tolist()
    np.testing.assert_allclose(both([signal, signal], adapter=["tuned", None])[0], other(signal), rtol=1e-4)
    np.testing.assert_allclose(both(signal), one(signal), rtol=1e-4)


@pytest.mark.parametrize("scale", ["data", "series"])
def test_nothing_of_what_comes_changes_a_forecast(tree: Tree, scale: str) -> None:
    made = briefly(tree, 2, data={**tree["data"], "scale": scale})
    rows = made.data.splits(lambda text: None)
    facts = made.data.learned(rows["train"])
    reader = FrameReader(made, facts)
    facts["autoregression"] = reader.fitted(rows["train"], reader.walk(rows["valid"])).weights.tolist()
    values = waves(1, 9, 50)[0]
    other = values.copy()
    other[34:] = 7
    before, after = (reader.walk([Recording(each, "", "x", 34)]) for each in (values, other))
    assert [at for _, at in before.places] == [34, 42]
    np.testing.assert_array_equal(before.pasts[0].values, after.pasts[0].values)
    np.testing.assert_array_equal(before.pasts[0].scale.mean, after.pasts[0].scale.mean)
    np.testing.assert_array_equal(before.pasts[0].values, values[34 - (30 - 8 + 1) : 34])
    np.testing.assert_array_equal(before.came[1], values[42:50])
    for name, each in reader.others(before).items():
        np.testing.assert_array_equal(each[0], reader.others(after)[name][0])


@pytest.mark.parametrize("first", [0, 47])
def test_an_evaluation_counts_each_step_once_and_none_before_the_first(tree: Tree, first: int) -> None:
    made = briefly(tree, 2)
    reader = FrameReader(made, made.data.learned(made.data.splits(lambda text: None)["train"]))
    values = np.arange(2.0 * 101).reshape(101, 2).astype(np.float32)
    items = reader.items([Recording(values, "", "x", first)], learn=False)
    counted = np.concatenate(
        [w.first_token + 1 + np.flatnonzero(~np.isnan(i.targets[:, 0])) for i in items for w in i.windows]
    )
    assert sorted(counted) == [*range(max(1, first), 101)]
    learned = reader.items([Recording(values, "", "x")], learn=True)
    frames = reader.medium.scale(values)
    for item in learned:
        at, size = item.windows[0].first_token, len(item.targets)
        np.testing.assert_array_equal(item.windows[0].values, frames[at : at + size])
        np.testing.assert_array_equal(item.targets, frames[at + 1 : at + 1 + size])


def test_one_recording_is_learned_validated_and_tested_in_the_order_of_time(tree: Tree, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", values=waves(1, 1, 200)[0], label=np.arange(200))
    data = {"kind": "signals", "train": [str(tmp_path / "one.npz")], "axes": "TC", "last": 40}
    said = list[str]()
    splits = briefly(tree, 2, data=data).data.splits(said.append)
    assert {name: [(row.first, len(row.values)) for row in rows] for name, rows in splits.items()} == {
        "train": [(0, 144)],
        "valid": [(144, 160)],
        "test": [(160, 200)],
    }
    assert said[-1] == "the last 16 steps held out as validation data"
    data = {**data, "valid": data["train"]}
    assert [len(row.values) for row in briefly(tree, 2, data=data).data.splits(said.append)["train"]] == [160]
    with pytest.raises(DataError, match="a series of 200 time steps, the last 199 of which are to be test data"):
        briefly(tree, 2, data={**data, "last": 199}).data.splits(said.append)


def test_what_does_not_fit_is_refused(tree: Tree) -> None:
    message = r"model.embedder.kind = 'tokens' reads texts, and the data are signals: leave out .*, or the preset that"
    with pytest.raises(ConfigError, match=message):
        build(ForecastConfig, {**tree, "model": {"embedder": {"kind": "tokens"}}})
    positions = {"kind": "learned", "length": 9}
    with pytest.raises(ConfigError, match=r"batches.length 30 is more than the model's 9 positions"):
        build(ForecastConfig, {**tree, "model": {"preset": "signal-cnn", "decoder": {"positions": positions}}})
    with pytest.raises(DataError, match="no series has 99 steps to predict"):
        briefly(tree, 2, horizon=99).prepare(Listener())
    with pytest.raises(UsageError, match="the config names no test data"):
        briefly(tree, 2, data={"kind": "signals", "train": ["x"]}).data.tested(())
