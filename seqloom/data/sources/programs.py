"""Small programs and what they print, for a model that learns to execute (Zaremba and Sutskever 2014).

A program is a chain of statements of section 3 of the paper: each takes the value so far as one of its operands, at a
random place, and numbers for the others; the last line prints the value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from random import Random
from typing import Annotated, ClassVar, Literal, NamedTuple

from seqloom.data.rows import Fresh, Pairs, Splits
from seqloom.data.sources.pairs import PairSource
from seqloom.limits import Bounds, NotNegative, Rows, RowsOrZero, Seed

Statement = Literal["addition", "subtraction", "multiplication", "assignment", "if", "for"]
_ALL: tuple[Statement, ...] = ("addition", "subtraction", "multiplication", "assignment", "if", "for")
_NAMES = "abcdefghijklmnopqrstuvwyz"  # x counts the rounds of a loop
_SHARES = 16  # one of so many programs may be tested on, another validated on, and no other program ever is
_TRIES = 8  # for each program wanted of a share: a difficulty that has fewer of them gives those it has


@dataclass(frozen=True)
class Programs(PairSource):
    """Programs as texts of one line, and what they print. The training programs are others in every epoch.

    Args:
        task: programs, or only the sum of two numbers of `length` digits each.
        statements: those a program may be made of. Assignments add or subtract a number; a factor, and the rounds of
            a loop, are at most 4 length, as in the paper.
        length: the most digits of a number.
        nesting: the most statements of a program beside its print.
        curriculum: how difficult a training program is. baseline: as much as it can be; naive: length goes up from 1
            and starts again with each further statement; mix: any length and any nesting; combined: naive or mix.
        ramp: the epoch in which naive arrives at the full length and nesting. (The paper goes on whenever learning
            slows down; here what an epoch holds does not depend on the training.)
        table: whether the test programs are of every length and nesting, and not all of the full ones.
        size: programs of an epoch.
        valid_size, test_size: programs of the other splits, where there are so many; the training never has them.
        seed: another seed, other programs.
    """

    kind: ClassVar[str] = "programs"
    task: Literal["programs", "addition"] = "programs"
    statements: tuple[Statement, ...] = _ALL
    length: Annotated[int, Bounds(1, 1000)] = 4
    nesting: Annotated[int, Bounds(1, len(_NAMES))] = 3
    curriculum: Literal["baseline", "naive", "mix", "combined"] = "combined"
    ramp: NotNegative = 20
    table: bool = False
    size: Rows = 20_000
    valid_size: Rows = 500
    test_size: RowsOrZero = 1000
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.statements:
            raise ValueError(f"statements must name some of {', '.join(_ALL)}")

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Every length and nesting, in the order of the naive curriculum."""
        nestings = range(1, 2 if self.task == "addition" else self.nesting + 1)
        return [(length, nesting) for nesting in nestings for length in range(1, self.length + 1)]

    def splits(self) -> Splits:
        """See PairSource; `kinds` are the nesting and the length of each program.

        `train` is what the first epoch of the full difficulty holds.
        """
        longest = self.ramp if self.curriculum in ("naive", "combined") else 0
        fresh = Fresh(lambda epoch: _training(self, epoch), longest)
        valid = _held_out(self, 1, self.valid_size, self.levels[-1:])
        test = _held_out(self, 0, self.test_size, self.levels if self.table else self.levels[-1:])
        return Splits(fresh.draw(longest), valid, test if self.test_size else None, fresh)


def difficulty(config: Programs, random: Random, epoch: int) -> tuple[int, int]:
    """The length and nesting of a training program of an epoch."""
    levels, curriculum = config.levels, config.curriculum
    if curriculum == "combined":
        curriculum = random.choice(("naive", "mix"))
    if curriculum == "mix":
        return random.choice(levels)
    if curriculum == "naive" and epoch < config.ramp:
        return levels[epoch * len(levels) // config.ramp]
    return levels[-1]


Value = tuple[str, int]  # an expression, and what it is worth


class _Row(NamedTuple):
    source: str
    target: str
    kind: str


def _training(config: Programs, epoch: int) -> Pairs:
    random = Random(f"seqloom programs {config.seed} {epoch}")
    rows = (row for share, row in _rows(config, random, lambda: difficulty(config, random, epoch)) if share > 1)
    return _pairs(list(islice(rows, config.size)))


def _held_out(config: Programs, own: int, size: int, levels: list[tuple[int, int]]) -> Pairs:
    """Different programs of one share, as many of each level."""
    random = Random(f"seqloom programs {config.seed} held out {own}")
    found: dict[str, _Row] = {}
    for i, level in enumerate(levels):
        wanted = (i + 1) * size // len(levels) - i * size // len(levels)
        full = len(found) + wanted
        for share, row in islice(_rows(config, random, repeat(level).__next__), wanted * _SHARES * _TRIES):
            if len(found) == full:
                break
            if share == own:
                found[row.source] = row
    return _pairs(list(found.values()))


def _pairs(rows: list[_Row]) -> Pairs:
    sources, targets, kinds = ([row[i] for row in rows] for i in range(3))
    return Pairs(sources, targets, ("programs", "outputs"), kinds=kinds)


def _rows(config: Programs, random: Random, level: Callable[[], tuple[int, int]]) -> Iterator[tuple[int, _Row]]:
    """Programs without end, and which of the shares each one belongs to."""
    while True:
        length, nesting = level()
        if config.task == "addition":
            a, b = (random.randrange(10 ** (length - 1), 10**length) for _ in range(2))
            program, value, kind = f"print({a}+{b})", a + b, f"length {length}"
        else:
            program, value = _program(random, config.statements, length, nesting)
            kind = f"nesting {nesting}, length {length}"
        # The lines of a program become one: ";" stands nowhere else.
        source = program.replace("\n", ";")
        digest = hashlib.blake2b(f"{config.seed} {source}".encode(), digest_size=4).digest()
        yield int.from_bytes(digest) % _SHARES, _Row(source, str(value), kind)


def _program(random: Random, statements: tuple[Statement, ...], length: int, nesting: int) -> tuple[str, int]:
    """A program and the value it prints."""
    writer = _Writer(random, length)
    for _ in range(nesting):
        writer.add(random.choice(statements))
    text, value = writer.last
    return "\n".join([*writer.lines, f"print({text})"]), value


class _Writer:
    """A program in the making; `last` is the expression of its value so far, and that value."""

    def __init__(self, random: Random, length: int) -> None:
        self.random, self.length = random, length
        self.lines: list[str] = []
        self.names = list(_NAMES)
        self.last = ("", 0)

    def add(self, statement: Statement) -> None:
        """One statement more."""
        operands = [self._number() for _ in range(4 if statement == "if" else 2)]
        if self.last[0]:
            operands[self.random.randrange(len(operands))] = self.last
        first, second = operands[:2]
        match statement:
            case "addition" | "subtraction":
                self.last = _sum(first, second, "+" if statement == "addition" else "-")
            case "multiplication":
                self.last = self._product(self.last if self.last[0] else first)
            case "assignment":
                self.last = _sum((self._assigned(first), first[1]), second, self.random.choice("+-"))
            case "if":
                self.last = self._choice(operands)
            case "for":
                self.last = self._loop(first, second)

    def _number(self) -> Value:
        number = self.random.randrange(1, 10**self.length)
        return str(number), number

    def _assigned(self, value: Value) -> str:
        name = self.names.pop(self.random.randrange(len(self.names)))
        self.lines.append(f"{name}={value[0]}")
        return name

    def _product(self, value: Value) -> Value:
        small = self.random.randint(1, 4 * self.length)
        factors = (value[0], str(small)) if self.random.random() < 0.5 else (str(small), value[0])
        return f"({factors[0]}*{factors[1]})", value[1] * small

    def _choice(self, operands: list[Value]) -> Value:
        (yes, if_true), (left, a), (right, b), (no, if_false) = operands
        sign = self.random.choice("<>")
        true = a < b if sign == "<" else a > b
        return f"({yes} if {left}{sign}{right} else {no})", if_true if true else if_false

    def _loop(self, start: Value, change: Value) -> Value:
        rounds, sign = self.random.randint(1, 4 * self.length), self.random.choice("+-")
        name = self._assigned(start)
        self.lines += [f"for x in range({rounds}):", f"  {name}{sign}={change[0]}"]
        total = rounds * change[1]
        return name, start[1] + total if sign == "+" else start[1] - total


def _sum(a: Value, b: Value, sign: str) -> Value:
    return f"({a[0]}{sign}{b[0]})", a[1] + b[1] if sign == "+" else a[1] - b[1]
