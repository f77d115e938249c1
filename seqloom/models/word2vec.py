"""Word2Vec (Mikolov et al. 2013a, 2013b): a vector for each word that its neighbours are predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True)
class Word2VecConfig:
    """What is predicted, from what, and how.

    Args:
        method: each of the neighbours predicts the word (skip-gram), or the mean of their vectors does (cbow).
        width: D, the numbers of a vector.
        window: the most words to each side that count as neighbours.
        dynamic: whether each word draws its window from 1 to `window`, so that near words count for more.
        negative: words drawn to be told from the real one, once for all neighbours of a word (Ji et al. 2016);
            0 = hierarchical softmax over a Huffman tree instead.
        power: negative words are drawn with their count to this power.
        sample: a word of frequency f (as a share) is kept with probability sqrt(sample / f) + sample / f; 0 = always.
        shortest, longest: letters of the n-grams whose vectors a word has the mean of, beside its own (Bojanowski et
            al. 2017); 0 = none.
        buckets: vectors that all n-grams share, by a hash.
    """

    kind: ClassVar[str] = "word2vec"
    method: Literal["skip-gram", "cbow"] = "skip-gram"
    width: int = 100
    window: int = 5
    dynamic: bool = True
    negative: int = 5
    power: float = 0.75
    sample: float = 1e-3
    shortest: int = 0
    longest: int = 0
    buckets: int = 200_000

    def __post_init__(self) -> None:
        if min(self.width, self.window, self.buckets) < 1 or min(self.negative, self.sample) < 0:
            raise ValueError("width, window and buckets must be at least 1, negative and sample not negative")
        if not (0 == self.shortest == self.longest or 1 <= self.shortest <= self.longest):
            raise ValueError("shortest and longest must both be 0, or 1 <= shortest <= longest")


class Word2Vec(nn.Module):
    """The two tables: `input` (V + buckets, D) is what is used afterwards, `output` (V or V - 1, D) what predicts.

    Neither has gradients: `objectives.word2vec` changes them in place.
    """

    def __init__(self, config: Word2VecConfig, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.config = config
        rows = vocab_size + (config.buckets if config.longest else 0)
        random = torch.Generator().manual_seed(seed)
        begin = torch.empty(rows, config.width).uniform_(-0.5 / config.width, 0.5 / config.width, generator=random)
        self.input = nn.Parameter(begin, requires_grad=False)
        outputs = vocab_size if config.negative else max(1, vocab_size - 1)
        self.output = nn.Parameter(torch.zeros(outputs, config.width), requires_grad=False)


def keep_probabilities(counts: NDArray[np.int64], sample: float) -> NDArray[np.float32]:
    """(V), with which a word of the text is kept: that of the original program, which differs from the paper's."""
    if not sample:
        return np.ones(len(counts), dtype=np.float32)
    share = sample * counts.sum() / counts
    return np.asarray(np.minimum(1, np.sqrt(share) + share), dtype=np.float32)


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """For drawing k in proportion to weight k with one number (Walker 1977): a uniform k stands with probability
    `first[k]`, or else `second[k]` does; both (V)."""
    size = len(weights)
    scaled = weights * (size / weights.sum())
    other = np.arange(size, dtype=np.int32)
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            small.append(large.pop())
    return scaled.astype(np.float32), other


@dataclass(frozen=True)
class Tree:
    """A Huffman tree over the words.

    Args:
        starts: (V + 1), where the path of each word begins in the other two.
        nodes: the inner nodes from the root on.
        turns: 1 where the path goes on to the first child, the rarer one, else 0.
    """

    starts: NDArray[np.int64]
    nodes: NDArray[np.int32]
    turns: NDArray[np.float32]


def huffman(counts: Sequence[int]) -> Tree:
    """The tree in which frequent words have short paths; one word alone has an empty one."""
    size = len(counts)
    heap = [(count, i) for i, count in enumerate(counts)]
    heapify(heap)
    parent, turn = np.full(2 * size - 1, -1), np.zeros(2 * size - 1, dtype=np.float32)
    for node in range(size, 2 * size - 1):
        first, second = heappop(heap), heappop(heap)
        parent[[first[1], second[1]]] = node
        turn[first[1]] = 1
        heappush(heap, (first[0] + second[0], node))
    # All words climb at the same time; inner node k has number size + k, and the root is the last one.
    words, at = np.arange(size), np.arange(size)
    found = [(words[:0], at[:0])]
    while (climbing := parent[at] >= 0).any():
        words, at = words[climbing], at[climbing]
        found.append((words, at))
        at = parent[at]
    owners, below = (np.concatenate(column)[::-1] for column in zip(*found, strict=True))
    order = np.argsort(owners, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=size))])
    return Tree(starts, (parent[below[order]] - size).astype(np.int32), turn[below[order]])


def grams(word: str, config: Word2VecConfig) -> list[int]:
    """The buckets of a word's n-grams of letters, with "<" before and ">" after it, as in fastText."""
    whole = f"<{word}>"
    sizes = range(config.shortest, config.longest + 1) if config.longest else ()
    texts = (whole[at : at + size] for size in sizes for at in range(len(whole) - size + 1))
    return [_fnv(text.encode()) % config.buckets for text in texts if text not in ("<", ">")]


def _fnv(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def rows_of_words(words: Sequence[str], config: Word2VecConfig) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The rows of `input` that each word has the mean of: `rows[starts[i] : starts[i + 1]]`, its own first."""
    if not config.longest:
        return np.arange(len(words) + 1), np.arange(len(words), dtype=np.int32)
    own = [[i, *(len(words) + bucket for bucket in grams(word, config))] for i, word in enumerate(words)]
    starts = np.cumsum([0, *map(len, own)])
    return starts, np.fromiter((row for rows in own for row in rows), np.int32, int(starts[-1]))
