"""Image file in, label out: published vision models with their preprocessor, beside transformers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import Publish, publish, transformers
from toys import Listener

import seqloom
from seqloom.cli import main
from seqloom.errors import ConfigError
from seqloom.interop.preprocessor import NAME, read_pixels, written_pixels
from seqloom.nn.embedders import PatchConfig
from seqloom.tasks.assets import load_facts
from seqloom.training.log import Reporter
from seqloom.workflows.export import export_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.parity import compare_export, compare_with_transformers

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no file is decoded")
PATCHES = PatchConfig(size=8, patch=4, channels=3)
__all__ = ["publish", "transformers"]
QUIET = Reporter(0)
NORMAL = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}


def preprocessed(folder: Path, **values: Any) -> Path:
    form = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}, **NORMAL, **values}
    (folder / NAME).write_text(json.dumps(form), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "values",
    [{}, {"resample": 3}, {"do_normalize": False}, {"do_rescale": False, "image_std": [50, 60, 70]}],
    ids=["usual", "bicubic", "plain", "bytes"],
)
def test_files_get_the_labels_of_transformers_before_and_after_export(
    values: dict[str, Any], publish: Publish, tmp_path: Path
) -> None:
    folder = preprocessed(publish("vit-label"), **values)
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    assert run.info()["task"] == "classify"
    assert compare_with_transformers(run, str(folder), QUIET)["labels of images"] == "the same"
    export_run(str(run.path), "hf", str(tmp_path / "out"), QUIET)
    # That is a copy of the file; a model that was trained further has what the facts state.
    (tmp_path / "out" / NAME).write_text(json.dumps(written_pixels(load_facts(run))), encoding="utf-8")
    assert compare_export(str(run.path), "hf", str(tmp_path / "out"), QUIET)["labels of images"] == "the same"


def test_a_wrong_mean_is_noticed(publish: Publish, tmp_path: Path) -> None:
    folder = preprocessed(publish("vit-label"))
    run = import_run(str(folder), str(tmp_path / "run"), QUIET)
    preprocessed(folder, image_mean=[0.1, 0.5, 0.6])
    assert str(compare_with_transformers(run, str(folder), QUIET)["labels of images"]).startswith("DIFFERENT")


@pytest.mark.parametrize("adapt", ["full", "lora", "bitfit"])
def test_an_imported_model_is_used_and_fine_tuned(
    adapt: str, publish: Publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = import_run(str(preprocessed(publish("vit-label"))), str(tmp_path / "vit"), QUIET)
    for label, value in (("dark", 30), ("light", 220)):
        (tmp_path / "all" / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.full((11, 13, 3), value + i, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "all" / label / f"{i}.png")
    main(["classify", str(run.path), str(tmp_path / "all" / "dark" / "0.png"), "-q"])
    assert capsys.readouterr().out.startswith("LABEL_")
    (tmp_path / "c.toml").write_text(
        f'task = "classify"\nstart = "{run.path}"\nrun = "{tmp_path / "tuned"}"\n[data]\nkind = "images"\n'
        f'train = ["{tmp_path / "all"}"]\nsize = 8\nchannels = 3\n'
        "[training]\nsteps = 2\nevaluate_every = 2\nthreads = 1\n",
        encoding="utf-8",
    )
    main(["train", str(tmp_path / "c.toml"), "-q", *(["--adapt.kind", adapt] if adapt != "full" else [])])
    assert load_facts(seqloom.Run.open(tmp_path / "tuned"))["scale"] == load_facts(run)["scale"]
    found = seqloom.load(tmp_path / "tuned")([str(tmp_path / "all" / "light" / "3.png")])
    assert found[0].label in ("dark", "light")


def test_the_file_is_honoured_or_refused(tmp_path: Path) -> None:
    facts, warnings = read_pixels(preprocessed(tmp_path), PATCHES)
    assert warnings == []
    np.testing.assert_allclose(facts["scale"]["mean"], [102, 127.5, 153])
    assert read_pixels(tmp_path, PATCHES)[0] == facts
    (tmp_path / NAME).write_text(json.dumps(written_pixels(facts)), encoding="utf-8")
    again, _ = read_pixels(tmp_path, PATCHES)
    np.testing.assert_allclose(again["scale"]["deviation"], facts["scale"]["deviation"])
    for values, message in (
        ({"do_center_crop": True}, "do_center_crop = True is not supported"),
        ({"size": {"height": 16, "width": 16}}, "is not that of the model"),
        ({"size": {"shortest_edge": 9}}, "is not that of the model"),
        ({"image_mean": [0.5]}, "do not fit"),
        ({"image_std": [0, 1, 1]}, "do not fit"),
        ({"image_std": "x"}, NAME),
    ):
        with pytest.raises(ConfigError, match=message):
            read_pixels(preprocessed(tmp_path, **values), PATCHES)
    (tmp_path / NAME).unlink()
    facts, (warning,) = read_pixels(tmp_path, PATCHES)
    assert "is missing" in warning
    assert facts["scale"] == {"mean": [127.5] * 3, "deviation": [127.5] * 3}


def test_a_model_of_grey_images_is_exported_with_a_warning(tmp_path: Path) -> None:
    pixels = np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(20) % 2)
    small = ["--model.encoder.layers", "1", "--model.encoder.width", "8", "--model.encoder.heads", "2"]
    (tmp_path / "c.toml").write_text(
        f'task = "classify"\nrun = "{tmp_path / "run"}"\n[data]\nkind = "images"\ntrain = ["{tmp_path / "a.npz"}"]\n'
        "[training]\nsteps = 1\nevaluate_every = 1\nthreads = 1\n",
        encoding="utf-8",
    )
    main(["train", str(tmp_path / "c.toml"), "-q", *small])
    listener = Listener()
    export_run(str(tmp_path / "run"), "hf", str(tmp_path / "out"), listener)
    assert listener.warnings == ["transformers reads images in colours, this model in grey: convert them there"]
    shown = compare_export(str(tmp_path / "run"), "hf", str(tmp_path / "out"), QUIET)
    assert "labels of images" not in shown
