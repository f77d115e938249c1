"""Runs that write what signals mean, made small: every encoder with every decoder, series one after the other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starts import check_resuming
from toys import Listener

import seqloom
from seqloom.cli import main
from seqloom.config import build, load, to_toml
from seqloom.data.formats.signals import Places
from seqloom.errors import ConfigError, DataError, SeqloomError, UsageError
from seqloom.models.presets import MOVEMENTS
from seqloom.nn.embedders import Inputs
from seqloom.tasks.seq2seq.data import read_corpus
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.workflows.train import train_run

Tree = dict[str, Any]
SIGNS = ("up", "down", "still")


def write(path: Path, count: int, seed: int) -> str:
    """Short movements (T 2) of three kinds, of four to six steps."""
    random = np.random.default_rng(seed)
    lines = []
    for i in range(count):
        steps = int(random.integers(4, 7))
        slope = (1, -1, 0)[i % 3] * np.linspace(0, 4, steps)
        values = np.stack((10 + slope, random.normal(size=steps)), -1)
        lines.append(json.dumps({"label": SIGNS[i % 3], "series": values.tolist()}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    data = {name: [write(tmp_path / f"{name}.jsonl", n, n)] for name, n in (("train", 90), ("test", 30))}
    return {
        "task": "translate",
        "run": str(tmp_path / "run"),
        "data": {"kind": "signals", "least": 1, "most": 3, **data},
        "tokenizer": {"kind": "words"},
        "model": {
            "preset": "signal-lstm",
            "encoder": {"width": 12, "dropout": 0.0},
            "decoder": {"width": 16, "dropout": 0.0},
            "front": {"strides": [1], "kernel": 3},
        },
        "objective": {"smoothing": 0.0},
        "optimizer": {"lr": 0.02},
        "batches": {"tokens": 100},
        "schedule": {"warmup": 5},
        "training": {"steps": 100, "evaluate_every": 50, "threads": 1, "precision": "fp32", "metric": "loss"},
    }


def config(tree: Tree, **changes: Any) -> TranslateConfig:
    return build(TranslateConfig, {**tree, **changes})


def test_a_run_learns_and_is_used(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = config(tree)
    (tmp_path / "c.toml").write_text(to_toml(made), encoding="utf-8")
    assert load(TranslateConfig, tmp_path / "c.toml") == made
    run = train_run(made, Listener())
    main(["eval", str(run.path), "-q", "--json"])
    scores = json.loads(capsys.readouterr().out)
    assert scores["exact_match"] >= 80
    assert {row["kind"] for row in scores["by_kind"]} == {"1 series", "2 series", "3 series"}
    test = tmp_path / "test.jsonl"
    main(["translate", str(run.path), f"{test}:1+2+3", str(test), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [row["source"] for row in rows] == [f"{test}:1+2+3", *(f"{test}:{i}" for i in range(1, 31))]
    assert rows[0]["translations"][0]["text"] == "up down still"
    assert seqloom.load(run.path)([f"{test}:2", f"{test}:1"]) == ["down", "up"]
    main(["report", str(run.path), "-q"])
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "attention: &lt;/s&gt;" in page
    assert "channel 2" in page
    other = train_run(config({**tree, "run": str(tmp_path / "other")}, seed=2), Listener())
    main(["compare", str(run.path), str(other.path), "--to", str(tmp_path / "both"), "-q"])
    capsys.readouterr()
    wrong = {"reads signals, not images": ["caption", str(run.path), str(test)]}
    wrong["reads signals and writes text"] = ["export", str(run.path), str(tmp_path / "out"), "--to", "hf"]
    wrong["has no series 31"] = ["translate", str(run.path), f"{test}:3+31"]
    for message, words in wrong.items():
        with pytest.raises(SystemExit):
            main(words)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("most", [1, 3])
def test_a_run_that_was_stopped_has_the_same_bits(most: int, tree: Tree, tmp_path: Path) -> None:
    short = {**tree["training"], "steps": 8, "evaluate_every": 2}
    check_resuming(config(tree, training=short, data={**tree["data"], "most": most}), tmp_path)


@pytest.mark.parametrize("preset", MOVEMENTS)
@pytest.mark.parametrize("decoder", ["own", "convolutional"])
def test_every_encoder_of_signals_has_every_decoder(preset: str, decoder: str, tree: Tree) -> None:
    model: Tree = {"preset": preset}
    if decoder != "own":
        parts = {key: MOVEMENTS[preset][key] for key in ("encoder", "source", "front")}
        model = {"kind": "encoder-decoder", **parts, "decoder": {"kind": decoder, "layers": 1, "width": 16}}
    made = config(tree, model=model)
    corpus = read_corpus(made, Listener())
    net = made.build(corpus.assets)
    made.objective(net, corpus.batches(0)).value.backward()
    for name, parameter in net.named_parameters():
        if name.startswith(("source", "front")):
            assert parameter.grad is not None
            assert float(parameter.grad.abs().sum()) > 0
    writer = made.predictor(net, corpus.assets)
    sources = corpus.splits.valid.sources
    greedy = writer(sources, kind="greedy", max_length=5)
    assert greedy == writer(sources, kind="beam", beam=1, max_length=5)
    assert len(writer(sources, kind="beam", beam=2, max_length=5, coverage_penalty=0.1)) == len(sources)


@pytest.mark.parametrize("strides", [[], [1], [2, 2]])
def test_a_text_depends_on_its_signal_alone(strides: list[int], tree: Tree) -> None:
    made = config(tree, model={**tree["model"], "front": {"strides": strides, "kernel": 3}})
    corpus = read_corpus(made, Listener())
    net = made.build(corpus.assets).eval()
    writer = made.predictor(net, corpus.assets)
    sources = list(dict.fromkeys(corpus.splits.train.sources))[:5]
    assert len({len(row) for row in writer.encode(sources)}) > 1
    together = writer.score(sources, ["up down"] * 5)
    apart = [writer.score([source], ["up down"])[0] for source in sources]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(apart))
    assert len({round(score, 4) for score in together}) > 1


@pytest.mark.parametrize("strides", [[], [2, 1]])
def test_all_at_once_is_one_token_at_a_time(strides: list[int], tree: Tree) -> None:
    made = config(tree, model={**tree["model"], "front": {"strides": strides, "kernel": 3}})
    net = made.build(read_corpus(made, Listener()).assets).eval()
    frames, target = torch.randn(3, 7, 2), torch.randint(0, 5, (3, 5))
    frames[1, 2, 0] = torch.nan
    mask = torch.arange(7) < torch.tensor([[7], [4], [2]])
    inputs = Inputs.signal(frames, mask)
    with torch.no_grad():
        whole = net(inputs, target)
        state, steps = net.start(net.encode(inputs)), []
        for t in range(5):
            hidden, state = net.decode(target[:, t : t + 1], state)
            steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, 1), whole)


def test_training_series_are_drawn_anew_and_never_those_held_out(tree: Tree) -> None:
    splits = config(tree).data.splits()
    assert splits.fresh is not None
    draws = [splits.train, *(splits.fresh.draw(epoch) for epoch in (1, 2, 1))]
    assert draws[1].sources == draws[3].sources
    assert len({tuple(pairs.sources) for pairs in draws}) == 3
    assert {len(pairs) for pairs in draws} == {81}

    def used(sources: Any) -> set[str]:
        return {number for source in sources for number in source.rpartition(":")[2].split("+")}

    assert not used(source for pairs in draws for source in pairs.sources) & used(splits.valid.sources)
    sizes = Counter(len(target.split()) for pairs in draws for target in pairs.targets)
    assert {*sizes} == {1, 2, 3}
    assert min(sizes.values()) > 60
    places = Places(lambda name: config(tree).data.in_use([name]))
    source, target = next((s, t) for s, t in zip(splits.train.sources, splits.train.targets, strict=True) if "+" in s)
    file, _, numbers = source.rpartition(":")
    parts = [places(f"{file}:{number}").values for number in numbers.split("+")]
    np.testing.assert_array_equal(places(source).values, np.concatenate(parts))
    assert len(parts) == len(target.split())


def test_other_values_are_other_data(tree: Tree, tmp_path: Path) -> None:
    before = config(tree).data.splits().train.digest()
    assert config(tree).data.splits().train.digest() == before
    train = tmp_path / "train.jsonl"
    train.write_text(train.read_text().replace("[10.0,", "[10.5,", 1))
    assert config(tree).data.splits().train.digest() != before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": []}, "names no training data"),
        ({"least": 4}, "most must not be below least"),
        ({"train": ["few.jsonl"]}, "few.jsonl: no series can be held out"),
        ({"train": ["ragged.jsonl"]}, "ragged.jsonl:1: a series of steps that differ"),
        ({"train": ["unlabelled.jsonl"]}, "unlabelled.jsonl:2: a series without a label"),
        ({"train": ["channels.jsonl"], "valid": ["test.jsonl"], "most": 1}, "channels.jsonl:2: 1 channel, and"),
        ({"train": ["channels.jsonl"], "valid": ["test.jsonl"]}, "channels.jsonl:.*other numbers of channels"),
    ],
)
def test_what_is_wrong_is_said(data: Tree, message: str, tree: Tree, tmp_path: Path) -> None:
    files = {
        "few": ['{"label": "a", "series": [1, 2]}'],
        "ragged": ['{"label": "a", "series": [[1, 2], [3]]}'],
        "unlabelled": ['{"label": "a", "series": [1, 2]}', '{"series": [1, 2]}'],
        "channels": ['{"label": "a", "series": [[1, 2], [3, 4]]}', '{"label": "b", "series": [1, 2]}'] * 9,
    }
    for name, lines in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    changed = {k: [str(tmp_path / name) for name in v] if isinstance(v, list) else v for k, v in data.items()}
    with pytest.raises((SeqloomError, ConfigError), match=message):
        train_run(config(tree, data={**tree["data"], **changed}), Listener())
    assert not (tmp_path / "run" / "config.toml").exists()


def test_a_front_is_for_signals_and_places_are_checked(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.front is for signals"):
        build(TranslateConfig, {"task": "translate", "model": {"front": {"strides": [2]}}})
    with pytest.raises(ConfigError, match=r"reads texts, and the data are signals"):
        config(tree, model={"kind": "encoder-decoder"})
    places = Places(lambda name: config(tree).data.in_use([name]))
    with pytest.raises(UsageError, match=r"has 30 series\n  name one"):
        places(str(tmp_path / "test.jsonl"))
    with pytest.raises(UsageError, match="no such file"):
        places(str(tmp_path / "missing.npz:3"))
    (tmp_path / "bad.npz").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"not an \.npz"):
        places(str(tmp_path / "bad.npz"))
