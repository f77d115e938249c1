"""A small run of each kind, and how it is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from calls import LANGUAGE_MODEL, READING, SMALL, train_in
from made_up import sentences, write_corpus

_READING = READING.replace("steps = 40\nevaluate_every = 20", "steps = 4\nevaluate_every = 2").replace(
    "[model.encoder]", '[model]\npreset = "small-megatron"\n\n[model.encoder]'
)

_WORDS = """task = "embed_words"

[data]
train = ["train.txt"]
test = ["similar.tsv"]
min_count = 1

[model]
width = 8

[batches]
deterministic = true

[training]
epochs = 2
evaluate_every = 2
threads = 1
"""


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Args:
        name: its task.
        config: small.toml.
        write: writes its data into a folder.
        uses: command lines that use the run, whose output may depend on it.
    """

    name: str
    config: str
    write: Callable[[Path], None]
    uses: tuple[tuple[str, ...], ...]


def _pairs(folder: Path) -> None:
    for name, count, seed in (("train", 60, 1), ("valid", 4, 2), ("test", 6, 3)):
        write_corpus(folder, name, count, seed)


def _texts(folder: Path) -> None:
    for name, count, seed in (("train", 60, 1), ("valid", 8, 2), ("test", 9, 3)):
        (folder / f"{name}.txt").write_text("".join(f"a {s}\n" for s in sentences(count, seed)), encoding="utf-8")
    words = sorted({word for s in sentences(60, 1) for word in s.split()})[:8]
    rows = (f"{a}\t{b}\t{n}\n" for n, (a, b) in enumerate(pairwise(words)))
    (folder / "similar.tsv").write_text("".join(rows), encoding="utf-8")


def _labelled(folder: Path) -> None:
    for name, count, seed in (("train", 60, 1), ("valid", 8, 2), ("test", 9, 3)):
        rows = ["text\tlabel\n", *(f"{s}\t{'many' if len(s.split()) > 3 else 'few'}\n" for s in sentences(count, seed))]
        (folder / f"{name}.tsv").write_text("".join(rows), encoding="utf-8")


def _preferences(folder: Path) -> None:
    for name, count, seed in (("train", 60, 1), ("valid", 8, 2), ("test", 9, 3)):
        rows = ({"prompt": s, "chosen": s.split()[0], "rejected": f"{s} no"} for s in sentences(count, seed))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


_SHARED = (("report", "run"), ("runs", ".", "--json"), ("compare", "run", "other", "--to", "to"))
_MORE = ("train", "small.toml", "--run", "run", "--training.steps", "6", "-q")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "translate",
            SMALL,
            _pairs,
            (
                ("translate", "run", "a text"),
                ("eval", "run", "--test", "test.src", "test.tgt", "--json"),
                ("export", "run", "out", "--to", "hf"),
                _MORE,
                *_SHARED[:2],
                ("compare", "run", "other", "--to", "to", "--test", "test.src", "test.tgt"),
            ),
        ),
        Kind(
            "language_model",
            LANGUAGE_MODEL,
            _texts,
            (("generate", "run", "a text"), ("eval", "run", "--json"), _MORE, *_SHARED),
        ),
        Kind(
            "classify",
            'task = "classify"\n\n[data]\n'
            + "".join(f'{split} = ["{split}.tsv"]\n' for split in ("train", "valid", "test"))
            + _READING,
            _labelled,
            (
                ("classify", "run", "a text"),
                ("eval", "run", "--json"),
                ("export", "run", "out", "--to", "hf"),
                _MORE,
                *_SHARED,
            ),
        ),
        Kind(
            "reward",
            'task = "reward"\n\n[data]\n'
            + "".join(f'{split} = ["{split}.jsonl"]\n' for split in ("train", "valid", "test"))
            + _READING,
            _preferences,
            (("classify", "run", "a text\tan answer"), ("eval", "run", "--json"), _MORE, *_SHARED),
        ),
        Kind(
            "embed_words",
            _WORDS,
            _texts,
            (
                ("words", "run", "similar", "a"),
                ("eval", "run", "--json"),
                ("train", "small.toml", "--run", "run", "--training.epochs", "3", "-q"),
                *_SHARED,
            ),
        ),
    )
}


def make_run(kind: Kind, folder: Path) -> Path:
    """Trains a run of a kind; returns the folder of its data, its config, and the runs run/ and other/."""
    folder.mkdir(parents=True)
    kind.write(folder)
    (folder / "small.toml").write_text(kind.config, encoding="utf-8")
    train_in(folder)
    shutil.copytree(folder / "run", folder / "other")
    return folder
