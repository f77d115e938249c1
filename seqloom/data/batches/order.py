"""Batches by token budget, bucketed by length; the order is a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np

from seqloom.errors import DataError
from seqloom.limits import Accumulate, Bounded, Bounds, Tokens


@dataclass(frozen=True)
class BatchConfig(Bounded):
    """How sentences are put together into batches.

    Args:
        tokens: the tokens of a batch, on average over the epoch; no batch has many more. A sentence with more than
            that counts as that many.
        count: which tokens are counted: the target's, or those of the longer side, where sources are the longer ones.
        jitter: by how many tokens the sorting by length may be off, so that batches differ more between epochs.
        accumulate: batches per step of the optimizer.
    """

    tokens: Tokens = 4096
    count: Literal["target", "longer"] = "target"
    jitter: Annotated[float, Bounds(0, 10**6)] = 0.5
    accumulate: Accumulate = 1


class Order:
    """The texts, or pairs of texts, of each batch of an endless sequence, by number.

    Every epoch has the same number of batches: its texts, sorted by length, are cut where their running sum of tokens
    crosses equal shares. So the batch of a step is computed without the earlier ones.

    Args:
        lengths: (epoch) -> the tokens of each text (N), for each side of pairs.
        config: how texts are put together.
        seed: the seed of the order.
        longest: the epoch whose tokens determine how many batches every epoch has.
    """

    def __init__(
        self, lengths: Callable[[int], tuple[np.ndarray, ...]], config: BatchConfig, seed: int, longest: int = 0
    ) -> None:
        self.lengths, self.config, self.seed, self.longest = lengths, config, seed, longest
        tokens = self._budgeted(lengths(longest))
        if len(tokens) == 0:
            raise DataError("there is no sentence to train on", cure="seqloom check CONFIG shows why")
        self.per_epoch = -(-int(tokens.sum()) // config.tokens)  # never more than there are sentences

    def _budgeted(self, lengths: tuple[np.ndarray, ...]) -> np.ndarray:
        """The tokens of each text that count towards the budget of a batch."""
        tokens: np.ndarray = lengths[-1] if self.config.count == "target" else np.max(lengths, axis=0)
        return tokens.clip(max=self.config.tokens)

    @lru_cache(maxsize=2)  # noqa: B019 - as long-lived as the run
    def epoch(self, number: int) -> list[np.ndarray]:
        """The texts of each batch of an epoch, in the order of training."""
        random = np.random.Generator(np.random.Philox(key=(self.seed, number)))
        lengths = self.lengths(number)
        size, jitter = len(lengths[0]), self.config.jitter
        longer = np.max(lengths, axis=0)
        difference = lengths[0] - lengths[-1] + random.uniform(-jitter, jitter, size)
        # The difference rises within one length and falls within the next: neighbours are alike on both sides.
        order = np.lexsort((np.where(longer % 2, difference, -difference), longer))
        running = np.cumsum(self._budgeted(lengths)[order])
        k = np.arange(1, self.per_epoch)
        cuts = _rounded(np.searchsorted(running, running[-1] * k / self.per_epoch))
        # A sentence longer than a share leaves an empty part: the cuts move until each part has a sentence.
        cuts = k + np.maximum.accumulate(np.clip(cuts - k, 0, size - self.per_epoch))
        parts = np.split(order, cuts)
        return [parts[i] for i in random.permutation(self.per_epoch)]

    def part(self, number: int) -> np.ndarray:
        """The texts of batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        return self.epoch(epoch)[index]

    def padding(self, epoch: int | None = None) -> float:
        """The share of padding among the positions of all sides together; by default in the longest epoch."""
        epoch = self.longest if epoch is None else epoch
        real = total = 0
        for part in self.epoch(epoch):
            for lengths in self.lengths(epoch):
                real += int(lengths[part].sum())
                total += int(lengths[part].max()) * len(part)
        return 1 - real / total


def _rounded(cuts: np.ndarray) -> np.ndarray:
    """The places of the cuts, rounded to an eighth of a power of two, so that most batches have one of few sizes.

    oneDNN compiles its kernels again for each new shape, which took up to 40 % of a step.
    """
    sizes = np.maximum(np.diff(cuts, prepend=0), 1)
    grain = np.maximum(2 ** np.floor(np.log2(sizes)) / 8, 1)
    return np.maximum.accumulate((np.rint(cuts / grain) * grain).astype(np.int64))
