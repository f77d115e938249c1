"""What the readers of images and of signals share: NPZ files, and the names of labels that are numbers."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from seqloom.data.formats.lines import is_blank
from seqloom.errors import DataError, UsageError
from seqloom.limits import check_regular

DAMAGED = (KeyError, TypeError, ValueError, EOFError, OSError, OverflowError, MemoryError, RuntimeError, SyntaxError)
DAMAGED += (struct.error, zlib.error, zipfile.BadZipFile, TokenError)  # type: ignore[assignment]
"""What reading a damaged .npz raises."""
MOST_BYTES = 1 << 32
"""Of the arrays of a file."""


def npz_arrays(path: Path, what: str, cure: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; nothing is unpickled. Raises DataError or UsageError.

    Args:
        path: the file.
        what: what they should be.
        cure: how to write such a file.
    """
    check_regular(path)
    try:
        check_unpacked(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DAMAGED as error:
        if isinstance(error, OSError) and not path.is_file():
            raise UsageError("no such file", where=str(path), cure="check its path") from None
        raise DataError(f"not an .npz of {what}: {error}", where=str(path), cure=cure) from None


def check_unpacked(path: Path, most: int = MOST_BYTES) -> None:
    """Raises DataError where an archive unpacks to more bytes; BadZipFile for what is none."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > most:
        raise DataError(f"unpacks to {size:,} bytes", where=str(path), cure="split it into several files")


def labels_in(labels: np.ndarray, count: int, what: str, path: Path) -> list[str]:
    """The labels of `count` examples as texts. Raises DataError for other numbers or types of them."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuUb":
        problem = f"its labels are {labels.dtype} of {labels.shape}"
        raise DataError(problem, where=str(path), cure="give each example a whole number, or a text")
    if len(labels) != count:
        raise DataError(f"{count:,} {what} and {len(labels):,} labels", where=str(path), cure="give each one")
    return [str(label) for label in labels.tolist()]


def check_distinct(names: Sequence[str]) -> None:
    """Raises ValueError for names of labels of which one is blank, or occurs twice."""
    for i, name in enumerate(names):
        if is_blank(name) or name in names[:i]:
            raise ValueError(f"names must differ, and none be blank, but that of the label {i} is {name!r}")


def named(label: str, names: Sequence[str], where: str) -> str:
    """The name of a label that is a number from 0; without names, the label. Raises DataError."""
    if not names or not label or label in names:
        return label
    if not label.isdecimal() or int(label) >= len(names):
        cure = f"the labels are numbers from 0 to {len(names) - 1}, as data.names has {len(names)}"
        raise DataError(f"the label {label!r} is out of range", where=where, cure=cure)
    return names[int(label)]
