"""Word ids on disk, for training word vectors."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqloom.files import writing

Ids = NDArray[np.int32]
END = -1
"""Follows each line: no window extends across it."""
_PART = 1 << 20  # ids read at a time


class WordIds:
    """Word ids in a file without a name, which disappears with the process.

    Args:
        folder: the file is on its disk, with four bytes per word.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with writing(folder):
            self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this object
        weakref.finalize(self, self._file.close)
        self.size = 0
        self._digest = hashlib.sha256()

    def append(self, ids: Ids) -> None:
        """Appends ids."""
        data = ids.astype("<i4").tobytes()
        with writing(self.folder):
            self._file.write(data)
            self._file.flush()
        self._digest.update(data)
        self.size += len(ids)

    def digest(self) -> str:
        """SHA-256 of the ids."""
        return self._digest.hexdigest()

    def read(self, start: int, stop: int) -> Ids:
        """The ids from `start` up to `stop`, exclusive; threads may read at the same time."""
        return np.frombuffer(os.pread(self._file.fileno(), 4 * (stop - start), 4 * start), dtype="<i4")

    def parts(self) -> Iterator[Ids]:
        """All ids, in parts."""
        return (self.read(at, min(at + _PART, self.size)) for at in range(0, self.size, _PART))

    def cut(self, most: int) -> NDArray[np.int64]:
        """The edges of blocks of at most `most` ids, from 0 to the end; at the ends of lines where possible."""
        edges = [0]
        while edges[-1] < self.size:
            begin, end = edges[-1], min(edges[-1] + most, self.size)
            ends = np.flatnonzero(self.read(begin, end) == END)
            edges.append(begin + int(ends[-1]) + 1 if len(ends) and end < self.size else end)
        return np.array(edges)
