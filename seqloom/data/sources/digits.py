"""Digits to copy, reverse or sort: the smallest tasks that show what a model can store and retrieve."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from random import Random
from typing import Annotated, ClassVar, Literal

from seqloom.data.rows import Fresh, Pairs, Splits
from seqloom.data.sources.pairs import PairSource
from seqloom.errors import counted
from seqloom.limits import Bounds, Rows, RowsOrZero, Seed


@dataclass(frozen=True)
class Digits(PairSource):
    """Rows of digits, and the same digits rearranged. No row is in two splits.

    Args:
        task: how the digits are rearranged.
        least, most: the fewest and the most digits of a row; all lengths are equally likely.
        size, valid_size, test_size: the number of rows of each split.
        seed: another seed gives other rows.
        fresh: whether each epoch has its own training rows.
    """

    kind: ClassVar[str] = "digits"
    task: Literal["copy", "reverse", "sort"] = "reverse"
    least: Annotated[int, Bounds(1, 1000)] = 4
    most: Annotated[int, Bounds(1, 1000)] = 8
    size: Rows = 20_000
    valid_size: Rows = 500
    test_size: RowsOrZero = 1000
    seed: Seed = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least > self.most:
            raise ValueError(f"most must not be below least, not {self.most} and {self.least}")
        total = self.size + self.valid_size + self.test_size
        if 10**self.least < 2 * total / (self.most - self.least + 1):
            raise ValueError(f"there are not enough rows of {counted(self.least, 'digit')} for {total}; raise least")

    def splits(self) -> Splits:
        """See PairSource; the kind of a pair is its number of digits."""
        random = Random(f"seqloom digits {self.seed}")
        ends = (0, self.size, self.size + self.valid_size, self.size + self.valid_size + self.test_size)
        rows: dict[str, None] = {}
        while len(rows) < ends[-1]:
            rows[self._row(random)] = None
        sources = list(rows)
        train, valid, test = (self._pairs(sources[a:b]) for a, b in pairwise(ends))
        held = frozenset(sources[self.size :])

        def draw(epoch: int) -> Pairs:
            if epoch == 0:
                return train
            random = Random(f"seqloom digits {self.seed} {epoch}")
            rows = (row for row in iter(lambda: self._row(random), "") if row not in held)
            return self._pairs(list(islice(rows, self.size)))

        return Splits(train, valid, test if self.test_size else None, Fresh(draw) if self.fresh else None)

    def _row(self, random: Random) -> str:
        return " ".join(random.choices("0123456789", k=random.randint(self.least, self.most)))

    def _pairs(self, sources: list[str]) -> Pairs:
        rows = [source.split() for source in sources]
        step = -1 if self.task == "reverse" else 1
        targets = [" ".join((sorted(row) if self.task == "sort" else row)[::step]) for row in rows]
        return Pairs(sources, targets, ("digits", self.task), kinds=[counted(len(row), "digit") for row in rows])
