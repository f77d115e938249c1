"""Dialogues from JSON lines: the last turns are the source, the reply is the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from seqloom.data.formats.lines import LineError, expand, is_blank, json_object, text_lines
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.pairs import PairSource
from seqloom.limits import Bounds, Length


@dataclass(frozen=True)
class Dialogues(PairSource):
    """Files of JSON lines, each a dialogue whose "turns" are a list of texts; the speakers alternate.

    Args:
        train, valid, test: the files; plain, .gz or .xz; ${VARIABLES} of the environment are expanded.
        turns: the number of turns before a reply that are its source.
        separator: the text between two turns of a source.
        max_length: a training pair with more tokens on a side is left out, and counted.
    """

    kind: ClassVar[str] = "dialogues"
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...] = ()
    turns: Annotated[int, Bounds(1, 10_000)] = 3
    separator: str = " | "
    max_length: Length = 128

    def context(self, turns: Sequence[str]) -> str:
        """The source for a reply to the turns so far."""
        return self.separator.join(turns[-self.turns :])

    def splits(self) -> Splits:
        """See PairSource: each turn but the first is the target of a pair."""
        train, valid = self._pairs(self.train), self._pairs(self.valid)
        return Splits(train, valid, self._pairs(self.test) if self.test else None)

    def longest(self) -> int:
        """See PairSource."""
        return self.max_length

    def _pairs(self, paths: Sequence[str]) -> Pairs:
        sources, targets, lines = list[str](), list[str](), list[int]()
        for path in map(expand, paths):
            for number, line in enumerate(text_lines(path), 1):
                if not is_blank(line):
                    turns = _turns(line, f"{path}:{number}")
                    sources += [self.context(turns[:i]) for i in range(1, len(turns))]
                    targets += turns[1:]
                    lines += [number] * (len(turns) - 1)
        return Pairs(sources, targets, (", ".join(paths),) * 2, lines)


def _turns(line: str, where: str) -> list[str]:
    form = '{"turns": ["Hello!", "Hi, how are you?"]}'
    turns = json_object(line, where, form).get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        problem = 'no list of texts under "turns"'
        raise LineError("lines that are not a dialogue", problem, where=where, cure=f"write {form}")
    return [" ".join(turn.split()) for turn in turns]
