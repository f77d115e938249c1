"""Running text: documents one after the other as one long row of words, read by several lanes side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from seqloom.data.batch import StreamBatch
from seqloom.data.lines import read_lines
from seqloom.errors import DataError
from seqloom.text.tokenizer import Tokenizer

_BLOCK = 10_000  # lines encoded at a time


@dataclass(frozen=True)
class Text:
    """Documents of lines.

    Args:
        lines: never blank but for one "" after each document.
        numbers: where each stands in its file, from 1.
        files: what they were read from, for messages.
    """

    lines: Sequence[str]
    numbers: Sequence[int] = field(repr=False)
    files: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256; equal digests mean equal documents."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def sizes(self) -> dict[str, int]:
        """How many "words" (between blanks; each end of a line or document is one), "characters" and "bytes"."""
        lines = self.lines
        return {
            "words": sum(len(line.split()) + 1 for line in lines),
            "characters": sum(len(line) + 1 for line in lines),
            "bytes": sum(len(line.encode()) + 1 for line in lines),
        }


def read_text(paths: Sequence[str]) -> Text:
    """The text of some files (plain, .gz, .xz); blank lines and ends of files part its documents.

    Raises UsageError for a file that cannot be opened, DataError for one that is not UTF-8 text or has no words.
    """
    lines: list[str] = []
    numbers: list[int] = []
    for path in paths:
        own = read_lines(path)
        if not any(line.strip() for line in own):
            raise DataError("all its lines are blank", where=path, cure="name files with text in them")
        for number, line in enumerate((*own, ""), start=1):
            if line.strip() or (lines and lines[-1]):
                lines.append(line if line.strip() else "")
                numbers.append(number)
    return Text(lines, numbers, tuple(paths))


def encode_text(text: Text, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the whole text, and the line that each belongs to.

    A line ends with the tokenizer's end word. Its start word stands after each document, and so before the next one.
    """
    ids: list[np.ndarray] = []
    for first in range(0, len(text.lines), _BLOCK):
        block = text.lines[first : first + _BLOCK]
        ends = (tokenizer.end if line else tokenizer.start for line in block)
        ids += [np.append(row, end).astype(np.int32) for row, end in zip(tokenizer.encode(block), ends, strict=True)]
    return np.concatenate(ids), np.repeat(np.asarray(text.numbers, dtype=np.int32), [len(row) for row in ids])


@dataclass(frozen=True)
class StreamConfig:
    """How a text is cut into batches.

    Args:
        lanes: B, parts of the text read side by side; each goes on where its last batch ended.
        length: T, the most words of a lane in one batch: how far gradients reach back, and all that a model sees
            which carries no state.
        accumulate: batches to a step of the optimizer.
        stride: by how many words the windows of an evaluation are apart, where no state is carried; 0 = length / 2.
    """

    lanes: int = 32
    length: int = 128
    accumulate: int = 1
    stride: int = 0

    def __post_init__(self) -> None:
        if min(self.lanes, self.length, self.accumulate) < 1:
            raise ValueError("batches.lanes, length and accumulate must be at least 1")
        if not 0 <= self.stride <= self.length:
            raise ValueError(f"batches.stride must be from 0 to length, {self.length}")


class Stream:
    """The batches of a text, by number, without end; batch n is a pure function of (seed, n).

    In an epoch each word of the text is predicted once. The text is a ring that every epoch is cut elsewhere, into
    lanes of equal length (but for one word), and these into pieces of equal length (but for one).

    Args:
        ids: the text; its last word is read before the first one.
        lines: the line of each word, for messages.
    """

    def __init__(self, ids: np.ndarray, lines: np.ndarray, config: StreamConfig, seed: int = 0) -> None:
        if len(ids) < config.lanes:
            problem = f"the text has {len(ids)} words of the tokenizer, fewer than batches.lanes = {config.lanes}"
            raise DataError(problem, cure="use more text, or fewer lanes")
        self.ids, self.lines, self.config, self.seed = ids, lines, config, seed
        self._longest = -(-len(ids) // config.lanes)
        self.per_epoch = -(-self._longest // config.length)

    def __call__(self, number: int) -> StreamBatch:
        """Batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        cut = np.random.Generator(np.random.Philox(key=(self.seed, epoch))).integers(len(self.ids))
        return self._piece(index, int(cut))

    def once(self) -> Iterator[StreamBatch]:
        """The whole text from its beginning, each lane going on from batch to batch."""
        return (self._piece(index, 0) for index in range(self.per_epoch))

    def windows(self) -> Iterator[StreamBatch]:
        """The whole text in windows of `length` words, `stride` apart, of which the words not yet predicted count."""
        size, length = len(self.ids), min(self.config.length, len(self.ids))
        stride = min(self.config.stride or -(-self.config.length // 2), length)
        starts = stride * np.arange(-(-(size - length) // stride) + 1)
        for part in np.split(starts, range(self.config.lanes, len(starts), self.config.lanes)):
            at = part[:, None] + np.arange(length)
            yield self._batch(at, (at < size) & ((at >= at[:, :1] + length - stride) | (part == 0)[:, None]), True)

    def _piece(self, index: int, cut: int) -> StreamBatch:
        edges = np.arange(self.config.lanes + 1) * len(self.ids) // self.config.lanes
        first, last = (k * self._longest // self.per_epoch for k in (index, index + 1))
        at = edges[:-1, None] + np.arange(first, last)
        return self._batch(at + cut, at < edges[1:, None], index == 0)

    def _batch(self, at: np.ndarray, real: np.ndarray, anew: bool) -> StreamBatch:
        at = at % len(self.ids)
        return StreamBatch(
            torch.from_numpy(self.ids[at - 1].astype(np.int64)),
            torch.from_numpy(np.where(real, self.ids[at], -1).astype(np.int64)),
            anew,
            int(real.sum()),
            tuple(int(line) - 1 for line in self.lines[at[:, 0]]),
        )
