"""Runs of images, made small: they learn, resume to the bit, classify files, and start from each other."""

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
from seqloom.config import build, load, to_toml
from seqloom.data.batches.windows import Item, ItemBatches, Scale, TextBatchConfig, Window, inputs_of
from seqloom.errors import ConfigError, DataError
from seqloom.nn.embedders import PatchConfig
from seqloom.objectives.cross_entropy import passes_loss
from seqloom.run import Run
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.workflows.train import train_run

Tree = dict[str, Any]


def images(count: int, seed: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Bright images, and images with a bright upper half."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = random.integers(120, 250, (count, size, size), dtype=np.uint8)
    pixels[labels == 1, size // 2 :] //= 4
    return pixels, labels


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name, count, seed in (("train", 80, 1), ("valid", 20, 2), ("test", 20, 3)):
        pixels, labels = images(count, seed)
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=labels)
    data = {name: [str(tmp_path / f"{name}.npz")] for name in ("train", "valid", "test")}
    return {
        "task": "classify",
        "run": str(tmp_path / "run"),
        "data": {"kind": "images", **data, "names": ["bright", "half"]},
        "model": {"encoder": {"layers": 2, "width": 16, "inner": 16, "heads": 2, "dropout": 0.0}},
        "optimizer": {"lr": 0.005},
        "batches": {"tokens": 100},
        "schedule": {"warmup": 5},
        "training": {"steps": 40, "evaluate_every": 20, "threads": 1, "precision": "fp32"},
    }


def config(tree: Tree, **data: Any) -> ClassifyConfig:
    return build(ClassifyConfig, {**tree, "data": {**tree["data"], **data}})


def test_an_adapter_travels_and_is_switched(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_run(config({**tree, "run": "base"}), Listener())
    for name, adapt in (("lora", {"kind": "lora", "rank": 2}), ("bits", {"kind": "bitfit"})):
        train_run(config({**tree, "model": {}, "run": name, "start": "base", "adapt": adapt, "seed": 2}), Listener())
        main(["export", name, f"{name}.safetensors", "--to", "adapter", "-q"])
    main(["import", "lora.safetensors", "again", "--base", "base", "-q"])
    pixels = list(images(6, 7)[0])

    def given(predictor: Any, **options: Any) -> list[Any]:
        return [each.probabilities for each in predictor(pixels, **options)]

    alone = {name: given(seqloom.load(name, precision="fp32")) for name in ("base", "lora", "bits", "again")}
    assert alone["lora"] == alone["again"]
    assert alone["base"] != alone["lora"] != alone["bits"]
    files = {"lora": "lora.safetensors", "bits": "bits"}
    switched = seqloom.load("base", adapters=files, precision="fp32")
    assert given(switched, adapter="lora") == alone["lora"]
    assert given(switched, adapter="bits") == alone["bits"]
    assert given(switched) == alone["base"]
    mixed = given(switched, adapter=["bits", None, "lora"] * 2)
    chosen = [alone[name][row] for row, name in enumerate(["bits", "base", "lora"] * 2)]
    assert [list(p) for p in mixed] == [list(p) for p in chosen]
    for row, expected in zip(mixed, chosen, strict=True):
        assert row == pytest.approx(expected, abs=1e-6)


AUGMENT = {"crop": 1, "flip": True, "operations": 1, "mixup": 0.4, "cutmix": 0.4}


def test_a_run_learns_and_is_used(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_run(config(tree), Listener())
    facts = json.loads((run.path / "labels.json").read_text(encoding="utf-8"))
    assert facts["sizes"] == {"size": 8, "channels": 1}
    main(["eval", str(run.path), "-q", "--json"])
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] > 90
    assert len(scores["confusion"]) == 2
    pixels, labels = images(6, 7)
    found = seqloom.load(run.path)(list(pixels))
    assert [each.label for each in found] == [("bright", "half")[i] for i in labels]
    main(["report", str(run.path), "-q"])
    capsys.readouterr()
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "rollout" in page
    assert "img-src data:" in page
    assert page.count("layer 2</title>") == 2
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "all").mkdir()
    image.fromarray(pixels[0]).save(tmp_path / "all" / "0.png")
    image.fromarray(pixels[1]).resize((30, 20)).save(tmp_path / "all" / "1.png")
    main(["classify", str(run.path), str(tmp_path / "all"), "", str(tmp_path / "all" / "1.png")])
    lines, warned = capsys.readouterr()
    assert [line.split("\t")[0] for line in lines.split("\n")[:-1]] == ["bright", "half", "", "half"]
    assert "images of other sizes are resized to 8 x 8; the first: " in warned


@pytest.mark.parametrize("augment", [{}, AUGMENT], ids=["plain", "augmented"])
def test_a_run_that_was_stopped_has_the_same_bits(augment: Tree, tree: Tree, tmp_path: Path) -> None:
    made = config({**tree, "training": {**tree["training"], "steps": 8, "evaluate_every": 2}}, augment=augment)
    check_resuming(made, tmp_path)


def test_batches_are_standardized_late_and_drawn_from_seed_and_number() -> None:
    pixels, labels = images(12, 5)
    scale = Scale(np.full((1, 1, 1), 100, np.float32), np.full((1, 1, 1), 50, np.float32))
    windows = [Window(p[None], modality="image", positions=5, scale=scale) for p in pixels]
    items = [Item((w,), np.array(label)) for w, label in zip(windows, labels, strict=True)]
    read = inputs_of(windows[:3])["image"].values
    torch.testing.assert_close(read, torch.from_numpy((pixels[:3, None].astype(np.float32) - 100) / 50))
    seen: list[int] = []

    def change(drawn: list[Item], random: np.random.Generator) -> list[Item]:
        seen.append(int(random.integers(1 << 40)))
        return drawn

    batches = [ItemBatches(items, TextBatchConfig(tokens=20), seed, change) for seed in (1, 1, 2)]
    assert batches[0].per_epoch == 3  # 60 positions
    for each in batches:
        for number in (4, 0, 4):
            assert each(number).inputs["image"].values.shape[1:] == (1, 8, 8)
    assert seen[0] == seen[2] == seen[3]
    assert len({seen[0], seen[1], seen[6]}) == 3


def test_frames_are_padded_and_masked() -> None:
    rows = [np.ones((t, 3), dtype=np.float64) for t in (4, 2)]
    read = inputs_of([Window(row, modality="signal") for row in rows])["signal"]
    assert read.values.dtype == torch.float32
    assert read.values.shape == (2, 4, 3)
    assert read.mask is not None
    assert read.mask.sum(1).tolist() == [4, 2]
    assert float(read.values[1, 2:].abs().sum()) == 0


def test_shares_of_labels_are_soft_targets() -> None:
    scores, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    hard = passes_loss([scores], labels, 0.1)
    soft = passes_loss([scores], torch.nn.functional.one_hot(labels, 3).float(), 0.1)
    torch.testing.assert_close(hard, soft)
    shares = torch.rand(5, 3).softmax(-1)
    expected = torch.nn.functional.cross_entropy(scores, shares, reduction="sum")
    torch.testing.assert_close(passes_loss([scores], shares, 0.0)[0], expected)


def test_a_model_of_another_modality_is_refused(tree: Tree) -> None:
    with pytest.raises(ConfigError, match="reads texts, and the data are images"):
        build(ClassifyConfig, {**tree, "model": {"embedder": {"kind": "tokens"}}})
    text = {"task": "classify", "data": {"train": ["x.tsv"]}}
    with pytest.raises(ConfigError, match=r"reads images, and the data are texts: leave out .*, or the preset"):
        build(ClassifyConfig, {**text, "model": {"preset": "small-vit"}})
    assert isinstance(config(tree).model.embedder, PatchConfig)
    assert build(ClassifyConfig, text).model.embedder.kind == "tokens"


def test_a_config_comes_back_from_toml(tree: Tree, tmp_path: Path) -> None:
    made = config(tree, augment=AUGMENT)
    (tmp_path / "c.toml").write_text(to_toml(made), encoding="utf-8")
    assert load(ClassifyConfig, tmp_path / "c.toml") == made


def test_test_images_of_another_size_are_refused(tree: Tree, tmp_path: Path) -> None:
    pixels, labels = images(20, 3, size=6)
    np.savez(tmp_path / "other.npz", images=pixels, labels=labels)
    with pytest.raises(DataError, match=r"other.npz:1: an image of 6 x 6 in grey, and the model reads 1 x 8 x 8"):
        config(tree, valid=[str(tmp_path / "other.npz")]).prepare(Listener())


@pytest.mark.parametrize("adapt", ["none", "lora", "bitfit"])
def test_a_run_starts_from_one_of_another_resolution(adapt: str, tree: Tree, tmp_path: Path) -> None:
    base = train_run(config({**tree, "training": {**tree["training"], "steps": 2, "evaluate_every": 2}}), Listener())
    for name, count, seed in (("train", 40, 4), ("valid", 10, 5), ("test", 10, 6)):
        pixels, labels = images(count, seed, size=16)
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=labels)
    more = {"start": str(base.path), "run": str(tmp_path / "next"), "adapt": {"kind": adapt} if adapt != "none" else {}}
    steps = {**tree["training"], "steps": 2, "evaluate_every": 2}
    listener = Listener()
    run = train_run(config({**tree, "model": {}, "training": steps, **more}), listener)
    assert seqloom.load(run.path)(list(images(2, 9, size=16)[0]))[0].label in ("bright", "half")
    kept, before = (json.loads((r.path / "labels.json").read_text(encoding="utf-8")) for r in (run, base))
    assert kept["scale"] == before["scale"]
    assert kept["sizes"]["size"] == 16
    assert Run.open(run.path).best(lambda text: None)
    np.savez(tmp_path / "train.npz", images=np.stack([pixels] * 3, -1), labels=labels)
    with pytest.raises(DataError, match=r"the data have 3 channels, and .* has learned 1\n  name data"):
        config({**tree, "model": {}, **more}, valid=[]).prepare(Listener())


def test_places_are_interpolated_over_the_grid(tree: Tree) -> None:
    from seqloom.tasks.building import _placed
    from seqloom.training.checkpoint import Stored
    from seqloom.training.log import Reporter

    made = config(tree)
    model = made.build(seqloom.tasks.assets.Assets(facts={"labels": ["a", "b"], "sizes": {"size": 16, "channels": 1}}))
    rows = torch.arange(2.0)[:, None, None].expand(2, 2, 16)
    table = torch.cat((torch.full((1, 16), 7.0), rows.reshape(4, 16)))
    stored = {"embedder.places": Stored((5, 16), lambda: table)}
    read = _placed(stored, model, Reporter(0))["embedder.places"]
    assert read.shape == (17, 16)
    grid = read.read()[1:].reshape(4, 4, 16)
    assert read.read()[0].eq(7).all()
    torch.testing.assert_close(grid, grid[:, :1].expand(4, 4, 16))
    assert (grid.diff(dim=0) > 0).all()
