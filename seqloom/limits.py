"""What is accepted: the bounds of the numbers of a config, and which files are read."""

from __future__ import annotations

import dataclasses
import math
import re
import stat
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from seqloom.errors import UsageError


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value of a number: `layers: Annotated[int, Bounds(1, 1000)]`.

    Args:
        least, most: the bounds, both included.
        below: whether `most` itself is excluded.
    """

    least: int | float
    most: int | float
    below: bool = False

    def hold(self, value: int | float) -> bool:
        """Whether a number is within the bounds; nan is not."""
        return self.least <= value <= self.most and not (self.below and value == self.most)

    def __str__(self) -> str:
        least, most = (f"{bound:,}" if bound % 1 == 0 else f"{bound:g}" for bound in (self.least, self.most))
        return f"from {least} to {'below ' * self.below}{most}"


def parted(hint: Any) -> tuple[Any, Bounds | None]:
    """A type without its bounds, and the bounds."""
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    plain, *notes = typing.get_args(hint)
    return plain, next((note for note in notes if isinstance(note, Bounds)), None)


@cache
def hints_of(cls: Any) -> dict[str, Any]:
    """The type of each field of a config class, with its bounds; that of `preset` names its class's `presets`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    if presets := getattr(cls, "presets", None):
        hints["preset"] = typing.Literal.__getitem__(("", *presets))
    return hints


class Bounded:
    """The base of configs: their numbers are within their bounds however they are made. Raises ValueError."""

    def __post_init__(self) -> None:
        cls: type = type(self)
        hints = hints_of(cls)
        for f in dataclasses.fields(cls):
            hint, value = hints[f.name], getattr(self, f.name)
            if typing.get_origin(hint) is tuple:
                hint, values = typing.get_args(hint)[0], value
            else:
                values = (value,)
            _, bounds = parted(hint)
            if bounds is not None and not all(map(bounds.hold, values)):
                raise ValueError(f"{f.name} must be {bounds}, not {value}")


Positive = Annotated[int, Bounds(1, 10**9)]
NotNegative = Annotated[int, Bounds(0, 10**9)]
Seed = Annotated[int, Bounds(0, 2**63 - 1)]
Minutes = Annotated[float, Bounds(0, 10**6)]
Layers = Annotated[int, Bounds(1, 1000)]
Width = Annotated[int, Bounds(1, 10**5)]
WidthOrZero = Annotated[int, Bounds(0, 10**5)]
Length = Annotated[int, Bounds(1, 10**6)]
LengthOrZero = Annotated[int, Bounds(0, 10**6)]
HeadCount = Annotated[int, Bounds(1, 10_000)]
Tokens = Annotated[int, Bounds(1, 10**8)]
Rows = Annotated[int, Bounds(1, 10**7)]
RowsOrZero = Annotated[int, Bounds(0, 10**7)]
Accumulate = Annotated[int, Bounds(1, 10_000)]
Share = Annotated[float, Bounds(0, 1)]
ShareBelowOne = Annotated[float, Bounds(0, 1, below=True)]
Weight = Annotated[float, Bounds(0, 10**6)]
LearningRate = Annotated[float, Bounds(1e-12, 1000)]


_DEEPEST = 32
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What no text holds: NUL, and halves of characters."""


def unusable(tree: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """The first value of a tree that no config may hold, as its keys and what is wrong with it."""
    waiting: list[tuple[tuple[str, ...], Any, int]] = [((), tree, 0)]
    while waiting:
        keys, value, depth = waiting.pop()
        if depth > _DEEPEST:
            return keys[:_DEEPEST], f"is nested more than {_DEEPEST} deep"
        if isinstance(value, Mapping):
            if wrong := next((key for key in value if NOT_TEXT.search(str(key))), None):
                return keys, f"the key {wrong!r} has a NUL character or is not UTF-8"
            waiting += [((*keys, str(key)), item, depth + 1) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(keys, item, depth + 1) for item in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            return keys, "is a whole number beyond 64 bits"
        elif isinstance(value, str) and NOT_TEXT.search(value):
            return keys, "has a NUL character or is not UTF-8"
    return None


def not_text_in(value: Any) -> str | None:
    """The first text in lists and tables, or key of one, that no text is: one with NUL or half a character."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += [*item, *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, str) and NOT_TEXT.search(item):
            return item
    return None


def finite(number: str) -> float:
    """A number in JSON. Raises ValueError for infinity and what is not a number, also for one too large to be held."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:60]} is no number that can be computed with")
    return value


def check_regular(path: Path) -> None:
    """Raises UsageError for what is there and is neither a file nor a folder: a device has no end, a pipe may wait."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # opening it reports why
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        cure = "copy its content to a file, and name that"
        raise UsageError("this is not a regular file", where=str(path), cure=cure)
