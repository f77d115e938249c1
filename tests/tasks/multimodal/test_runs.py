"""Runs of several tasks over images, texts and signals: training, resuming, scores, use, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starts import check_resuming
from toys import Listener

import seqloom
from seqloom.cli import main
from seqloom.config import build, to_toml
from seqloom.errors import ConfigError, DataError, UsageError
from seqloom.inspection.inside.attribution import integrated_gradients, why
from seqloom.inspection.inside.lens import logit_lens
from seqloom.run import Run
from seqloom.tasks.multimodal.task import MultimodalTask, Rounds
from seqloom.workflows.compare import compare_runs
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.train import train_run

Tree = dict[str, Any]
PLACES = "the upper half is bright", "the lower half is bright"
SMALL = {"layers": 1, "width": 12, "inner": 12, "heads": 2, "dropout": 0.0}


def pixels(count: int, seed: int) -> np.ndarray:
    """Images of which one half is bright, in turns the upper and the lower one."""
    values = np.random.default_rng(seed).integers(0, 90, (count, 8, 8, 1), dtype=np.uint8)
    for i in range(count):
        values[i, 4 * (i % 2) : 4 * (i % 2) + 4] += 140
    return values


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name, count, seed in (("train", 40, 1), ("test", 20, 2)):
        values, names = pixels(count, seed), [f"{name}-{i}.png" for i in range(count)]
        np.savez(tmp_path / f"{name}-labels.npz", images=values, labels=np.arange(count) % 2)
        np.savez(tmp_path / f"{name}-names.npz", images=values, names=np.array(names))
        lines = (f"{names[i]}\t{PLACES[i % 2]}" for i in range(count))
        (tmp_path / f"{name}.captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        films = (f"{('good', 'bad')[i % 2]} film number {i}\t{i % 2}" for i in range(count))
        (tmp_path / f"{name}.films.tsv").write_text("text\tlabel\n" + "\n".join(films) + "\n", encoding="utf-8")
        random = np.random.default_rng(seed)
        waves = [
            {"values": (random.normal(size=(9, 1)) + 3 * (i % 2)).tolist(), "label": f"w{i % 2}"} for i in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(w) + "\n" for w in waves), encoding="utf-8")
    files = {
        name: [str(tmp_path / f"{part}{name}") for part in ("train", "test")]
        for name in ("-labels.npz", ".films.tsv", ".jsonl")
    }

    def data(name: str, **more: Any) -> Tree:
        return {"train": files[name][:1], "valid": files[name][1:], "test": files[name][1:], **more}

    captions = {
        part: [str(tmp_path / f"{part}-names.npz"), str(tmp_path / f"{part}.captions.tsv")]
        for part in ("train", "test")
    }
    return {
        "task": "multimodal",
        "run": str(tmp_path / "run"),
        "tasks": {
            "halves": {
                "kind": "classify",
                "share": 2,
                "data": data("-labels.npz", kind="images"),
                "batches": {"tokens": 64},
            },
            "films": {"kind": "classify", "data": data(".films.tsv"), "batches": {"tokens": 64, "length": 16}},
            "captions": {"kind": "translate", "data": {"kind": "captions", **captions}, "batches": {"tokens": 100}},
            "waves": {
                "kind": "classify",
                "data": data(".jsonl", kind="signals"),
                "batches": {"tokens": 64, "length": 16},
            },
        },
        "tokenizer": {"kind": "words"},
        "model": {
            "encoders": {
                "image": {
                    "preset": "small-vit",
                    "encoder": SMALL,
                    "pooling": "mean",
                    "embedder": {"class_token": False},
                },
                "text": {"preset": "bag", "encoder": {"width": 12}},
                "signal": {"preset": "signal-transformer", "encoder": SMALL},
            },
            "decoder": {**SMALL, "layers": 1},
        },
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup": 5},
        "training": {"steps": 150, "evaluate_every": 75, "threads": 1, "precision": "fp32"},
    }


@pytest.fixture
def run(tree: Tree) -> Run:
    return train_run(build(MultimodalTask, tree), Listener())


def test_all_tasks_are_learned_scored_and_used(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = evaluate_run(run, (), "", (), Listener())
    assert scores["halves.accuracy"] > 90
    assert scores["films.accuracy"] > 90
    assert scores["waves.accuracy"] > 90
    assert scores["captions.exact_match"] > 90
    own = [scores[key] for key in ("halves.accuracy", "films.accuracy", "captions.bleu", "waves.accuracy")]
    assert scores["score"] == pytest.approx(np.mean(own))
    alone = evaluate_run(run, (), "", (), Listener(), "halves")
    assert (alone["test"], alone["accuracy"]) == ("halves.test", scores["halves.accuracy"])
    predictors = seqloom.load(run.path)
    assert [str(p.label) for p in predictors(["a good film", "a bad film"], task="films")] == ["0", "1"]
    with pytest.raises(UsageError, match=r"several tasks: halves, .*\n.*task='halves'"):
        predictors(["a film"])
    with pytest.raises(UsageError, match=r"no task 'film'\n.*did you mean 'films'"):
        predictors(["a film"], task="film")

    assert predictors.look("a good film", "films").data()["predictions"][0]["asked"] == "0"
    with pytest.raises(UsageError, match="several tasks"):
        predictors.look("a film")

    def printed(*command: str) -> str:
        main([*command])
        return capsys.readouterr().out

    from PIL import Image

    for i, half in enumerate(pixels(2, 3)):
        Image.fromarray(half[:, :, 0]).save(tmp_path / f"{i}.png")
    images = str(tmp_path / "0.png"), str(tmp_path / "1.png")
    assert [line[0] for line in printed("classify", str(run.path), *images, "--task", "halves", "-q").splitlines()] == [
        "0",
        "1",
    ]
    assert printed("caption", str(run.path), *images, "-q").splitlines() == [*PLACES]
    for task, queries in (("halves", 4), ("captions", 0)):
        seen = predictors.look(images[0], task)
        maps = {each.title: each.array().shape[2:] for each in seen.maps()}
        asking = queries or len(seen.asked)
        assert maps == {
            "cross-attention": (asking, 4),
            "encoder self-attention": (4, 4),
            "decoder self-attention": (asking, asking),
        }
        assert abs(logit_lens(seen)[-1] - seen.scores).max() < 0.1
    assert printed("classify", str(run.path), "a bad film", "--task", "films", "-q").startswith("1")
    assert "halves: accuracy" in printed("eval", str(run.path), "-q").replace("\n", " ")
    page = (run.path / "report.html").read_text() if printed("report", str(run.path), "-q") else ""
    assert "halves: Images" in page
    assert "Confidence: test: halves" in page
    assert "halves.examples" not in page
    assert "waves: Signals" in page


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("classify", "x"), "has several such tasks: halves, films, waves"),
        (("classify", "x", "--task", "captions"), "task 'captions' is of the kind 'translate'\n  seqloom caption"),
        (("caption", "x", "--task", "captoins"), "did you mean 'captions'"),
        (("translate", "x"), "reads images, not texts"),
        (("eval", "--test", "x.tsv"), "--test: is for one of the tasks"),
        (("eval", "--decoding.beam", "3"), "--decoding.beam: is for one of the tasks"),
        (("report", "x.png"), "x.png: each task reads other inputs"),
        (("export", "--to", "hf", "OUT"), "a model of this kind cannot be exported"),
    ],
    ids=lambda c: c[0] if isinstance(c, tuple) else "",
)
def test_wrong_calls(
    tree: Tree, command: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree["training"] |= {"steps": 1}
    path = str(train_run(build(MultimodalTask, tree), Listener()).path)
    verb, *rest = [str(tmp_path / "out") if word == "OUT" else word for word in command]
    with pytest.raises(SystemExit) as stopped:
        main([verb, path, *rest])
    assert stopped.value.code in (2, 3)
    assert message in capsys.readouterr().err


def test_resuming_leaves_the_same_bits(tree: Tree, tmp_path: Path) -> None:
    tree["training"] |= {"steps": 10, "evaluate_every": 4}
    check_resuming(build(MultimodalTask, tree), tmp_path, step=7)


def test_an_adapter_learns_beside_the_frozen_model(tree: Tree, run: Run, tmp_path: Path) -> None:
    del tree["model"]
    tree |= {"start": str(run.path), "adapt": {"kind": "lora", "rank": 2}, "run": str(tmp_path / "adapted")}
    tree["training"] |= {"steps": 4, "evaluate_every": 4}
    adapted = train_run(build(MultimodalTask, tree), Listener())
    training = adapted.info()["training"]
    assert 0 < training["learned"] < training["parameters"] / 3
    file = tmp_path / "adapter.safetensors"
    main(["export", str(adapted.path), str(file), "--to", "adapter", "-q"])
    main(["import", str(file), str(tmp_path / "back"), "--base", str(run.path), "-q"])
    scores = [evaluate_run(path, (), "", (), Listener())["score"] for path in (adapted, tmp_path / "back")]
    assert scores[0] == scores[1]


class Endless:
    """Batches that are their numbers."""

    def __init__(self, per_epoch: int) -> None:
        self.per_epoch = per_epoch

    def __call__(self, number: int) -> int:
        return number


def test_a_round_has_the_share_of_each_task_in_an_order_of_its_own() -> None:
    shares = {"a": 3, "b": 1, "c": 2}
    rounds = Rounds({"a": Endless(30), "b": Endless(5), "c": Endless(40)}, shares, seed=1)
    drawn = [rounds(n) for n in range(60)]
    for first in range(0, 60, 6):
        assert Counter(each.task for each in drawn[first : first + 6]) == shares
    for name in shares:
        assert [each.batch for each in drawn if each.task == name] == list(range(10 * shares[name]))
    orders = {tuple(each.task for each in drawn[first : first + 6]) for first in range(0, 60, 6)}
    assert len(orders) > 3
    assert [rounds(n) for n in reversed(range(60))] == drawn[::-1]
    assert rounds.per_epoch == 20 * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {}}, "there are no tasks"),
        ({"tasks": {"a b": {"kind": "classify", "data": {"train": ["x"]}}}}, "cannot be called 'a b'"),
        ({"tasks": {"a": {"kind": "tag", "data": {"train": ["x"]}}}}, "unknown kind 'tag'"),
        ({"tasks": {"a": {"data": {"train": ["x"]}, "share": 0}}}, "from 1 to"),
        ({"tasks": {"a": {"data": {"train": ["x"]}, "metric": "bleu"}}}, "tasks.a.metric is 'bleu'"),
        ({"tasks": {"a": {"data": {"train": ["x"]}, "metric": "latest"}}}, "name a score"),
        ({"training": {"metric": "accuracy"}}, "must be 'score'"),
        ({"model": {"encoders": {"texts": {}}}}, "unknown modality in model.encoders.texts: did you mean 'text'"),
        ({"tasks": {"a": {"data": {"train": ["x"]}}}}, r"encoders.image is for images, which no task reads"),
    ],
)
def test_wrong_configs(tree: Tree, change: Tree, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(MultimodalTask, {**tree, **change})


def test_images_of_two_sizes_do_not_share_an_encoder(tree: Tree) -> None:
    tree["tasks"]["digits"] = {"kind": "classify", "data": {"kind": "digits-8x8"}}
    tree["tasks"]["halves"]["data"]["size"] = 4
    with pytest.raises(ConfigError, match="captions: its images and those of another task share an encoder"):
        train_run(build(MultimodalTask, tree), Listener())


def test_a_config_is_read_back_as_it_was_written(tree: Tree, tmp_path: Path) -> None:
    config = build(MultimodalTask, tree)
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    from seqloom.config import load

    assert load(MultimodalTask, tmp_path / "config.toml") == config


def test_an_image_decides_the_translation(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ "bank" is "Ufer" below a bright sky and "Geldhaus" above a bright street; "dog" is the same in both."""
    for name, count, seed in (("train", 60, 1), ("test", 30, 2)):
        names = [f"{name}-{i}.png" for i in range(count)]
        np.savez(tmp_path / f"{name}.npz", images=pixels(count, seed), names=np.array(names))
        meanings = {"bank": ("ufer", "geldhaus"), "dog": ("hund", "hund")}
        lines = [f"{names[i]}\tthe {word}\t{german[i % 2]}" for i in range(count) for word, german in meanings.items()]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {part: [str(tmp_path / f"{part}.npz"), str(tmp_path / f"{part}.tsv")] for part in ("train", "test")}
    tree["tasks"] = {
        "german": {"kind": "translate", "data": {"kind": "illustrated", **data}, "batches": {"tokens": 64}}
    }
    del tree["model"]["encoders"]["signal"]
    run = train_run(build(MultimodalTask, tree), Listener())
    scores = evaluate_run(run, (), "", (), Listener())
    assert scores["german.exact_match"] > 90
    sizes = {(row["split"], row["side"]): row for row in build(MultimodalTask, tree).prepare(Listener()).summary()}
    assert [sizes["train", "source"][key] for key in ("words", "distinct")] == [2 * 2 * 54, 3]
    from PIL import Image

    for i, half in enumerate(pixels(2, 3)):
        Image.fromarray(half[:, :, 0]).save(tmp_path / f"{i}.png")
    sources = [f"{tmp_path / f'{i}.png'}\tthe {word}" for word in ("bank", "dog") for i in range(2)]
    main(["caption", str(run.path), *sources, "-q"])
    assert capsys.readouterr().out.split() == ["ufer", "geldhaus", "hund", "hund"]
    seen = seqloom.load(run.path).look(sources[0])
    maps = {each.title: each.array().shape[2:] for each in seen.maps()}
    assert maps["cross-attention"] == (len(seen.asked), 4 + 3)  # patches, and "the bank" with its end
    assert [word for word, _ in seen.sides["text encoder"].words()] == ["the", "bank"]
    found = integrated_gradients(seen, why(seen, 0))
    assert {side: len(values) for side, values in found.values.items()} == {
        "encoder": 4,
        "text encoder": 3,
        "decoder": len(seen.asked),
    }
    main(["report", str(run.path), "-q"])
    assert "german: Images" in (run.path / "report.html").read_text()
    with pytest.raises(SystemExit):
        main(["caption", str(run.path), str(tmp_path / "0.png")])
    assert "there is no text beside the image\n  write IMAGE<TAB>TEXT" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["caption", str(run.path), f"{sources[0]}\tanother"])
    assert "there are several texts beside the image\n  write IMAGE<TAB>TEXT" in capsys.readouterr().err


def test_a_table_of_illustrated_texts_has_three_columns(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "train.captions.tsv").write_text("train-0.png\tthe bank\n", encoding="utf-8")
    tree["tasks"]["captions"]["data"]["kind"] = "illustrated"
    with pytest.raises(DataError, match=r"train\.captions\.tsv:1: 1 texts behind the name"):
        train_run(build(MultimodalTask, tree), Listener())


def test_runs_of_other_tasks_are_not_compared(tree: Tree, tmp_path: Path) -> None:
    tree["training"] |= {"steps": 1}
    first = train_run(build(MultimodalTask, tree), Listener())
    del tree["tasks"]["waves"], tree["model"]["encoders"]["signal"]
    second = train_run(build(MultimodalTask, {**tree, "run": str(tmp_path / "other")}), Listener())
    with pytest.raises(UsageError, match="was not tested on the same data as run"):
        compare_runs([first, second], tmp_path / "compare", Listener())
    third = train_run(build(MultimodalTask, {**tree, "run": str(tmp_path / "third"), "seed": 2}), Listener())
    result = compare_runs([second, third], tmp_path / "compare", Listener())
    assert [row["name"] for row in result["systems"]] == ["other", "third"]
    assert {"score", "films.accuracy", "captions.bleu"} <= result["systems"][0]["scores"].keys()
