"""How series of values lie in files, and what is read of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqloom.data.formats.arrays import check_distinct
from seqloom.errors import DataError
from seqloom.limits import Bounded

Axes = Literal["auto", "NT", "NTC", "NCT", "TC", "CT"]


@dataclass(frozen=True)
class Layout(Bounded):
    """How series lie in files.

    Args:
        values: the name of the array or key; "" = "values" or "series".
        label: the name of the array, key or column of labels.
        names: the names of labels that are numbers, from 0; by default the numbers are the names.
        axes: what the axes of an array are: N series of T steps with C channels, or TC, a stream with a label for each
            step. auto = NT, or of NTC and NCT that with fewer channels than steps; what was taken is reported.
        leave_out: the columns of a table that are not read; all others but the label are channels.
    """

    values: str = ""
    label: str = "label"
    names: tuple[str, ...] = ()
    axes: Axes = "auto"
    leave_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self.names)


@dataclass(frozen=True)
class Series:
    """A series (T C) as it lies in a file.

    Args:
        values: the numbers.
        labels: one for all, or one for each step; () = none.
        places: where it is, for messages; of a stream, where each step is.
        stream: whether it is the only series of its file, or of its array, step by step.
        channels: the names of the C, where the file has them.
    """

    values: np.ndarray
    labels: Sequence[str]
    places: Sequence[str]
    stream: bool = False
    channels: tuple[str, ...] = ()

    def place(self, step: int) -> str:
        """Where a step is."""
        return self.places[step] if self.stream else f"{self.places[0]}, step {step + 1}"


def infinite(where: str) -> DataError:
    """The error for a value that float32 does not have."""
    return DataError("a value that is infinite, or beyond 3.4e38", where=where, cure="write NaN for a missing value")
