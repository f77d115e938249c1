"""What a source of data is: a config that reads itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NoReturn

from seqloom.data.checks.pairs import Finding
from seqloom.data.formats.parallel import read_pairs
from seqloom.data.rows import Pairs, Splits
from seqloom.errors import UsageError


class PairSource:
    """Where pairs of sequences come from; a source is a frozen dataclass besides, and a member of a union by `kind`."""

    def splits(self) -> Splits:
        """The corpus. Raises UsageError or DataError where it cannot be read."""
        raise NotImplementedError

    def scan(self) -> list[Finding]:
        """What is wrong in its files, line by line."""
        return []

    def read(self, files: Sequence[str]) -> Pairs:
        """Other pairs of the same kind, to be tested on."""
        return read_pairs(files)

    def longest(self) -> int:
        """The most tokens that a side of a training pair may have."""
        return 1 << 30

    def language(self) -> str:
        """The language of the targets, for measures that know languages; "" = they are not used."""
        return ""


@dataclass(frozen=True)
class NoData(PairSource):
    """There is none: the run was imported, not trained."""

    kind: ClassVar[str] = "none"
    test: ClassVar[tuple[str, ...]] = ()
    second: ClassVar[str] = ""
    documents: ClassVar[Literal["blocks"]] = "blocks"

    def refuse(self) -> NoReturn:
        """Raises UsageError."""
        problem = "there is no training data, as in the config of a run that was imported"
        raise UsageError(problem, where="data", cure="name your own: --data.kind, --data.train, ...; or --test FILE")

    def splits(self) -> NoReturn:
        """Raises UsageError."""
        self.refuse()
