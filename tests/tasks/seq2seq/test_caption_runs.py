"""Runs that write about images, made small: every encoder with every decoder, files in use, several references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starts import check_resuming
from toys import Listener

import seqloom
from seqloom.cli import main
from seqloom.config import build
from seqloom.errors import ConfigError, SeqloomError
from seqloom.models.presets import CAPTIONS
from seqloom.tasks.seq2seq.data import read_corpus
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.workflows.train import train_run

Tree = dict[str, Any]
PLACES = ("the upper half is bright", "it is bright above"), ("the lower half is bright", "it is bright below")


def write(folder: Path, name: str, count: int, seed: int) -> list[str]:
    """Images of which one half is bright, each with two captions: the .npz and the table."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 90, (count, 8, 8, 3), dtype=np.uint8)
    for i in range(count):
        pixels[i, 4 * (i % 2) : 4 * (i % 2) + 4] += 140
    names = [f"{name}-{i}.jpg" for i in range(count)]
    np.savez(folder / f"{name}.npz", images=pixels, names=np.array(names))
    lines = ["\t".join((names[i], *PLACES[i % 2])) for i in range(count)]
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [str(folder / f"{name}.npz"), str(folder / f"{name}.tsv")]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    data = {name: write(tmp_path, name, n, i) for i, (name, n) in enumerate((("train", 40), ("test", 20)))}
    return {
        "task": "translate",
        "run": str(tmp_path / "run"),
        "data": {"kind": "captions", **data},
        "tokenizer": {"kind": "words"},
        "model": {
            "preset": "show-attend-tell",
            "encoder": {"width": 16, "dropout": 0.0},
            "decoder": {"width": 16, "dropout": 0.0},
            "source": {"patch": 4},
        },
        "objective": {"smoothing": 0.0},
        "optimizer": {"lr": 0.01},
        "batches": {"tokens": 200},
        "schedule": {"warmup": 5},
        "training": {"steps": 60, "evaluate_every": 30, "threads": 1, "precision": "fp32", "metric": "loss"},
    }


def config(tree: Tree, **changes: Any) -> TranslateConfig:
    return build(TranslateConfig, {**tree, **changes})


def test_a_run_learns_and_is_used(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_run(config(tree), Listener())
    main(["eval", str(run.path), "-q", "--json"])
    scores = json.loads(capsys.readouterr().out)
    assert scores["exact_match"] == 100
    assert (scores["sentences"], scores["references"]) == (20, 40)
    assert scores["signature"].startswith("nrefs:2|")
    assert scores["nearest_bleu"] == pytest.approx(100)
    assert scores["cider"] == pytest.approx(5)  # as one of two references, which share little
    assert "tok:13a" in scores["cider_signature"]
    assert scores["translations"][1]["references"] == list(PLACES[1])
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "all").mkdir()
    dark_above = np.repeat(np.uint8([0] * 8 + [200] * 8), 16).reshape(16, 16)
    pillow.fromarray(np.stack([dark_above] * 3, -1)).save(tmp_path / "all" / "a.png")
    main(["caption", str(run.path), str(tmp_path / "all"), "--json", "--decoding.n-best", "2"])
    lines, warned = capsys.readouterr()
    row = json.loads(lines)
    assert row["source"].endswith("a.png")
    assert row["translations"][0]["text"] in PLACES[1]
    assert len(row["translations"]) == 2
    assert "images of other sizes are resized to 8 x 8" in warned
    main(["report", str(run.path), "-q"])
    other = train_run(config({**tree, "run": str(tmp_path / "other")}, seed=2), Listener())
    main(["compare", str(run.path), str(other.path), "--to", str(tmp_path / "both"), "-q"])
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "What each token attends to" in page
    capsys.readouterr()
    wrong = {"reads images, not texts": ["translate", str(run.path), "a text"]}
    wrong["reads images and writes text"] = ["export", str(run.path), str(tmp_path / "out"), "--to", "hf"]
    wrong["reads no text"] = ["microscope", str(run.path), "--to", str(tmp_path / "seen")]
    wrong["there is no image"] = ["caption", str(run.path)]
    for message, words in wrong.items():
        with pytest.raises(SystemExit):
            main(words)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("augment", [{}, {"crop": 1, "flip": True}], ids=["plain", "augmented"])
def test_a_run_that_was_stopped_has_the_same_bits(augment: Tree, tree: Tree, tmp_path: Path) -> None:
    short = {**tree["training"], "steps": 8, "evaluate_every": 2}
    made = config(tree, training=short, data={**tree["data"], "augment": augment})
    check_resuming(made, tmp_path)


@pytest.mark.parametrize("preset", CAPTIONS)
@pytest.mark.parametrize("decoder", ["own", "convolutional"])
def test_every_encoder_of_images_has_every_decoder(preset: str, decoder: str, tree: Tree) -> None:
    model: Tree = {"preset": preset, "source": {"patch": 4}}
    if decoder != "own":
        parts = CAPTIONS[preset]
        source = {**parts["source"], "patch": 4}
        other = {"kind": decoder, "layers": 1, "width": 16}
        model = {"kind": "encoder-decoder", "encoder": parts["encoder"], "source": source, "decoder": other}
    made = config(tree, model=model)
    corpus = read_corpus(made, Listener())
    net = made.build(corpus.assets)
    loss = made.objective(net, corpus.batches(0))
    loss.value.backward()
    first = next(net.source.parameters())
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0
    writer = made.predictor(net, corpus.assets)
    greedy = writer(corpus.splits.valid.sources, kind="greedy", max_length=5)
    assert greedy == writer(corpus.splits.valid.sources, kind="beam", beam=1, max_length=5)


def test_a_caption_depends_on_its_image_alone(tree: Tree) -> None:
    made = config(tree)
    corpus = read_corpus(made, Listener())
    net = made.build(corpus.assets).eval()
    writer = made.predictor(net, corpus.assets)
    sources = list(dict.fromkeys(corpus.splits.train.sources))[:4]
    together = writer.score(sources, ["it is bright above"] * 4)
    apart = [writer.score([source], ["it is bright above"])[0] for source in sources]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(apart))
    assert len({round(score, 4) for score in together}) > 1


def test_all_captions_are_learned_and_images_held_out_whole(tree: Tree) -> None:
    splits = config(tree).data.splits()
    assert len(splits.train) == 2 * 36
    assert len(splits.valid) == 2 * 4
    assert not {*splits.train.sources} & {*splits.valid.sources}
    asked, references = splits.valid.grouped()
    assert len(asked) == len(references) == 4
    assert {*references} <= {*PLACES}


def test_captions_are_no_findings_and_have_places_in_their_table(tree: Tree, tmp_path: Path) -> None:
    table = tmp_path / "train.tsv"
    table.write_text(table.read_text() + f"train-0.jpg\t{PLACES[0][0]}\t\n")
    found = config(tree).prepare(Listener()).findings()
    within = [(finding.what, finding.where) for finding in found if "also in" not in finding.what]
    assert within == [("duplicated pairs", f"{table}:41")]


def damage(tmp_path: Path, tree: Tree, what: str) -> None:
    table, folder = tmp_path / "train.tsv", tmp_path / "files"
    if what == "unknown name":
        table.write_text(table.read_text() + "other.jpg\tan image that is not there\n")
    if what == "no caption":
        table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    if what == "blank caption":
        table.write_text(table.read_text() + "other.jpg\t \n")
    if what == "caption after a blank one":
        table.write_text(table.read_text() + "other.jpg\tbright\t \tdark\n")
    if what == "damaged":
        pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
        folder.mkdir()
        with np.load(tmp_path / "train.npz") as arrays:
            for name, pixels in zip(arrays["names"], arrays["images"], strict=True):
                pillow.fromarray(pixels).save(folder / name)
        (folder / "train-3.jpg").write_bytes(b"no image")
        tree["data"]["train"][0] = str(folder)
    if what == "one file":
        del tree["data"]["train"][1]
    if what == "other size":
        tree["model"]["source"] = {"size": 16}
    if what == "mixup":
        tree["data"]["augment"] = {"mixup": 0.2}
    if what == "text model":
        tree["model"]["source"] = {"kind": "tokens"}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("unknown name", r"train.tsv:41: there is no image 'other.jpg' in .*train.npz"),
        ("no caption", r"train.npz: the image 'train-0.jpg' has no caption in .*train.tsv"),
        ("blank caption", r"train.tsv:41: a name without a caption"),
        ("caption after a blank one", r"train.tsv:41: a blank caption before another"),
        ("damaged", r"train-3.jpg: not a whole image"),
        ("one file", "captions are two files, not 1"),
        ("other size", "model.source.size: is 16, that of the data 8"),
        ("mixup", "mixup and augment.cutmix are for labels"),
        ("text model", r"reads texts, and the data are images"),
    ],
)
def test_what_is_wrong_is_said(what: str, message: str, tree: Tree, tmp_path: Path) -> None:
    damage(tmp_path, tree, what)
    with pytest.raises((SeqloomError, ConfigError), match=message):
        train_run(config(tree), Listener())
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.parametrize(("what", "lost"), [("unknown name", 1), ("no caption", 1), ("damaged", 2)])
def test_what_is_skipped_is_counted(what: str, lost: int, tree: Tree, tmp_path: Path) -> None:
    damage(tmp_path, tree, what)
    listener = Listener()
    read_corpus(config(tree, data={**tree["data"], "unpaired": "skip", "damaged": "skip"}), listener)
    assert any(f"{lost} training pairs with an empty side are left out" in line for line in listener.warnings)


def test_the_predictor_takes_paths_and_addresses(tree: Tree, tmp_path: Path) -> None:
    short = {**tree["training"], "steps": 1, "evaluate_every": 1}
    run = train_run(config(tree, training=short), Listener())
    writer = seqloom.load(run.path)
    sources = config(tree).data.splits().valid.sources
    assert len(writer(sources)) == len(sources)
    with pytest.raises(SeqloomError, match="no such file"):
        writer([str(tmp_path / "missing.png")])
