"""The command line called in this process, as a user would call it in another."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seqloom.cli import main
from seqloom.measures import MEASURES

_BRIEF = """\
[training]
steps = 4
evaluate_every = 2
log_every = 1
threads = 1

[decoding]
max_length = 9
"""

SMALL = (
    """\
task = "translate"

[data]
kind = "files"
train = ["train.src", "train.tgt"]
valid = ["valid.src", "valid.tgt"]

[tokenizer]
size = 280

[model.encoder]
layers = 1
width = 16
inner = 16
heads = 2

[model.decoder]
layers = 1
width = 16
inner = 16
heads = 2

[batches]
tokens = 100

"""
    + _BRIEF
)

LANGUAGE_MODEL = (
    """\
task = "language_model"

[data]
train = ["train.txt"]
valid = ["valid.txt"]
test = ["test.txt"]

[tokenizer]
size = 280

[model]
preset = "small-lstm"
embedding = 12

[model.decoder]
layers = 1
width = 16

[batches]
lanes = 4
length = 11

"""
    + _BRIEF
)


READING = """\
[tokenizer]
kind = "words"

[model.encoder]
layers = 1
width = 16
inner = 16
heads = 2

[batches]
tokens = 120
length = 32

[optimizer]
lr = 0.01

[schedule]
warmup = 3

[training]
steps = 40
evaluate_every = 20
log_every = 1
threads = 1
"""


def unknown_scores(scores: dict[str, Any]) -> set[str]:
    """The numbers of a result that are neither a score in MEASURES nor a time."""
    return {key for key, value in scores.items() if isinstance(value, float)} - {*MEASURES, "seconds"}


def train_in(folder: Path) -> None:
    """Trains small.toml of a folder there, as run/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQLOOM_KEEP_MEMORY", "0")
        main(["train", "small.toml", "--run", "run", "-q"])


@dataclass(frozen=True)
class Result:
    """What a call left: its exit code and its two outputs."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        assert self.out.endswith("\n") or not self.out
        return self.out.split("\n")[:-1]

    def refused(self, code: int, *words: str, cured: bool = True) -> str:
        """Asserts one message of problem and cure on standard error, and gives the first back."""
        assert "Traceback" not in self.err, self.err
        assert self.code == code, self.err
        message = [line for line in self.err.split("\n") if line]
        starts = [i for i, line in enumerate(message) if line.startswith("seqloom: ")]
        assert len(starts) == 1, self.err
        problem, *cure = message[starts[0] :]
        assert len(cure) == cured, self.err
        assert all(line.startswith("  ") for line in cure)
        for word in words:
            assert word in "\n".join([problem, *cure])
        return problem


Call = Callable[..., Result]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*words: object, stdin: bytes | None = None) -> Result:
        monkeypatch.setenv("SEQLOOM_KEEP_MEMORY", "0")
        monkeypatch.setenv("COLUMNS", "300")  # so that no table breaks its lines
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code: object = 0
        try:
            main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return run


def fingerprint(folder: Path) -> dict[str, str]:
    """The digest of every file in a folder."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
