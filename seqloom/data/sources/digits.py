"""Digits to be copied, reversed or sorted: the smallest tasks that tell what a model can hold and find again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import ClassVar, Literal

from seqloom.data.rows import Fresh, Pairs, Splits
from seqloom.data.sources.source import PairSource


@dataclass(frozen=True)
class Digits(PairSource):
    """Rows of digits, and the same digits rearranged. No row stands in two splits.

    Args:
        task: what is done to them.
        least, most: how many digits a row has; each length is equally likely.
        size, valid_size, test_size: rows of each split.
        seed: another seed, other rows.
        fresh: whether each epoch has training rows of its own.
    """

    kind: ClassVar[str] = "digits"
    task: Literal["copy", "reverse", "sort"] = "reverse"
    least: int = 4
    most: int = 8
    size: int = 20_000
    valid_size: int = 500
    test_size: int = 1000
    seed: int = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"least must be at least 1 and most not below it, not {self.least} and {self.most}")
        if min(self.size, self.valid_size) < 1 or self.test_size < 0:
            raise ValueError("size and valid_size must be at least 1, test_size not negative")
        wanted = self.size + self.valid_size + self.test_size
        if 10**self.least < 2 * wanted / (self.most - self.least + 1):
            raise ValueError(f"there are not enough rows of {self.least} digits for {wanted}; raise least")

    @property
    def source(self) -> str:
        """What one side is called."""
        return "digits"

    @property
    def target(self) -> str:
        """What the other side is called."""
        return self.task

    def splits(self) -> Splits:
        """See PairSource."""
        return make_digits(self)


def make_digits(config: Digits) -> Splits:
    """The corpus a config describes; `kinds` tells how many digits a row has."""
    random = Random(f"seqloom digits {config.seed}")
    wanted = config.size + config.valid_size + config.test_size
    rows: dict[str, None] = {}
    while len(rows) < wanted:
        rows[_row(config, random)] = None
    sources = list(rows)
    ends = (config.size, config.size + config.valid_size, wanted)
    train, valid, test = (_pairs(sources[a:b], config.task) for a, b in zip((0, *ends[:2]), ends, strict=True))
    held = frozenset(sources[config.size :])

    def draw(epoch: int) -> Pairs:
        if epoch == 0:
            return train
        random = Random(f"seqloom digits {config.seed} {epoch}")
        found = (row for row in iter(lambda: _row(config, random), "") if row not in held)
        return _pairs(list(islice(found, config.size)), config.task)

    return Splits(train, valid, test if config.test_size else None, Fresh(draw) if config.fresh else None)


def _row(config: Digits, random: Random) -> str:
    return " ".join(random.choices("0123456789", k=random.randint(config.least, config.most)))


def _pairs(sources: list[str], task: str) -> Pairs:
    rows = [source.split() for source in sources]
    kinds = [f"{len(row)} digits" for row in rows]
    return Pairs(sources, [" ".join(_rearranged(row, task)) for row in rows], ("digits", task), kinds=kinds)


def _rearranged(row: list[str], task: str) -> list[str]:
    if task == "sort":
        return sorted(row)
    return row[::-1] if task == "reverse" else row
