"""Batches by token budget, bucketed by length; the order is a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from seqloom.data.batches.batch import SequenceBatch, pad
from seqloom.errors import DataError
from seqloom.nn.embedders import Inputs


@runtime_checkable
class Side(Protocol):
    """The encoded texts of one side, each ending with the end-of-sentence token; BPE dropout changes them by epoch."""

    def lengths(self, epoch: int) -> np.ndarray:
        """The words of each text."""
        ...

    def rows(self, epoch: int, indices: np.ndarray) -> list[np.ndarray]:
        """The ids of some of the texts."""
        ...


class Fixed:
    """Texts that are the same in every epoch."""

    def __init__(self, ids: Sequence[np.ndarray]) -> None:
        self.ids = ids
        self._lengths = np.array([len(row) for row in ids])

    def lengths(self, epoch: int) -> np.ndarray:
        """The words of each text."""
        return self._lengths

    def rows(self, epoch: int, indices: np.ndarray) -> list[np.ndarray]:
        """The ids of some of the texts."""
        return [self.ids[i] for i in indices.tolist()]


class ByEpoch:
    """Texts that may be others in each epoch: those of the side that `of` gives for it."""

    def __init__(self, of: Callable[[int], Side]) -> None:
        self.of = of

    def lengths(self, epoch: int) -> np.ndarray:
        """The words of each text."""
        return self.of(epoch).lengths(epoch)

    def rows(self, epoch: int, indices: np.ndarray) -> list[np.ndarray]:
        """The ids of some of the texts."""
        return self.of(epoch).rows(epoch, indices)


@dataclass(frozen=True)
class BatchConfig:
    """How sentences are put together.

    Args:
        tokens: the target tokens of a batch, on average over the epoch; no batch has much more. A sentence of more
            than that counts as that many.
        count: whose words `tokens` are: the target's, or those of the longer side, where sources are the longer ones.
        jitter: by how many words the sorting by length may be off, so that batches differ more between epochs.
        accumulate: batches to a step of the optimizer.
    """

    tokens: int = 4096
    count: Literal["target", "longer"] = "target"
    jitter: float = 0.5
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.accumulate < 1 or self.jitter < 0:
            raise ValueError("batches.tokens and accumulate must be at least 1, jitter not negative")


class Batches:
    """The batches of a corpus of pairs, by number, without end.

    Every epoch has the same number of batches: its sentences, sorted by length, are cut where their running sum of
    words crosses equal shares. So the batch of a step is found without looking at earlier ones.

    Args:
        source, target: the two sides of the pairs.
        start: the id a target begins with.
        longest: the epoch whose words say how many batches every epoch has.
    """

    def __init__(
        self, source: Side, target: Side, start: int, config: BatchConfig, seed: int, longest: int = 0
    ) -> None:
        self.source, self.target, self.start, self.config, self.seed = source, target, start, config, seed
        self.longest = longest
        tokens = self._counted(longest)
        if len(tokens) == 0:
            raise DataError("there is no sentence to train on", cure="seqloom check CONFIG says why")
        self.per_epoch = -(-int(tokens.sum()) // config.tokens)  # never more than there are sentences

    def lengths(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The words of each source and each target, with the end-of-sentence token."""
        return self.source.lengths(epoch), self.target.lengths(epoch)

    def _counted(self, epoch: int) -> np.ndarray:
        """The words of each pair that a batch's budget is spent on."""
        source, target = self.lengths(epoch)
        tokens = target if self.config.count == "target" else np.maximum(source, target)
        return tokens.clip(max=self.config.tokens)

    def epoch(self, number: int) -> list[np.ndarray]:
        """The pairs of each batch of an epoch, in the order of training."""
        random = np.random.Generator(np.random.Philox(key=(self.seed, number)))
        source, target = self.lengths(number)
        size, jitter = len(target), self.config.jitter
        longer = np.maximum(source, target)
        difference = source - target + random.uniform(-jitter, jitter, size)
        # Within a length the difference goes up, within the next one down: neighbours are alike on both sides.
        order = np.lexsort((np.where(longer % 2, difference, -difference), longer))
        running = np.cumsum(self._counted(number)[order])
        k = np.arange(1, self.per_epoch)
        cuts = _rounded(np.searchsorted(running, running[-1] * k / self.per_epoch))
        # A sentence longer than a share leaves an empty part: the cuts move until each part has one sentence.
        cuts = k + np.maximum.accumulate(np.clip(cuts - k, 0, size - self.per_epoch))
        parts = np.split(order, cuts)
        return [parts[i] for i in random.permutation(self.per_epoch)]

    @lru_cache(maxsize=2)  # noqa: B019 - as long-lived as the run
    def _epoch(self, number: int) -> list[np.ndarray]:
        return self.epoch(number)

    def part(self, number: int) -> np.ndarray:
        """The pairs of batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        return self._epoch(epoch)[index]

    def __call__(self, number: int) -> SequenceBatch:
        """Batch `number` of the endless sequence."""
        epoch, indices = number // self.per_epoch, self.part(number)
        sources, targets = self.source.rows(epoch, indices), self.target.rows(epoch, indices)
        return replace(make_batch(sources, targets, self.start, indices.tolist()), number=number)

    def padding(self, epoch: int | None = None) -> float:
        """The share of positions, of sources and targets together, that is padding; by default in the longest epoch."""
        epoch = self.longest if epoch is None else epoch
        real = total = 0
        for part in self.epoch(epoch):
            for lengths in self.lengths(epoch):
                real += int(lengths[part].sum())
                total += int(lengths[part].max()) * len(part)
        return 1 - real / total


def _rounded(cuts: np.ndarray) -> np.ndarray:
    """The places of the cuts, shifted so that most batches have one of few sizes: to an eighth of the power of two.

    oneDNN compiles its kernels anew for each shape it has not seen, which cost up to 40 % of a step.
    """
    sizes = np.maximum(np.diff(cuts, prepend=0), 1)
    grain = np.maximum(2 ** np.floor(np.log2(sizes)) / 8, 1)
    return np.maximum.accumulate((np.rint(cuts / grain) * grain).astype(np.int64))


def make_batch(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], start: int, rows: Sequence[int] = ()
) -> SequenceBatch:
    """A batch of encoded pairs, each ending with the end-of-sentence token."""
    target_out, target_mask = pad(targets)
    target_in = torch.cat((torch.full((len(targets), 1), start), target_out[:, :-1]), dim=1)
    tokens = sum(len(t) for t in targets)
    return SequenceBatch(Inputs.text(*pad(sources)), target_in, target_out, target_mask, tokens, tuple(rows))
