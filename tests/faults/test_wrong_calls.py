"""Wrong values for every key of every config, and wrong arguments for every verb: an error, no traceback, no hang."""

from __future__ import annotations

import inspect
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from forked import GIGABYTES, SECONDS, Forked, forked
from kinds import Kind

from seqloom.cli.app import app
from seqloom.config_help import describe
from seqloom.tasks import task_class

_WRONG = (
    *("", "x", "-1", "0", "-0.5", "1e308", "-1e308", "1e-300", "nan", "inf", "true", "none", "\0", "\ud800"),
    *(str(2**31), str(2**63), str(2**70), "9" * 5000, "1" * 400, "[]", "{}", "../..", "/", "/dev/zero", "auto"),
)
_LONG = {"demo", "lineage", "verify", "doctor"}  # train for minutes by default, or have nothing to be wrong
_CODES = {0, 1, 2, 3}


@pytest.fixture(scope="session")
def process() -> Iterator[Forked]:
    with forked() as started:
        yield started


def faults(answer: dict[str, Any], words: list[str]) -> Iterator[str]:
    """What a command line should not have done."""
    shown = [word if len(word) < 50 else f"{word[:50]}..." for word in words]
    if answer["code"] == -14:
        yield f"{shown} takes more than {SECONDS} seconds"
    elif "MemoryError" in answer["err"]:
        yield f"{shown} takes more than {GIGABYTES} GB"
    elif "Traceback" in answer["err"]:
        yield f"{shown} ends in a traceback: {answer['err'][-400:]}"
    elif answer["code"] not in _CODES or (answer["code"] and not answer["err"]):
        yield f"{shown} leaves {answer}"


def keys_of(kind: Kind) -> list[str]:
    """Every key of the config of a task, those of all kinds of a table."""

    def below(table: Any, path: str) -> Iterator[str]:
        for key in table.keys:
            yield f"{path}{key.name}"
            for inner in key.tables:
                yield from below(inner, f"{path}{key.name}.")

    return sorted({*below(describe(task_class(kind.name)), "")} - {"task", "run"})


def try_values(kind: Kind, whole: Path, process: Forked, trials: int, seed: int) -> None:
    chance, keys, found = random.Random(f"{kind.name} {seed}"), keys_of(kind), list[str]()
    for _ in range(trials):
        key, value = chance.choice(keys), chance.choice(_WRONG)
        words = ["check", "small.toml", f"--{key}={value}"]
        found += faults(process.call(words, whole), words)
    assert not found, "\n".join(found)


def test_wrong_values_of_configs(kind, whole, process):
    try_values(kind, whole, process, 20, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_wrong_values_of_configs(kind, whole, process):
    try_values(kind, whole, process, 150, 2)


def options_of(verb: str) -> list[str]:
    name = {"eval": "evaluate", "import": "import_"}.get(verb, verb)
    file = {"answer": "classify", "fill": "classify", "embed": "classify", "caption": "translate"}.get(name, name)
    function = getattr(import_module(f"seqloom.cli.{file}"), name)
    options = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.kind is p.KEYWORD_ONLY]
    names = [[f.name for f in fields(p.annotation)] if is_dataclass(p.annotation) else [p.name] for p in options]
    return [f"--{name.replace('_', '-')}" for each in names for name in each]


def arguments(verb: str, chance: random.Random) -> list[str]:
    """Some arguments: a run or what is not one, and options with values that fit or do not."""
    places = ("run", "run", "nowhere", ".", "/", "", "small.toml", "fifo", "/dev/zero", "bytes", "run/run.json", "out")
    words = [verb] + [chance.choice(places) for _ in range(chance.choice((0, 1, 1, 2)))]
    for _ in range(chance.choice((0, 1, 2))):
        option = chance.choice([*options_of(verb), "--decoding.beam", "--nothing", "--data.train", "--model.preset"])
        values = chance.sample((*_WRONG, *places, "hf", "3", "a text"), chance.choice((0, 1, 1, 2)))
        words += [option, *values]
    return words + chance.sample(["a text", "\udcff", "", "\n", "x" * 5000], chance.choice((0, 0, 1)))


def try_calls(kind: Kind, whole: Path, process: Forked, work: Path, trials: int, seed: int) -> None:
    chance, found = random.Random(f"{kind.name} {seed}"), list[str]()
    verbs = sorted(name for name in app if not name.startswith("-") and name not in _LONG)
    for _ in range(trials):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(whole, work)
        os.mkfifo(work / "fifo")
        (work / "bytes").write_bytes(bytes(range(256)) * 9)
        words = arguments(chance.choice(verbs), chance)
        found += faults(process.call(words, work), words)
    assert not found, "\n".join(found)


def test_wrong_calls_of_verbs(kind, whole, process, tmp_path):
    try_calls(kind, whole, process, tmp_path / "work", 20, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_wrong_calls_of_verbs(kind, whole, process, tmp_path):
    try_calls(kind, whole, process, tmp_path / "work", 150, 2)
