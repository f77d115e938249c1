"""Word vectors in the text formats of word2vec, fastText (.vec) and GloVe: a word and its numbers a line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from seqloom.data.lines import decode, expand, raw_lines
from seqloom.errors import DataError


def read_vectors(path: str, words: Mapping[str, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The vectors (N E) of those of `words` that a file has, and the numbers they have in `words` (N).

    The file is read line by line and never held whole. A first line of two numbers ("words dimensions") is a header.
    Of a word that occurs twice the first vector counts.

    Raises:
        UsageError: a file that cannot be opened.
        DataError: a line of another length than the first, or with something that is no finite number.
    """
    file = expand(path)
    found: dict[int, NDArray[np.float32]] = {}
    width = 0
    for number, raw in enumerate(raw_lines(file), 1):
        word, *values = decode(raw, file, number).rstrip(" ").split(" ")
        if number == 1 and len(values) == 1 and word.isdigit() and values[0].isdigit():
            width = int(values[0])
            continue
        width = width or len(values)
        if len(values) != width or not width:
            cure = "a line is a word and its numbers with single spaces between; the file may be cut off"
            raise DataError(f"{len(values)} numbers instead of {width}", where=f"{file}:{number}", cure=cure)
        if (at := words.get(word)) is not None and at not in found:
            found[at] = _numbers(values, f"{file}:{number}")
    rows = np.array(list(found.values()), dtype=np.float32).reshape(len(found), width)
    return rows, np.array(list(found), dtype=np.int64)


def _numbers(values: list[str], where: str) -> NDArray[np.float32]:
    try:
        row = np.array(values, dtype=np.float32)
    except ValueError:
        row = np.array([np.nan], dtype=np.float32)
    if not np.isfinite(row).all():
        raise DataError("not all of it are finite numbers", where=where, cure="write the vectors anew, as text")
    return row
