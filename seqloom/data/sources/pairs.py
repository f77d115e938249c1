"""Parallel text in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from seqloom.data.checks.pairs import Finding, scan_files
from seqloom.data.formats.parallel import read_pairs
from seqloom.data.rows import Pairs, Splits
from seqloom.files import Json
from seqloom.limits import Bounded, Length


class PairSource(Bounded):
    """Where pairs of sequences come from; each source is also a frozen dataclass, chosen from a union by its `kind`.

    Attributes:
        modality: what the sources are: "text", "image", ...
        beside: what is read with the source: "text" behind a tab; "" = nothing.
        several: whether all targets of a source are right answers, in place of one for each occurrence.
    """

    modality: ClassVar[str] = "text"
    beside: ClassVar[str] = ""
    several: ClassVar[bool] = False

    def splits(self) -> Splits:
        """The corpus. Raises UsageError or DataError if it cannot be read."""
        raise NotImplementedError

    def scan(self) -> list[Finding]:
        """The faults of its files, line by line."""
        return []

    def read(self, files: Sequence[str]) -> Pairs:
        """Other pairs of the same kind to test on."""
        return read_pairs(files)

    def learned(self, train: Pairs) -> Json:
        """What use needs of the values of the sources: "sizes", and the "scale" that standardizes them."""
        return {}

    def longest(self) -> int:
        """The most tokens a side of a training pair may have."""
        return 1 << 30

    def language(self) -> str:
        """The language of the targets, for measures that need it; "" = such measures are not used."""
        return ""


@dataclass(frozen=True)
class Files(PairSource):
    """Parallel text in files: two parallel ones, or one of TSV, JSONL, TMX or PO; plain, .gz or .xz.

    Args:
        train, valid, test: the files; ${VARIABLES} of the environment are expanded.
        source, target: language codes, where the files or Moses tokenization need them.
        max_length: a training sentence of more tokens is left out, and counted.
    """

    kind: ClassVar[str] = "files"
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...] = ()
    source: str = ""
    target: str = ""
    max_length: Length = 256

    def splits(self) -> Splits:
        """See PairSource."""
        test = self.read(self.test) if self.test else None
        return Splits(self.read(self.train), self.read(self.valid), test)

    def scan(self) -> list[Finding]:
        """See PairSource."""
        languages = (self.source, self.target)
        files = (self.train, self.valid, self.test)
        return [finding for paths in files if paths for finding in scan_files(paths, languages=languages)]

    def read(self, files: Sequence[str]) -> Pairs:
        """See PairSource."""
        return read_pairs(files, languages=(self.source, self.target))

    def longest(self) -> int:
        """See PairSource."""
        return self.max_length

    def language(self) -> str:
        """See PairSource."""
        return self.target
