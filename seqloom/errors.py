"""All errors that users see: what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
import importlib
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 1000  # characters of each part of a message: a wrong value may be a whole file


class SeqloomError(Exception):
    """The base of all errors. The command line prints it as one message and exits with `exit_code`.

    Args:
        problem: what is wrong, as one sentence without a full stop.
        where: the file, with its line if known ("train.en:17"), or the config key.
        cure: what the user can do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", cure: str = "") -> None:
        self.problem, self.where, self.cure = (
            text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..." for text in (problem, where, cure)
        )
        head = f"{self.where}: {self.problem}" if where else self.problem
        super().__init__(f"{head}\n  {self.cure}" if cure else head)


class UsageError(SeqloomError):
    """The call is wrong: a command, an option, a config or a path."""

    exit_code = 2


class ConfigError(UsageError):
    """A config that cannot be used: unknown key, wrong type, invalid value."""


class RunError(UsageError):
    """A run directory that cannot be used: missing, incomplete, damaged, or of another version."""


class MissingExtra(UsageError):  # noqa: N818 - the name says what to do
    """An optional feature whose packages are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}'", cure=f"pip install 'seqloom[{extra}]'")


def optional(module: str, feature: str, extra: str) -> Any:
    """A module of an optional package. Raises MissingExtra, for the feature that needs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(feature, extra) from None


class DataError(SeqloomError):
    """The data cannot be used: undecodable, of unequal length, empty, too long."""

    exit_code = 3


class DivergedError(SeqloomError):
    """A loss or gradient in training is not finite; the step was not taken. The command exits with 1."""


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the plural unless the count is one: "1 pair", "2,000 pairs", "0 batches"."""
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{count:,} {noun}{ending * (count != 1)}"


def first_of(items: Sequence[str], most: int) -> str:
    """The first of the items, and how many more there are."""
    return ", ".join(items[:most]) + f" and {len(items) - most:,} more" * (len(items) > most)


def command(*words: object) -> str:
    """The line for a shell that calls seqloom with these words; what a shell would part or read is quoted."""
    return shlex.join(["seqloom", *map(str, words)])


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint at the choice closest to `name`: "did you mean 'x'?", or all choices when none is close."""
    names = sorted(choices)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(names)}"
