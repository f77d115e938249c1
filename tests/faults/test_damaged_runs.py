"""One file of a run is damaged at random: every use of it gives the same result as before, or says what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from calls import Call, Result, fingerprint
from kinds import Kind
from toys import left_behind

_TIMES = {"seconds", "minutes", "gigabytes", "tokens_per_second", "sentences_per_second", "minutes_to_reach", "report"}
_REPORTS = ("damaged", "missing", "changed", "cannot be read", "instead of")
_MEANT = {"report.html", ".seqloom"}  # are for people, or hold nothing


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in _TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def outcome(result: Result, words: Sequence[str]) -> object:
    """What a use of a run leads to, without the times."""
    match words[0]:
        case "train":
            return left_behind("run")
        case "report":
            return Path("run/report.html").read_text(encoding="utf-8")
        case "compare":
            return without_times(json.loads(Path("to/compare.json").read_text(encoding="utf-8")))
        case "export":
            files = sorted(path for path in Path("out").rglob("*") if path.is_file())
            return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return without_times(json.loads(result.out)) if "--json" in words else result.out


def damage(path: Path, chance: random.Random) -> str:
    """Flips a bit of a file, truncates it, or deletes it; returns what was done."""
    size = path.stat().st_size
    how = chance.choice(("flip", "flip", "truncate", "delete")) if size else "delete"
    if how == "flip":
        at, data = chance.randrange(size), bytearray(path.read_bytes())
        data[at] ^= 1 << chance.randrange(8)
        path.unlink()  # another checkpoint may share it
        path.write_bytes(bytes(data))
        return f"a bit of byte {at} of {path} flipped"
    if how == "truncate":
        size, data = chance.randrange(size), path.read_bytes()
        path.unlink()
        path.write_bytes(data[:size])
        return f"{path} truncated to {size} bytes"
    path.unlink()
    return f"{path} deleted"


def try_damage(kind: Kind, whole: Path, work: Path, call: Call, trials: int, seed: int) -> None:
    chance, healthy = random.Random(f"{kind.name} {seed}"), dict[tuple[str, ...], tuple[object, str]]()
    for _ in range(trials):
        words = chance.choice(kind.uses)
        if words not in healthy:
            shutil.copytree(whole, work, dirs_exist_ok=True)
            result = call(*words)
            assert result.code == 0, result.err
            healthy[words] = outcome(result, words), result.err
            shutil.rmtree(work)
            work.mkdir()
            os.chdir(work)
        shutil.copytree(whole, work, dirs_exist_ok=True)
        files = sorted(path for path in Path("run").rglob("*") if path.is_file() and path.name not in _MEANT)
        done = damage(chance.choice(files), chance)
        before = fingerprint(work)
        try:
            result = call(*words)
        except Exception as error:
            raise AssertionError(f"{done}: {' '.join(words)} ends in {error!r}") from error
        assert "Traceback" not in result.err, done
        assert result.code in (0, 2, 3), (done, words, result)
        if result.code and words[0] not in ("train", "compare"):  # which may meet it after a part of their work
            assert fingerprint(work) == before, (done, words, result)
        reported = result.code != 0 or any(mark in result.err for mark in _REPORTS)
        assert reported or outcome(result, words) == healthy[words][0], (done, words, result.err)
        shutil.rmtree(work)
        work.mkdir()
        os.chdir(work)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_no_damage_is_silent_or_ends_in_a_traceback(kind, whole, work, call):
    try_damage(kind, whole, work, call, 20, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2, 3])
def test_no_damage_of_many_is_silent_or_ends_in_a_traceback(kind, whole, work, call, seed):
    try_damage(kind, whole, work, call, 125, seed)
