"""The built-in corpus: phrases of everyday data in two languages, generated from the tables of CLDR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from seqloom.data.formats.parallel import read_pairs
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.pairs import PairSource
from seqloom.errors import UsageError, counted, nearest
from seqloom.limits import Rows, RowsOrZero, Seed

if TYPE_CHECKING:
    from seqloom.data.sources.phrases.writer import Phrase, Writer

UNSEEN = " (unseen)"  # ends the kind of a phrase with something held out from training

# Babel and unicode-rbnf are imported by the functions that need them, so that a config costs nothing to import.


@dataclass(frozen=True)
class Phrases(PairSource):
    """Dates, times, durations, amounts, names and numbers in words, from Babel and unicode-rbnf.

    Args:
        source: the language to translate from, by its CLDR name ("en", "pt_PT").
        target: the language to translate into.
        size: the number of training pairs.
        valid_size: the number of pairs by which the best checkpoint is chosen.
        test_size: the number of pairs for the final measurement; 0 = none.
        seed: another seed gives other phrases, and holds out other names and numbers.
    """

    kind: ClassVar[str] = "phrases"
    source: str = "en"
    target: str = "de"
    size: Rows = 40_000
    valid_size: Rows = 1000
    test_size: RowsOrZero = 1000
    seed: Seed = 1

    def splits(self) -> Splits:
        """The same corpus on every machine, given the same versions of the two libraries.

        No source is in two splits, and each source has one target. Some territories, currencies and ranges of numbers
        in words never occur in training; `Pairs.kinds` marks a phrase with one of them as "territory (unseen)" and the
        like.

        Raises:
            UsageError: a language that is unknown or the same as the other, or a size that cannot be reached.
        """
        writer = self._writer()
        unseen = [
            [phrase._replace(kind=phrase.kind + UNSEEN) for phrase in writer.unseen(size)]
            for size in (self.valid_size, self.test_size)
        ]
        total = self.size + self.valid_size + self.test_size
        pool = writer.seen(total + total // 20 + 2)  # the surplus exceeds the copies, which a small split may refuse
        sizes = zip((self.valid_size, self.test_size), unseen, strict=True)
        valid, test = (_cut(pool, size - len(held)) + held for size, held in sizes)
        train = _cut(pool, self.size)
        if len(train) < self.size:
            phrases = f"{counted(len(train), 'training phrase')}, not {self.size}"
            cure = "ask for fewer, or choose two languages that differ more"
            raise UsageError(f"{self.source} and {self.target} give only {phrases}", cure=cure)
        for split in (valid, test):
            writer.rng.shuffle(split)
        files = f"phrases.{self.source}", f"phrases.{self.target}"
        return Splits(_pairs(train, files), _pairs(valid, files), _pairs(test, files) if test else None)

    def _writer(self) -> Writer:
        from seqloom.data.sources.phrases.unseen import every_kind, languages
        from seqloom.data.sources.phrases.writer import Language, Writer

        available = languages()
        for where, language in (("source", self.source), ("target", self.target)):
            if language not in available:
                cure = nearest(language, available)
                raise UsageError(f"there are no phrases in {language!r}", where=where, cure=cure)
        if self.source == self.target:
            raise UsageError(f"{self.target!r} is the source language too", where="target", cure="choose two languages")
        rng = Random(f"seqloom phrases {self.seed}")
        source, target = Language(self.source), Language(self.target)
        return Writer(source, target, every_kind(source, target, rng)[0], rng)

    def read(self, files: Sequence[str]) -> Pairs:
        """See PairSource."""
        return read_pairs(files, languages=(self.source, self.target))


def _cut(pool: list[Phrase], size: int) -> list[Phrase]:
    """Takes a split off the end of the pool; copies beyond their share stay in the pool."""
    from seqloom.data.sources.phrases.writer import COPIES

    split: list[Phrase] = []
    refused: list[Phrase] = []
    copies = 0
    while pool and len(split) < size:
        phrase = pool.pop()
        copied = phrase.source == phrase.target
        if copied and copies + 1 > COPIES * size:
            refused.append(phrase)
        else:
            split.append(phrase)
            copies += copied
    pool += refused
    return split


def _pairs(phrases: list[Phrase], files: tuple[str, str]) -> Pairs:
    sources, targets, kinds = zip(*phrases, strict=True)
    return Pairs(sources, targets, files, kinds=kinds)
