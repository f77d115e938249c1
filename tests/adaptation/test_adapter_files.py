"""Adapters that travel as files, and several on one base."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import BASES, LLAMA, WAYS, train_with_new_tokens, write_config
from calls import Call, train_in
from faults.kinds import KINDS
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import seqloom
from seqloom.cli import main
from seqloom.errors import RunError, UsageError
from seqloom.files import FROZEN, sealed
from seqloom.run import Run
from seqloom.tasks import adapter as files
from seqloom.tasks.switching import Adapters
from seqloom.text.chat import Message

LINEAR = '\n[adapt]\nkind = "lora"\nrank = 2\n'
LEARNED = {"a": LINEAR, "b": LINEAR, "bits": WAYS["bitfit"] + "norms = true\n"}
NAMES = [*BASES, "llama"]
TESTS = {"translate": ("--test", "test.src", "test.tgt")}
TEXTS = ["ba ko", "ko ba ne", "ra", "ne ra ko ba"]


@pytest.fixture(scope="module")
def trained(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """(name) -> a folder with a run, what started from it, and a file of each: run, a, a.safetensors, ..."""
    place = tmp_path_factory.mktemp("trained")

    @cache
    def train(name: str) -> Path:
        folder = place / name
        if name == "llama":
            folder.mkdir()
            KINDS["language_model"].write(folder)
            (folder / "small.toml").write_text(LLAMA, encoding="utf-8")
            train_in(folder)
        else:
            shutil.copytree(bases / name, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("SEQLOOM_KEEP_MEMORY", "0")
            for seed, (run, adapt) in enumerate(LEARNED.items()):
                write_config(name, adapt)
                options = ["--optimizer.lr", "0.1", "--schedule.kind", "linear", "--schedule.warmup", "1", "--seed"]
                main(["train", "tuned.toml", "--run", run, "-q", *options, str(seed)])
                main(["export", run, f"{run}.safetensors", "--to", "adapter", "-q"])
        return folder

    return train


@pytest.fixture
def here(trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Copies the runs of a kind into a folder, and goes there."""

    def go(name: str) -> Path:
        shutil.copytree(trained(name), tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name

    return go


def numbers(predictor: Any) -> list[Any]:
    """What a predictor computes, to the last bit."""
    match type(predictor).__name__:
        case "Translator":
            return [predictor.score(TEXTS, TEXTS[::-1]), predictor.translate(TEXTS, beam=3, n_best=2)]
        case "Generator":
            return [predictor.score(TEXTS, TEXTS[::-1]), predictor.batch(TEXTS)]
    return [prediction.probabilities for prediction in predictor(TEXTS)]


def opened(run: str | Path | Run) -> Any:
    return seqloom.load(run, precision="fp32")


def on(base: str, **adapters: str | Path | Run) -> Adapters:
    adapted = seqloom.load(base, adapters=adapters, precision="fp32")
    assert isinstance(adapted, Adapters)
    return adapted


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    """A file of an adapter whose metadata and weights someone changed, with digests that fit."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["seqloom"])
    weights = load_file(path)
    change(about, weights)
    about["weights"] = {name: files._digest([("", value)]) for name, value in weights.items()}
    save_file(weights, other := path.with_name("changed.safetensors"), {"seqloom": json.dumps(sealed(about))})
    return other


@pytest.mark.parametrize(("name", "learned"), [*zip(NAMES, ["a", "bits"] * 2, strict=True)])
def test_an_adapter_travels_and_is_a_run_again(
    call: Call, here: Callable[[str], Path], name: str, learned: str
) -> None:
    here(name)
    file, original = Path(f"{learned}.safetensors"), Run.open(learned)
    assert file.stat().st_size < original.best(print).weights.stat().st_size + 12_000
    expected = numbers(opened(original))
    weights, frozen = original.best(print).weights.read_bytes(), load_file(original.path / FROZEN)
    tokenizer = json.loads((original.path / "tokenizer.json").read_text(encoding="utf-8"))
    scores = json.loads(call("eval", learned, "--json", "-q", *TESTS.get(name, ())).out)
    shutil.rmtree(learned)
    Path("run").rename("base")
    call("import", file, "again").refused(2, str(file), "its base, run, is not here", "--base RUN")
    result = call("import", file, "again", "--base", "base")
    assert result.code == 0, result.err
    again = Run.open("again")
    assert again.best(print).weights.read_bytes() == weights
    copied = load_file(again.path / FROZEN)
    assert copied.keys() == frozen.keys()
    assert all(torch.equal(copied[key], value) for key, value in frozen.items())
    assert numbers(opened(again)) == expected
    assert json.loads((again.path / "tokenizer.json").read_text(encoding="utf-8")) == tokenizer
    own = json.loads(call("eval", "again", "--json", "-q", *TESTS.get(name, ())).out)
    assert {**own, "seconds": 0, "checkpoint": ""} == {**scores, "seconds": 0, "checkpoint": ""}
    assert again.info()["adapter"] == {"from": str(file)}
    assert call("merge", "again", "merged", "-q").code == 0
    assert call("export", "again", "twice.safetensors", "--to", "adapter", "-q").code == 0
    assert load_file("twice.safetensors").keys() == load_file(file).keys()
    call("import", file, "again", "--base", "base").refused(2, "there is a run already")


@pytest.mark.parametrize("name", NAMES)
def test_adapters_are_switched_by_name_and_by_row(here: Callable[[str], Path], name: str) -> None:
    here(name)
    sources = {"a": "a", "b": Run.open("b"), "bits": Path("bits.safetensors")}
    expected = {source: numbers(opened(source)) for source in sources}
    plain = numbers(opened("run"))
    adapters = on("run", **sources)
    assert adapters.names == [*sources]
    for source in ("a", "bits", "b", "a"):
        assert numbers(adapters.using(source)) == expected[source] != plain
        assert numbers(adapters.using(None)) == plain
    rows, options = ["b", None, "a", "bits"], {} if name == "classify" else {"beam": 1}
    mixed = adapters(TEXTS, adapter=rows, **options)
    for row, text, result in zip(rows, TEXTS, mixed, strict=True):
        assert result == adapters([text], adapter=row, **options)[0] == opened(row or "run")([text], **options)[0]
    for wrong in ("A", ["a", "c", None, "b"]):
        with pytest.raises(UsageError, match=r"there is no adapter '[Ac]'\n  known are: a, b, bits"):
            adapters(TEXTS, adapter=wrong)
    for texts, count in ((TEXTS[:3], "3 texts"), ("ba", "no list of texts")):
        with pytest.raises(UsageError, match=f"4 adapters for .*{count}"):
            adapters(texts, adapter=rows)


@pytest.mark.parametrize(("name", "options"), [("translate", {"beam": 3}), ("llama", {}), ("llama", {"beam": 2})])
def test_rows_of_one_batch_have_adapters_of_their_own(
    here: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str, options: Any
) -> None:
    here(name)
    adapters = on("run", a="a", b="b.safetensors", bits="bits")
    rows, base = ["b", None, "a", "b"], adapters.using(None)

    def best(predictor: Any, texts: list[str], **more: Any) -> list[Any]:
        results = (predictor.translate if name == "translate" else predictor.batch)(texts, **more)
        return [result[0] for result in results]

    monkeypatch.setattr(type(base), "__call__", best)
    expected = [adapters(TEXTS, adapter=row, **options)[i] for i, row in enumerate(rows)]
    plain = adapters(TEXTS, **options)
    seen = list[int]()
    watching = base.model.head.register_forward_hook(lambda layer, x, y: seen.append(len(x[0])))
    mixed = adapters(TEXTS, adapter=rows, **options)
    assert max(seen) == len(TEXTS) * options.get("beam", 1)  # one batch
    assert [each.text for each in mixed] == [each.text for each in expected]
    for each, other in zip(mixed, expected, strict=True):
        assert each.log_p == pytest.approx(other.log_p, abs=1e-4)
    assert max(abs(each.log_p - other.log_p) for each, other in zip(mixed, plain, strict=True)) > 0.01
    running = adapters.continuous()
    jobs = [adapters.job(text, adapter=row, **options) for text, row in zip(TEXTS, rows, strict=True)]
    of_job = {writing.job: writing for writing in jobs}
    for writing in jobs:
        running.join(writing.job)
    while len(running):
        for update in running.step():
            of_job[update.job].take(update)
    for writing, text, row in zip(jobs, TEXTS, rows, strict=True):
        (other,) = adapters([text], adapter=row, **options)  # drawn by a seed of its own, as the job is
        assert writing.results is not None
        assert other.text.endswith(writing.results[0].text)
        assert writing.results[0].log_p == pytest.approx(other.log_p, abs=1e-4)
    with pytest.raises(UsageError, match="'bits' changes more than linear layers"):
        adapters.job(TEXTS[0], adapter="bits")

    seen.clear()
    adapters.using("a").config = replace(base.config, min_length=2)  # which the others do not have
    adapters(TEXTS, adapter=rows, **options)
    watching.remove()
    assert max(seen) == 3 * options.get("beam", 1)


def test_adapters_compute_in_the_type_of_the_base(here: Callable[[str], Path]) -> None:
    here("classify")
    adapters = seqloom.load("run", adapters={"a": "a.safetensors"}, precision="bf16")
    assert {p.dtype for p in adapters.using("a").model.parameters()} == {torch.bfloat16}
    exact = numbers(opened("a"))
    for row, expected in zip(numbers(adapters.using("a")), exact, strict=True):
        assert row == pytest.approx(expected, abs=0.05)


def test_new_tokens_travel_with_what_the_tokenizer_has_of_them(
    call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bases / "language_model", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    train_with_new_tokens(call, bases)
    assert call("export", "tuned", "chat.safetensors", "--to", "adapter", "-q").code == 0
    with safe_open("chat.safetensors", "pt") as file:
        about = json.loads(file.metadata()["seqloom"])
    assert "model" not in about["files"]["tokenizer.json"]["keys"]
    assert call("import", "chat.safetensors", "again", "-q").code == 0
    asked = [Message("user", "ba ko")]
    adapters = on("plain", chat="chat.safetensors")
    replies = ["".join(each.reply(asked)) for each in (opened("tuned"), opened("again"), adapters.using("chat"))]
    assert len({*replies}) == 1
    assert adapters(TEXTS[:2], adapter=["chat", None]) == [opened("tuned")("ba ko"), opened("plain")("ko ba ne")]
    with pytest.raises(UsageError, match="the model has seen no conversations"):
        [*adapters.using(None).reply(asked)]


def without_one(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    weights.pop(min(weights))


def with_one_more(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    weights["encoder.stack.blocks.0.attention.qkv.bias"] = torch.zeros(48)


def with_another_shape(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    weights[min(weights)] = torch.zeros(3, 5)


def with_another_scale(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    about["config"]["adapt"]["alpha"] *= 1.01


def with_another_fingerprint(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    about["fingerprint"][3] += 1e-3 * about["fingerprint"][0]


def with_another_tokenizer(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    about["files"]["tokenizer.json"]["digest"] = "0" * 16


def with_a_foreign_file(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    about["files"]["../../x.json"] = about["files"].pop("labels.json")


def of_another_format(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    about["format"] = 99


CHANGES = {
    without_one: ("its weights are not those of its config; missing: encoder",),
    with_one_more: ("unexpected: encoder.stack.blocks.0.attention.qkv.bias",),
    with_another_shape: ("is (3, 5) instead of",),
    with_another_scale: ("does not compute what it did where it was written", "use the versions that wrote it"),
    with_another_fingerprint: ("does not compute what it did", "its fingerprint is 1.0e-03 apart"),
    with_another_tokenizer: ("is for another tokenizer.json than that of run",),
    with_a_foreign_file: ("has the file ../../x.json, which no run has",),
    of_another_format: ("is an adapter of the format 99, this version reads format 1",),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_what_was_written_is_refused(call: Call, here: Callable[[str], Path], change: Any) -> None:
    here("classify")
    path = changed(Path("a.safetensors"), change)
    call("import", path, "again").refused(2, str(path), *CHANGES[change])
    assert not Path("again").exists()
    with pytest.raises(RunError) as error:
        on("run", a=path)
    assert CHANGES[change][0] in str(error.value)


def test_a_damaged_file_or_that_of_others_is_refused(call: Call, here: Callable[[str], Path]) -> None:
    here("classify")
    data = bytearray(Path("a.safetensors").read_bytes())
    data[-1] ^= 1
    Path("bit.safetensors").write_bytes(data)
    call("import", "bit.safetensors", "x").refused(2, "does not have the weights it was written with; changed: ")
    Path("text.safetensors").write_bytes(data.replace(b"classify", b"classifx"))
    call("import", "text.safetensors", "x").refused(2, "was changed after seqloom wrote it")
    Path("short.safetensors").write_bytes(data[:-9])
    call("import", "short.safetensors", "x").refused(2, "short.safetensors: cannot be read")
    call("import", Run.open("run").best(print).weights, "x").refused(2, "is no adapter that seqloom wrote")
    assert not Path("x").exists()


def test_another_base_is_refused(call: Call, here: Callable[[str], Path]) -> None:
    here("classify")
    assert call("train", "small.toml", "--run", "other", "--seed", "5", "-q").code == 0
    wide = "train", "small.toml", "--run", "wide", "--model.encoder.inner", "24", "-q"
    assert call(*wide).code == 0
    cure = "name the run that it started from"
    for source in ("a", "a.safetensors"):
        for base, problem in (("other", "whose weights are not those that it was trained with"), ("wide", "encoder")):
            with pytest.raises(RunError, match=rf"^{source}: is for another base than {base}.*{problem}.*\n.*{cure}"):
                on(base, a=source)
    call("import", "a.safetensors", "x", "--base", "other").refused(2, "is for another base than other", cure)
    call("export", "a", "x.safetensors", "--to", "adapter", "--base", "other").refused(2, "is for another base")
    shutil.rmtree("run")
    Path("other").rename("run")  # what it started from was trained again
    call("export", "a", "x.safetensors", "--to", "adapter").refused(2, "is for another base than run", cure)
    assert not Path("x.safetensors").exists()


def test_wrong_calls_are_refused(call: Call, here: Callable[[str], Path]) -> None:
    here("classify")
    call("export", "run", "x.safetensors", "--to", "adapter").refused(2, "run: learned all of its parameters")
    with pytest.raises(RunError, match="run: learned all of its parameters, so it is no adapter"):
        on("run", a="run")
    call("export", "a", "x.bin", "--to", "adapter").refused(2, "must end in .safetensors", "x.bin.safetensors")
    call("export", "a", "b", "--to", "adapter").refused(2, "b: is a directory")
    verified = "--verify compares with another program"
    call("export", "a", "x.safetensors", "--to", "adapter", "--verify").refused(2, verified)
    call("import", "a.safetensors", "x", "--verify").refused(2, verified)
    call("import", "a.safetensors", "x", "--task", "tag").refused(2, "--task", "leave it out")
    assert not os.path.lexists("x")
    assert not Path("x.safetensors").exists()
