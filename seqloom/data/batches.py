"""Batches by token budget, bucketed by length; the order is a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from seqloom.data.batch import SequenceBatch, pad
from seqloom.errors import DataError

Rows = Callable[[int, np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class BatchConfig:
    """How sentences are put together.

    Args:
        tokens: the target words of a batch, on average over the epoch; no batch has much more.
        jitter: by how many words the sorting by length may be off, so that batches differ between epochs.
        accumulate: batches to a step of the optimizer.
    """

    tokens: int = 4096
    jitter: float = 1.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.accumulate < 1 or self.jitter < 0:
            raise ValueError("batches.tokens and accumulate must be at least 1, jitter not negative")


class Batches:
    """The batches of a corpus of pairs, by number, without end.

    Every epoch has the same number of batches: its sentences, sorted by (jittered) length, are cut where their
    running sum of words crosses equal shares. So the batch of a step is found without looking at earlier ones.

    Args:
        source_lengths, target_lengths: words of each pair, with the end-of-sentence word.
        rows: (epoch, indices) -> the ids of sources and of targets; they may differ between epochs (BPE dropout).
        start: the id a target begins with.
    """

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        rows: tuple[Rows, Rows],
        start: int,
        config: BatchConfig,
        seed: int,
    ) -> None:
        if len(target_lengths) == 0:
            raise DataError("there is no sentence to train on", cure="seqloom check CONFIG says why")
        self.lengths = source_lengths, target_lengths
        self.rows, self.start, self.config, self.seed = rows, start, config, seed
        self.per_epoch = max(1, -(-int(target_lengths.sum()) // config.tokens))

    def epoch(self, number: int) -> list[np.ndarray]:
        """The pairs of each batch of an epoch, in the order of training."""
        random = np.random.Generator(np.random.Philox(key=(self.seed, number)))
        source, target = self.lengths
        size, jitter = len(target), self.config.jitter
        near_target = np.rint(target + random.uniform(-jitter, jitter, size))
        near_source = source + random.uniform(-jitter, jitter, size)
        order = np.lexsort((near_source, near_target))
        running = np.cumsum(target[order])
        shares = running[-1] * np.arange(1, self.per_epoch) / self.per_epoch
        parts = [p for p in np.split(order, np.searchsorted(running, shares)) if len(p)]
        while len(parts) < self.per_epoch:  # a sentence longer than a share leaves an empty part
            parts.append(parts[len(parts) % size])
        return [parts[i] for i in random.permutation(self.per_epoch)]

    @lru_cache(maxsize=2)  # noqa: B019 - as long-lived as the run
    def _epoch(self, number: int) -> list[np.ndarray]:
        return self.epoch(number)

    def __call__(self, number: int) -> SequenceBatch:
        """Batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        indices = self._epoch(epoch)[index]
        return make_batch(self.rows[0](epoch, indices), self.rows[1](epoch, indices), self.start, indices.tolist())

    def padding(self, epoch: int = 0) -> float:
        """The share of positions, of sources and targets together, that is padding."""
        real = total = 0
        for part in self.epoch(epoch):
            for lengths in self.lengths:
                real += int(lengths[part].sum())
                total += int(lengths[part].max()) * len(part)
        return 1 - real / total


def make_batch(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], start: int, rows: Sequence[int] = ()
) -> SequenceBatch:
    """A batch of encoded pairs, each ending with the end-of-sentence word."""
    source, source_mask = pad(sources)
    target_out, target_mask = pad(targets)
    target_in = torch.cat((torch.full((len(targets), 1), start), target_out[:, :-1]), dim=1)
    words = sum(len(t) for t in targets)
    return SequenceBatch(source, source_mask, target_in, target_out, target_mask, words, tuple(rows))
