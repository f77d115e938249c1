"""Running text: documents joined into one long row of tokens, which is cut into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import torch

from seqloom.data.batches.batch import StreamBatch
from seqloom.data.rows import Piece, Text, blocks_of
from seqloom.errors import DataError, counted
from seqloom.limits import Accumulate, Bounded, Bounds, Length, LengthOrZero
from seqloom.nn.embedders import Inputs
from seqloom.text.tokenizer import Tokenizer


@runtime_checkable
class Row(Protocol):
    """A long row of numbers, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class StreamConfig(Bounded):
    """How a text is cut into batches.

    Args:
        lanes: B, the pieces of text in a batch; if the model carries a state, each continues the lane's previous piece.
        length: T, the most tokens of a piece: how far gradients reach back, and all that a model without a carried
            state sees.
        accumulate: batches per step of the optimizer.
        stride: tokens from one window of an evaluation to the next, if no state is carried; 0 = length / 2.
        crossing: whether a model also sees the earlier documents: of the same piece, or all if it carries a state.
    """

    lanes: Annotated[int, Bounds(1, 10**5)] = 32
    length: Length = 128
    accumulate: Accumulate = 1
    stride: LengthOrZero = 0
    crossing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride > self.length:
            raise ValueError(f"batches.stride must be at most batches.length = {self.length}; 0 = half of it")


def check_length(size: int, config: StreamConfig) -> None:
    """Raises DataError for a text of too few tokens."""
    if size < config.lanes:
        problem = f"the text has {counted(size, 'token')}, fewer than batches.lanes = {config.lanes}"
        raise DataError(problem, cure="use more text, or fewer lanes")


@dataclass(frozen=True)
class Layout:
    """How a text is laid out for a model.

    Args:
        config: how it is cut into batches.
        seed: the seed of their order.
        carries: whether the model carries a state.
    """

    config: StreamConfig
    seed: int = 0
    carries: bool = False

    def stream(self, ids: Row, lines: Row, tokenizer: Tokenizer) -> Stream:
        """The batches of an encoded text; see Stream."""
        return Stream(ids, lines, self, None if self.config.crossing else tokenizer.start)


class Stream:
    """The endless sequence of batches of a text, by number; batch n is a pure function of (seed, n).

    An epoch predicts each token of the text once. The text is a ring, which each epoch cuts at another place. For a
    model that carries a state, it is cut into lanes whose lengths differ by at most one token, and these into pieces
    whose lengths differ by at most one; for any other model, only into such pieces, in another order in each epoch.

    Args:
        ids: the text; its last token is read before the first one.
        lines: the line of each token, for messages.
        layout: how the text is laid out for the model.
        document_start: the token that begins each document, if documents are separated.

    Attributes:
        tokens: how many are predicted in an epoch.
        lost: a message about the part of the text that is not learned; "" = all of it is.
    """

    lost = ""

    def __init__(self, ids: Row, lines: Row, layout: Layout, document_start: int | None = None) -> None:
        check_length(len(ids), layout.config)
        self.ids, self.lines, self.document_start, self.tokens = ids, lines, document_start, len(ids)
        self.config, self.seed, self.carries = layout.config, layout.seed, layout.carries
        self._longest = -(-len(ids) // self.config.lanes)
        self.per_epoch = -(-self._longest // self.config.length)

    def __call__(self, number: int) -> StreamBatch:
        """Batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        cut, order = self._drawn(epoch)
        return self._piece(index, cut) if self.carries else self._blocks(index, cut, order)

    @lru_cache(maxsize=1)  # noqa: B019 - as long-lived as the run
    def _drawn(self, epoch: int) -> tuple[int, np.ndarray]:
        chance = np.random.Generator(np.random.Philox(key=(self.seed, epoch)))
        cut = int(chance.integers(len(self.ids)))
        return cut, chance.permutation(0 if self.carries else self.per_epoch * self.config.lanes)

    def once(self) -> Iterator[StreamBatch]:
        """The whole text from its beginning; each lane continues from batch to batch."""
        return (self._piece(index, 0) for index in range(self.per_epoch))

    def windows(self) -> Iterator[StreamBatch]:
        """The whole text in windows of `length` tokens, `stride` apart; only tokens not yet predicted are targets."""
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

    def _blocks(self, index: int, cut: int, order: np.ndarray) -> StreamBatch:
        chosen = order[index * self.config.lanes : (index + 1) * self.config.lanes]
        first, last = (k * len(self.ids) // len(order) for k in (chosen, chosen + 1))
        at = first[:, None] + np.arange((last - first).max())
        return self._batch(at + cut, at < last[:, None], True)

    def _batch(self, at: np.ndarray, real: np.ndarray, reset: bool) -> StreamBatch:
        tokens = self.ids[np.concatenate((at[:, :1] - 1, at), 1) % len(self.ids)].astype(np.int64)
        return StreamBatch(
            Inputs.text(torch.from_numpy(tokens[:, :-1]), segments=self._documents(tokens[:, :-1])),
            torch.from_numpy(np.where(real, tokens[:, 1:], -1)),
            reset,
            int(real.sum()),
            tuple(int(line) - 1 for line in self.lines[at[:, 0] % len(self.ids)]),
        )

    def _documents(self, read: np.ndarray) -> torch.Tensor | None:
        if self.document_start is None:
            return None
        number = (read == self.document_start).cumsum(1)
        if not self.carries:  # nothing to be kept from the document that a row begins with
            number -= number[:, :1]
        return torch.from_numpy(number) if number.any() else None


def encode_block(block: Sequence[Piece], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a block, and how many belong to each piece.

    A line ends with `tokenizer.line_end`. The start token follows each document, and so precedes the next one.
    """
    ends_lines = tokenizer.line_end is not None
    rows = tokenizer.encode(["" if line is None else line if ends_lines else f"{line}\n" for line, _ in block])
    marked = np.array([ends_lines or line is None for line, _ in block])
    sizes = np.fromiter(map(len, rows), np.int64, len(rows)) + marked
    last = np.zeros(sizes.sum(), dtype=bool)
    last[sizes.cumsum()[marked] - 1] = True
    ids = np.empty(len(last), dtype=np.int32)
    ids[~last] = np.concatenate(rows)
    ids[last] = [tokenizer.start if line is None else tokenizer.end for line, _ in block if ends_lines or line is None]
    return ids, sizes


def encode_beginnings(texts: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """The ids of each text at the beginning of a document; at least one."""
    special, start = tokenizer.special, [tokenizer.start]
    before = start if special is None or special.opens else []
    if special is not None and special.template is not None:
        before = [*special.template.before]
    rows = (np.concatenate((before, ids)).astype(np.int64) for ids in tokenizer.encode_lines(texts))
    return [row if len(row) else np.array(start) for row in rows]


def encode_text(text: Text, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the whole text, and the line of each."""
    ids, sizes = zip(*(encode_block(block, tokenizer) for block in blocks_of(text)), strict=True)
    return np.concatenate(ids), np.repeat(np.asarray(text.numbers, dtype=np.int32), np.concatenate(sizes))
