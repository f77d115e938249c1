"""Dialogues from JSON lines: what was said last is the source, the reply is the target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from seqloom.data.formats.lines import LineError, expand, text_lines
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.source import PairSource


@dataclass(frozen=True)
class Dialogues(PairSource):
    """Files of JSON lines, each a dialogue whose "turns" are a list of texts; the speakers alternate.

    Args:
        train, valid, test: the files; plain, .gz or .xz; ${VARIABLES} of the environment are filled in.
        turns: how many of the last turns a reply is made from.
        separator: what stands between two turns of a source.
        max_length: a training pair with a side of more tokens is left out, and counted.
    """

    kind: ClassVar[str] = "dialogues"
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...] = ()
    turns: int = 3
    separator: str = " | "
    max_length: int = 128

    def __post_init__(self) -> None:
        if self.turns < 1 or self.max_length < 1:
            raise ValueError("turns and max_length must be at least 1")

    @property
    def source(self) -> str:
        """The language of one side: it is not known."""
        return ""

    @property
    def target(self) -> str:
        """The language of the other side: it is not known."""
        return ""

    def context(self, said: Sequence[str]) -> str:
        """The source of the reply to what was said so far."""
        return self.separator.join(said[-self.turns :])

    def splits(self) -> Splits:
        """See PairSource."""
        return read_dialogues(self)

    def longest(self) -> int:
        """See PairSource."""
        return self.max_length


def read_dialogues(config: Dialogues) -> Splits:
    """The corpus a config describes: a pair for each turn but the first. Raises UsageError or DataError."""
    train, valid = (_read(paths, config) for paths in (config.train, config.valid))
    return Splits(train, valid, _read(config.test, config) if config.test else None)


def _read(paths: Sequence[str], config: Dialogues) -> Pairs:
    sources: list[str] = []
    targets: list[str] = []
    lines: list[int] = []
    for path in map(expand, paths):
        for number, line in enumerate(text_lines(path), 1):
            if line.strip():
                turns = _turns(line, f"{path}:{number}")
                sources += [config.context(turns[:i]) for i in range(1, len(turns))]
                targets += turns[1:]
                lines += [number] * (len(turns) - 1)
    name = ", ".join(paths)
    return Pairs(sources, targets, (name, name), lines)


def _turns(line: str, where: str) -> list[str]:
    try:
        turns = json.loads(line)["turns"]
    except (ValueError, RecursionError, KeyError, TypeError):
        turns = None
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        cure = 'write {"turns": ["Hello!", "Hi, how are you?"]}'
        raise LineError("lines that are not a dialogue", 'no list of texts under "turns"', where=where, cure=cure)
    return [" ".join(turn.split()) for turn in turns]
