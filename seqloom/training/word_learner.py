"""The learner of word vectors: threads learn from blocks of text and update the same two tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from seqloom.data.batches.word_ids import WordIds
from seqloom.errors import DivergedError
from seqloom.files import WEIGHTS
from seqloom.limits import Bounded, LearningRate, Positive
from seqloom.models.word_vectors import Word2Vec
from seqloom.text.vocabulary import Vocabulary
from seqloom.training.checkpoint import load_weights, save_tensors
from seqloom.training.loop import Step

_PARTS = 64  # an epoch has about this many blocks or more
_LEAST = 1_000  # words of a block, so that it is worth a thread's while and few lines are cut


@dataclass(frozen=True)
class SGD(Bounded):
    """Stochastic gradient descent: each window is a step of its own.

    Args:
        lr: the learning rate, which the schedule scales; usually 0.025 for skip-gram, 0.05 for cbow.
    """

    kind: ClassVar[str] = "sgd"
    lr: LearningRate = 0.025


@dataclass(frozen=True)
class BlockConfig(Bounded):
    """How the text is divided among threads.

    Args:
        words: the most words in a block, which one thread learns from in one go.
        step: blocks per step, the unit of progress, learning rate and checkpoints.
        deterministic: one block after the other, on one thread, which gives the same bits every time.
    """

    words: Positive = 10_000
    step: Positive = 32
    deterministic: bool = False


class WordLearner:
    """See Learner. The order of the blocks is a pure function of (seed, epoch), the random numbers of a block one of
    (seed, epoch, block), so a resumed training continues as if it had never stopped.

    Args:
        model: the model; its tables are updated in place.
        ids: the text.
        threads: the number of threads that learn at the same time.
    """

    def __init__(
        self, model: Word2Vec, vocabulary: Vocabulary, ids: WordIds, batches: BlockConfig, seed: int, threads: int
    ) -> None:
        from seqloom.objectives.word2vec import make_model, train_block  # numba is an extra

        self.copies, self.learned = 1, sum(p.numel() for p in model.parameters())
        self.model, self.ids, self.seed, self.learn = model, ids, seed, train_block
        self.kernel = make_model(model.config, vocabulary, model.input.numpy(), model.output.numpy())
        self.threads = 1 if batches.deterministic else threads
        # A small text gets smaller blocks, so that threads finish together and the learning rate falls in small steps.
        self.edges = ids.cut(min(batches.words, max(_LEAST, ids.size // _PARTS)))
        self.blocks = len(self.edges) - 1
        self.step = max(1, min(batches.step, self.blocks // (_PARTS // 2)))
        self.per_epoch = -(-self.blocks // self.step)
        self.sums = np.zeros(2)  # loss and pairs since the last call of mean_loss

    def steps(self, start: int, rate: Callable[[int], float]) -> Iterator[Step]:
        """See Learner; the loss is that of a pair of words and its negative samples, estimated on some pairs."""
        with ThreadPoolExecutor(self.threads) as pool:
            number = start
            while True:
                epoch, index = divmod(number, self.per_epoch)
                chosen = self._of_epoch(epoch)[index * self.step : (index + 1) * self.step].tolist()
                number += 1
                began, lr = time.perf_counter(), rate(number)
                sums = sum(pool.map(lambda block: self._learn(epoch, block, lr), chosen), np.zeros(2))  # noqa: B023
                if not np.isfinite(sums).all():
                    cure = "lower optimizer.lr"
                    raise DivergedError(f"the loss is {sums[0]} at step {number}; nothing was saved", cure=cure)
                self.sums += sums
                loss = float(sums[0] / max(1.0, sums[1]))
                words = int((self.edges[np.add(chosen, 1)] - self.edges[chosen]).sum())
                yield Step(number, loss, loss, 0.0, lr, words, time.perf_counter() - began)

    def mean_loss(self) -> float:
        """The mean loss since the last call."""
        mean = float(self.sums[0] / max(1.0, self.sums[1]))
        self.sums = np.zeros(2)
        return mean

    @lru_cache(maxsize=1)  # noqa: B019 - as long-lived as the run
    def _of_epoch(self, epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=(self.seed, epoch))).permutation(self.blocks)

    def _learn(self, epoch: int, block: int, lr: float) -> np.ndarray:
        seed = np.random.SeedSequence((self.seed, epoch, block)).generate_state(1, np.uint64)[0]
        ids = self.ids.read(int(self.edges[block]), int(self.edges[block + 1]))
        return np.asarray(self.learn(ids, seed, lr, self.kernel))

    def measured(self, weights: Mapping[str, Tensor] | None) -> AbstractContextManager[None]:
        """See Learner; there are no weights besides the tables."""
        return nullcontext()

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """See Learner; the tables are written without a copy."""
        save_tensors(folder / WEIGHTS, {name: weight.detach() for name, weight in weights.items()})

    def save(self, folder: Path) -> None:
        """Writes the tables, and the sums for the next mean loss."""
        self.write(folder, dict(self.model.named_parameters()))
        save_tensors(folder / "optimizer.safetensors", {"sums": torch.from_numpy(self.sums)})

    def load(self, folder: Path) -> None:
        """Loads what `save` wrote."""
        load_weights(folder, self.model)
        self.sums = load_file(folder / "optimizer.safetensors")["sums"]
