"""Conversations packed into batches, in which only the answers are learned."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from seqloom.data.batches.batch import StreamBatch
from seqloom.data.batches.stream import Layout
from seqloom.errors import DataError, counted
from seqloom.nn.embedders import Inputs


def pack(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Groups of indices whose sizes fit together into the room: the longest first, each where it fits best."""
    groups: list[list[int]] = []
    left: list[tuple[int, int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        at = bisect_left(left, (sizes[i], -1))
        if at == len(left):
            groups.append([])
            left.append((room, len(groups) - 1))
        space, group = left.pop(at)
        groups[group].append(i)
        insort(left, (space - sizes[i], group))
    return groups


class Packs:
    """The endless sequence of batches of conversations; batch n is a pure function of (seed, n).

    Each row is filled with whole conversations. An epoch has each of them once, and its own order of rows.

    Args:
        chats: the ids of each, and which of them are learned.
        lines: the line of each, for messages.
        layout: for which model; if it carries a state, each row has one conversation, because the state carries over.

    Attributes:
        cut: how many were longer than `length`; `dropped`: how many of these have nothing left to learn.
        tokens: how many are predicted in an epoch.
    """

    def __init__(self, chats: Sequence[tuple[np.ndarray, np.ndarray]], lines: Sequence[int], layout: Layout) -> None:
        config = layout.config
        T = config.length
        self.cut = sum(len(ids) > T + 1 for ids, _ in chats)
        kept = [(ids[: T + 1], learned[: T + 1], n) for (ids, learned), n in zip(chats, lines, strict=True)]
        self.chats = [chat for chat in kept if chat[1].any()]
        self.dropped = len(kept) - len(self.chats)
        if not self.chats:
            problem = "no conversation is so short that batches.length includes some of its answer"
            raise DataError(problem, cure="raise batches.length")
        sizes = [len(ids) - 1 for ids, _, _ in self.chats]
        self.rows = [[i] for i in range(len(sizes))] if layout.carries else pack(sizes, T)
        self.config, self.seed, self.apart = config, layout.seed, not layout.carries and not config.crossing
        self.per_epoch = -(-len(self.rows) // config.lanes)
        self.tokens = sum(int(learned.sum()) for _, learned, _ in self.chats)

    @property
    def lost(self) -> str:
        """A message about the conversations that are not learned whole; "" = all are."""
        if not self.cut:
            return ""
        dropped = f"; {self.dropped:,} of these left out, with no answer in reach" * (self.dropped > 0)
        return f"{counted(self.cut, 'conversation')} cut to batches.length = {self.config.length} tokens{dropped}"

    def __call__(self, number: int) -> StreamBatch:
        """Batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        return self._batch(np.random.Generator(np.random.Philox(key=(self.seed, epoch))).permutation, index)

    def once(self) -> Iterator[StreamBatch]:
        """All conversations."""
        return (self._batch(np.arange, index) for index in range(self.per_epoch))

    windows = once

    def _batch(self, order: Callable[[int], np.ndarray], index: int) -> StreamBatch:
        lanes = self.config.lanes
        rows = [[self.chats[i] for i in self.rows[k]] for k in order(len(self.rows))[index * lanes :][:lanes]]
        width = max(sum(len(ids) - 1 for ids, _, _ in row) for row in rows)
        ids, targets, documents = (np.full((len(rows), width), fill) for fill in (0, -1, 0))
        for r, row in enumerate(rows):
            at = 0
            for d, (chat, learned, _) in enumerate(row):
                here = slice(at, at := at + len(chat) - 1)
                ids[r, here], documents[r, here] = chat[:-1], d
                targets[r, here] = np.where(learned[1:], chat[1:], -1)
            documents[r, at:] = len(row)
        several = self.apart and any(len(row) > 1 for row in rows)
        return StreamBatch(
            Inputs.text(torch.from_numpy(ids), segments=torch.from_numpy(documents) if several else None),
            torch.from_numpy(targets),
            True,
            int((targets >= 0).sum()),
            tuple(row[0][2] - 1 for row in rows),
        )
