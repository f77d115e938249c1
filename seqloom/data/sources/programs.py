"""Small programs and their outputs, for a model that learns to execute (Zaremba and Sutskever 2014).

A program is a chain of the statements of the paper's section 3: each has the value so far as one of its operands, at a
random place, and numbers as the others; the last line prints the value.
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
_SHARES = 16  # one share of all programs is for testing, one for validation, the others for training
_TRIES = 8  # for each program required of a share: a difficulty with fewer programs yields those it has


@dataclass(frozen=True)
class Programs(PairSource):
    """Programs as texts of one line, and their outputs. Every epoch has other training programs.

    Args:
        task: programs, or only the sum of two numbers of `length` digits each.
        statements: the statements a program may consist of. Assignments add or subtract a number; a factor, and the
            rounds of a loop, are at most 4 length, as in the paper.
        length: the most digits of a number.
        nesting: the most statements of a program besides its print.
        curriculum: how difficult a training program is. baseline: always the full length and nesting; naive: the length
            rises from 1, and again from 1 with each further statement; mix: any length and nesting; combined: naive or
            mix.
        ramp: the epoch in which naive reaches the full length and nesting. (The paper advances when learning slows
            down; here, the programs of an epoch do not depend on the training.)
        table: whether the test programs have every length and nesting, instead of the full ones only.
        size: the number of programs of an epoch.
        valid_size, test_size: the most programs of the other splits; none of them occurs in training.
        seed: another seed gives other programs.
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
        """See PairSource; the kind of a pair is the nesting and length of its program.

        `train` holds the programs of the first epoch with the full difficulty.
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


Value = tuple[str, int]  # an expression, and its value


class _Sample(NamedTuple):
    source: str
    target: str
    kind: str


def _training(config: Programs, epoch: int) -> Pairs:
    random = Random(f"seqloom programs {config.seed} {epoch}")
    samples = _samples(config, random, lambda: difficulty(config, random, epoch))
    return _pairs(list(islice((sample for share, sample in samples if share > 1), config.size)))


def _held_out(config: Programs, share: int, size: int, levels: list[tuple[int, int]]) -> Pairs:
    """Distinct programs of one share, equally many of each level."""
    random = Random(f"seqloom programs {config.seed} held out {share}")
    programs: dict[str, _Sample] = {}
    for i, level in enumerate(levels):
        count = (i + 1) * size // len(levels) - i * size // len(levels)
        full = len(programs) + count
        samples = _samples(config, random, repeat(level).__next__)
        for its_share, sample in islice(samples, count * _SHARES * _TRIES):
            if len(programs) == full:
                break
            if its_share == share:
                programs[sample.source] = sample
    return _pairs(list(programs.values()))


def _pairs(samples: list[_Sample]) -> Pairs:
    sources, targets, kinds = ([sample[i] for sample in samples] for i in range(3))
    return Pairs(sources, targets, ("programs", "outputs"), kinds=kinds)


def _samples(config: Programs, random: Random, level: Callable[[], tuple[int, int]]) -> Iterator[tuple[int, _Sample]]:
    """Programs without end, each with the share it belongs to."""
    while True:
        length, nesting = level()
        if config.task == "addition":
            a, b = (random.randrange(10 ** (length - 1), 10**length) for _ in range(2))
            program, value, kind = f"print({a}+{b})", a + b, f"length {length}"
        else:
            writer = _Writer(random, length)
            for _ in range(nesting):
                writer.add(random.choice(config.statements))
            text, value = writer.last
            program = "\n".join([*writer.lines, f"print({text})"])
            kind = f"nesting {nesting}, length {length}"
        # The lines of a program become one: ";" occurs nowhere else.
        source = program.replace("\n", ";")
        digest = hashlib.blake2b(f"{config.seed} {source}".encode(), digest_size=4).digest()
        yield int.from_bytes(digest) % _SHARES, _Sample(source, str(value), kind)


class _Writer:
    """Writes a program; `last` is the expression of its value so far, and that value."""

    def __init__(self, random: Random, length: int) -> None:
        self.random, self.length = random, length
        self.lines: list[str] = []
        self.names = list(_NAMES)
        self.last = ("", 0)

    def add(self, statement: Statement) -> None:
        """Adds a statement."""
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
