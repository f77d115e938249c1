"""Adapted runs, as a user makes them: trained, resumed, evaluated, exported, and started from again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from adapted import BASES, LLAMA, LORA, TESTS, WAYS, train_with_new_tokens, write_config
from calls import SMALL, Call
from made_up import write_corpus
from safetensors.torch import load_file

from seqloom.errors import RunError
from seqloom.files import FROZEN, WEIGHTS
from seqloom.run import Run
from seqloom.tasks import load
from seqloom.tasks.building import load_model
from seqloom.training.log import Reporter


@pytest.fixture(params=BASES)
def base(bases: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The task of a run that lies at run/ of the folder that the test is in, with tuned.toml, which starts from it."""
    name: str = request.param
    shutil.copytree(bases / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    return name


def evaluated(call: Call, run: str, name: str) -> dict[str, float]:
    result = call("eval", run, "--test", *TESTS[name], "--json", "-q")
    assert result.code == 0, result.err
    scores: dict[str, float] = json.loads(result.out)
    return {key: value for key, value in scores.items() if isinstance(value, float) and key != "seconds"}


@pytest.mark.parametrize("way", WAYS)
def test_an_adapted_run_is_one_like_any_other(call: Call, base: str, way: str) -> None:
    write_config(base, WAYS[way])
    result = call("train", "tuned.toml", "--run", "tuned")
    assert result.code == 0, result.err
    assert "of them learned" in result.err
    run, origin = Run.open("tuned"), Run.open("run")

    frozen, started = load_file(run.path / FROZEN), load_file(origin.best(print).path / WEIGHTS)
    learned = load_file(run.best(print).path / WEIGHTS)
    plain = {name for name in learned if "changes" not in name}
    every = {name for name, _ in load(run).model.named_parameters()}
    assert every == plain | (every & frozen.keys())
    assert all(torch.equal(frozen[name], started[name]) for name in frozen.keys() - plain)
    assert all(not torch.equal(learned[name], started[name]) for name in plain & started.keys())
    assert bool(plain) == (way != "lora")
    about = run.info()["training"]
    assert about["learned"] == sum(value.numel() for value in learned.values()) < about["parameters"]

    scores = evaluated(call, "tuned", base)
    assert scores != evaluated(call, "run", base)
    assert call("report", "tuned", "-q").code == 0
    compared = call("compare", "run", "tuned", "--test", *TESTS[base], "--json", "-q", "--to", "both")
    assert compared.code == 0, compared.err

    # resumed after two of the four steps: the same bits
    assert call("train", "tuned.toml", "--run", "again", "--training.steps", "2", "-q").code == 0
    assert call("train", "tuned.toml", "--run", "again", "-q").code == 0
    newest = Run.open("again").newest(print)
    expected = run.newest(print)
    assert newest is not None
    assert expected is not None
    assert newest.weights.read_bytes() == expected.weights.read_bytes()

    # what it is exported as, and what starts from it, has the adapter in its weights
    used = dict(load(run, precision="fp32").model.named_parameters())
    model, _, _ = load_model(run, Reporter(0))
    assert all(torch.equal(p, used[name]) for name, p in model.named_parameters())
    if way == "lora":
        merged = call("merge", "tuned", "merged")
        assert merged.code == 0, merged.err
        assert evaluated(call, "merged", base) == scores
        weights = load_file(Run.open("merged").best(print).path / WEIGHTS)
        assert all(torch.equal(weights[name], p) for name, p in model.named_parameters())
        assert not (Path("merged") / FROZEN).exists()
        call("merge", "merged", "twice").refused(2, "was not adapted")
        call("merge", "tuned", "merged").refused(2, "there is a run already")
    write_config(base, "")
    more = call("train", "tuned.toml", "--start", "tuned", "--run", "more", "--training.steps", "1", "-q",
                "--optimizer.lr", "1e-9")  # fmt: skip
    assert more.code == 0, more.err
    merged = load_file(Run.open("more").best(print).path / WEIGHTS)
    assert all(torch.allclose(merged[name], used[name], atol=1e-6) for name in merged)
    assert not (Path("more") / FROZEN).exists()

    # a run needs nothing of the one it started from
    Path("run").rename("away")
    assert evaluated(call, "tuned", base) == scores

    # one changed byte of what is frozen
    data = bytearray((run.path / FROZEN).read_bytes())
    data[-1] ^= 1
    (run.path / FROZEN).unlink()
    (run.path / FROZEN).write_bytes(data)
    for words in (("eval", "tuned"), ("train", "tuned.toml", "--run", "tuned")):
        result = call(*words, "-q")
        assert result.code != 0
        if words[0] == "eval":
            assert FROZEN in result.refused(2, "is not the file this run was trained with")


def test_frozen_weights_are_on_disk_only_once(call: Call, bases: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(bases / "language_model", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    write_config("language_model", LORA)
    assert call("train", "tuned.toml", "--run", "tuned", "-q").code == 0
    file = Run.open("run").best(print).weights
    assert (Path("tuned") / FROZEN).stat().st_ino == file.stat().st_ino
    assert not list(Path("tuned/checkpoints").glob(f"*/{FROZEN}"))

    estimate = json.loads(call("check", "tuned.toml", "--json", "-q").out)["estimate"]
    size = sum(path.stat().st_size for path in Path("tuned").rglob("*.safetensors"))
    assert estimate["learned"] == Run.open("tuned").info()["training"]["learned"]
    assert estimate["disk_gigabytes"] == pytest.approx(size / 1e9, rel=0.25)


def test_tokens_that_the_base_has_not_are_learned_with_any_adapter(
    call: Call, bases: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(bases / "language_model", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    train_with_new_tokens(call, bases)
    table, tuned = (
        dict(load(run, precision="fp32").model.named_parameters())["embedder.weight"] for run in ("plain", "tuned")
    )
    new = len(tuned) - len(table)
    assert new > 0
    assert torch.equal(tuned[:-new], table)
    assert not torch.equal(tuned[-1], tuned[-2])
    assert call("generate", "tuned", "ba ko", "-q").code == 0


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        ('kind = "lora"\ntargets = ["qvk"]', ("adapt.targets", "'qvk' matches no layer", "did you mean 'qkv'?")),
        ('kind = "lora"\ntargets = ["zzzz"]', ("'zzzz' matches no layer", "known are: ", "qkv")),
        ('kind = "lora"\nrank = 999', ("adapt.rank = 999", "no matrix has a rank above")),
        ('kind = "last-layers"\nlayers = 99', ("fewer than adapt.layers = 99", "choose fewer")),
        ('kind = "lora"\nrank = 0', ("adapt.rank", "from 1")),
        ('kind = "adapter"', ("adapt", "'adapter'", "lora")),
    ],
)
def test_what_cannot_be_adapted_is_refused(call: Call, bases: Path, tmp_path: Path, monkeypatch, adapt, words) -> None:
    monkeypatch.chdir(bases / "translate")
    write_config("translate", f"\n[adapt]\n{adapt}\n")
    result = call("train", "tuned.toml", "--run", tmp_path / "tuned", "-q")
    result.refused(2, *words)
    assert not (tmp_path / "tuned").exists()


def test_what_is_refused_after_the_text_is_encoded_leaves_nothing(
    call: Call, bases: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(bases / "language_model", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    Path("bare.toml").write_text(LLAMA, encoding="utf-8")
    assert call("train", "bare.toml", "--run", "bare", "-q").code == 0
    write_config("language_model", WAYS["bitfit"])
    tuned = "train", "tuned.toml", "--start", "bare", "--run", "runs/tuned", "-q"
    call(*tuned).refused(2, "leaves nothing to learn: the model has no biases")
    assert not Path("runs").exists()
    call(*tuned, "--tokenizer.size", "300").refused(2, "--tokenizer.size: the tokenizer is that of bare")


def test_an_adapter_needs_a_start(call: Call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path, "train", 9, 1)
    write_corpus(tmp_path, "valid", 4, 2)
    Path("small.toml").write_text(SMALL + LORA, encoding="utf-8")
    call("train", "small.toml", "-q").refused(2, "adapt.kind = 'lora'", "start must name it", cured=False)
    with pytest.raises(RunError, match="no such run"):
        Run.open("runs/small")


def test_a_comparison_of_runs_of_one_start_shows_what_they_have_forgotten(call: Call, base: str) -> None:
    write_config(base, LORA)
    for name, lr in (("same", "1e-12"), ("changed", "0.03")):
        result = call("train", "tuned.toml", "--run", name, "--optimizer.lr", lr, "-q")
        assert result.code == 0, result.err
    words = ("compare", "same", "changed", "--test", *TESTS[base], "--to", "both")
    result = call(*words, "--json")
    assert result.code == 0, result.err
    forgetting = json.loads(result.out)["forgetting"]
    if base == "translate":  # whose config names no test data
        assert "what was forgotten of run is not measured" in result.err
        assert forgetting is None
        return
    start, same, _ = forgetting["systems"]
    assert [row["name"] for row in forgetting["systems"]] == ["run", "same", "changed"]
    scores = json.loads(call("eval", "run", "--json", "-q").out)
    assert start["scores"] == {key: scores[key] for key in forgetting["measures"]}
    assert same["scores"] == start["scores"]
    assert json.loads(Path("changed/eval/test-of-run.json").read_text("utf-8"))["loss"] != scores["loss"]
    again = call(*words)
    assert "evaluating" not in again.err
    assert "What is kept of run" in again.out
    assert "What is kept of run" in Path("both/compare.html").read_text("utf-8")
