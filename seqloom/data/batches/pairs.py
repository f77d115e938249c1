"""Pairs of encoded texts, and their batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch

from seqloom.data.batches.batch import SequenceBatch, pad
from seqloom.data.batches.order import BatchConfig, Order
from seqloom.data.batches.windows import Change, Item, Row, Window, generator_of, inputs_of


@runtime_checkable
class Side(Protocol):
    """The encoded texts of a side, each ending with the end-of-sentence token, or images.

    BPE dropout and augmentation change them by epoch.
    """

    def lengths(self, epoch: int) -> np.ndarray:
        """The tokens of each text."""
        ...

    def rows(self, epoch: int, indices: np.ndarray) -> Sequence[Row]:
        """The ids of some of the texts."""
        ...


class Fixed:
    """Texts that are the same in every epoch."""

    def __init__(self, ids: Sequence[Row]) -> None:
        self.ids = ids
        self._lengths = np.array([len(row) for row in ids])

    def lengths(self, epoch: int) -> np.ndarray:
        """The tokens of each text."""
        return self._lengths

    def rows(self, epoch: int, indices: np.ndarray) -> Sequence[Row]:
        """The ids of some of the texts."""
        return [self.ids[i] for i in indices.tolist()]


class Changed(Fixed):
    """Windows that are changed at random in each epoch, as a pure function of the seed and their batch."""

    def __init__(self, windows: Sequence[Window], change: Change, seed: int) -> None:
        super().__init__(windows)
        self.change, self.seed = change, seed

    def rows(self, epoch: int, indices: np.ndarray) -> Sequence[Row]:
        """Some of the windows, changed; no other batch of the epoch begins with the same one."""
        items = [Item((self.ids[i],)) for i in indices.tolist()]
        return [item.windows[0] for item in self.change(items, generator_of(self.seed, epoch, int(indices[0])))]


@dataclass(frozen=True)
class EncodedPairs:
    """The two sides of some pairs; `lines` = the line of each pair, from 0."""

    source: Side
    target: Side
    lines: Sequence[int]


class PairBatches:
    """The endless sequence of batches of a corpus of pairs, by number; their rows are lines of the corpus.

    Args:
        pairs: (epoch) -> the pairs of an epoch; every epoch has equally many.
        start: the id that each target begins with.
        config, seed, longest: see Order.
    """

    def __init__(
        self, pairs: Callable[[int], EncodedPairs], start: int, config: BatchConfig, seed: int, longest: int = 0
    ) -> None:
        def lengths(epoch: int) -> tuple[np.ndarray, np.ndarray]:
            return pairs(epoch).source.lengths(epoch), pairs(epoch).target.lengths(epoch)

        self.pairs, self.start, self.order = pairs, start, Order(lengths, config, seed, longest)
        self.per_epoch = self.order.per_epoch

    def __call__(self, number: int) -> SequenceBatch:
        """Batch `number` of the endless sequence."""
        epoch, indices = number // self.per_epoch, self.order.part(number)
        pairs = self.pairs(epoch)
        sources, targets = pairs.source.rows(epoch, indices), pairs.target.rows(epoch, indices)
        return replace(make_batch(sources, targets, self.start, [pairs.lines[i] for i in indices]), number=number)


def make_batch(sources: Sequence[Row], targets: Sequence[Row], start: int, rows: Sequence[int] = ()) -> SequenceBatch:
    """A batch of encoded pairs; each text ends with the end-of-sentence token."""
    target_out, target_mask = pad(cast(Sequence[np.ndarray], targets))
    target_in = torch.cat((torch.full((len(targets), 1), start), target_out[:, :-1]), dim=1)
    tokens = sum(len(t) for t in targets)
    return SequenceBatch(inputs_of(sources), target_in, target_out, target_mask, tokens, tuple(rows))
