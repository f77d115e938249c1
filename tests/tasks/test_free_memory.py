"""A model that is too large for the memory is refused before anything of its size is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from calls import LANGUAGE_MODEL, SMALL, Call, call
from made_up import sentences, write_corpus
from toys import Listener

from seqloom.errors import ConfigError
from seqloom.models.assemblies import parameter_count
from seqloom.run import Run
from seqloom.tasks import load, read_config
from seqloom.tasks.building import load_model, new_model
from seqloom.training.log import Reporter
from seqloom.workflows.train import train_run

__all__ = ["call"]
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
WORDS = """\
task = "embed_words"
data = {kind = "text", train = ["train.txt"]}
model = {width = 7, shortest = 2, longest = 3, buckets = 19}
training = {threads = 1}
"""
CONFIGS = {
    "translate": SMALL,
    "transformer": LANGUAGE_MODEL.replace('preset = "small-lstm"\nembedding = 12', "").replace(
        "width = 16", "width = 16\nheads = 2\ninner = 16"
    ),
    "lstm": LANGUAGE_MODEL,
    "words": WORDS,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, count, seed in (("train", 60, 1), ("valid", 4, 2), ("test", 4, 3)):
        write_corpus(tmp_path, name, count, seed)
        (tmp_path / f"{name}.txt").write_text("\n".join(sentences(count, seed)), encoding="utf-8")
    for name, text in CONFIGS.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", ["train", "check"])
def test_a_training_that_no_machine_has_the_memory_for(verb: str, call: Call, folder: Path) -> None:
    decoder = "--model.decoder.heads", "1", "--model.decoder.width", "100000", "--model.decoder.layers", "30"
    result = call(verb, "transformer.toml", *decoder, *(("--run", "new") if verb == "train" else ()))
    result.refused(
        2,
        "model.decoder.width: a model of 1,",
        "GB for weights, gradients and moments",
        "GB are free",
        "choose a smaller one than 100,000, or fewer layers than 30",
    )
    assert not Run("new").begun


@pytest.mark.parametrize(
    ("name", "options", "key", "value"),
    [
        ("transformer", "--model.decoder.width 900", "model.decoder.width", "900"),
        ("transformer", "--model.decoder.inner 5000", "model.decoder.inner", "5,000"),
        (
            "transformer",
            "--model.decoder.positions.kind learned --model.decoder.positions.length 5000",
            "model.decoder.positions.length",
            "5,000",
        ),
        ("transformer", "", "tokenizer.size", "284"),
        ("lstm", "--model.embedding 700", "model.embedding", "700"),
        ("lstm", "--model.decoder.width 500", "model.decoder.width", "500"),
        ("translate", "--model.encoder.inner 900", "model.encoder.inner", "900"),
        ("translate", "--model.decoder.inner 900", "model.decoder.inner", "900"),
        ("words", "--model.buckets 5000", "model.buckets", "5,000"),
        ("words", "--model.width 900", "model.width", "900"),
    ],
)
def test_the_key_of_the_largest_parameter_is_named(
    name: str, options: str, key: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(f"{name}.toml", options.split())
    monkeypatch.setattr("seqloom.tasks.memory.shortage", lambda needed, device: 0)
    with pytest.raises(ConfigError) as caught:
        train_run(config, Listener())
    assert caught.value.where == key
    assert f"choose a smaller one than {value}" in caught.value.cure


def test_what_is_needed_where(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config("lstm.toml", ())
    assets = config.prepare(Reporter(0)).assets
    asked: list[tuple[int, torch.device]] = []
    monkeypatch.setattr("seqloom.tasks.memory.shortage", lambda needed, device: asked.append((needed, device)))
    count = parameter_count(new_model(config, assets, GPU))
    assert asked == [(20 * count, GPU), (4 * count, CPU)]


def test_a_run_in_use_needs_its_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_run(read_config("lstm.toml", ("--training.steps", "1")), Listener())
    count = run.info()["training"]["parameters"]
    monkeypatch.setattr("seqloom.tasks.memory.shortage", lambda needed, device: None if needed < 4 * count else 5)
    for use in (lambda: load(run), lambda: load_model(Run.open(run.path), Listener())):
        with pytest.raises(
            ConfigError, match=rf"a model of {count:,} parameters needs 0.0 GB for its weights"
        ) as caught:
            use()
        assert caught.value.where == str(run.path)
