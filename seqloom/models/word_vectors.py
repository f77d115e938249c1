"""Word vectors: Word2Vec (Mikolov et al. 2013a, 2013b), which predicts a word from its neighbours, and vectors in use:
similar words, analogies, the odd one out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Annotated, ClassVar, Literal, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seqloom.errors import UsageError, optional
from seqloom.limits import Bounded, Bounds, Width
from seqloom.text.vocabulary import Vocabulary

Near = list[tuple[str, float]]
_ROWS = 1 << 16  # rows scored at a time, so that no second table is needed


@dataclass(frozen=True)
class Word2VecConfig(Bounded):
    """How a word is predicted from its neighbours.

    Args:
        method: each neighbour predicts the word (skip-gram), or the mean of their vectors does (cbow).
        width: D, features of a vector.
        window: the most words on each side that count as neighbours.
        dynamic: whether each word draws its window from 1 to `window`, so that near words count for more.
        negative: random words that the real one is distinguished from, drawn once for all neighbours of a word (Ji et
            al. 2016); 0 = hierarchical softmax over a Huffman tree instead.
        power: negative words are drawn in proportion to their count to this power.
        sample: a word of frequency f (as a share) is kept with probability sqrt(sample / f) + sample / f; 0 = always.
        shortest, longest: letters of a word's n-grams, whose vectors are averaged with its own (Bojanowski et al.
            2017); 0 = none.
        buckets: vectors that all n-grams share, by a hash.
    """

    kind: ClassVar[str] = "word2vec"
    method: Literal["skip-gram", "cbow"] = "skip-gram"
    width: Width = 100
    window: Annotated[int, Bounds(1, 10_000)] = 5
    dynamic: bool = True
    negative: Annotated[int, Bounds(0, 10_000)] = 5
    power: Annotated[float, Bounds(-10, 10)] = 0.75
    sample: Annotated[float, Bounds(0, 10**6)] = 1e-3
    shortest: Annotated[int, Bounds(0, 1000)] = 0
    longest: Annotated[int, Bounds(0, 1000)] = 0
    buckets: Annotated[int, Bounds(1, 10**8)] = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 == self.shortest == self.longest or 1 <= self.shortest <= self.longest):
            raise ValueError("shortest and longest must both be 0, or 1 <= shortest <= longest")


class Word2Vec(nn.Module):
    """Two tables: `input` (V + buckets, D) holds the word vectors, `output` (V or V - 1, D) predicts.

    Neither has gradients: `objectives.word2vec` updates them in place.
    """

    def __init__(self, config: Word2VecConfig, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.config = config
        rows = vocab_size + (config.buckets if config.longest else 0)
        random = torch.Generator().manual_seed(seed)
        drawn = torch.empty(rows, config.width).uniform_(-0.5 / config.width, 0.5 / config.width, generator=random)
        self.input = nn.Parameter(drawn, requires_grad=False)
        outputs = vocab_size if config.negative else max(1, vocab_size - 1)
        self.output = nn.Parameter(torch.zeros(outputs, config.width), requires_grad=False)


def keep_probabilities(counts: NDArray[np.int64], sample: float) -> NDArray[np.float32]:
    """(V), the probability that a word of the text is kept, by the original program, which differs from the paper."""
    if not sample:
        return np.ones(len(counts), dtype=np.float32)
    share = sample * counts.sum() / counts
    return np.asarray(np.minimum(1, np.sqrt(share) + share), dtype=np.float32)


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The alias method (Walker 1977) draws k in proportion to its weight: draw a uniform k, keep it with probability
    `first[k]`, else take `second[k]`; both (V).
    """
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
        starts: (V + 1), where the path of each word starts in the other two.
        nodes: the inner nodes from the root down.
        turns: 1 where the path turns to the first child, the rarer one, else 0.
    """

    starts: NDArray[np.int64]
    nodes: NDArray[np.int32]
    turns: NDArray[np.float32]


def huffman(counts: Sequence[int]) -> Tree:
    """The tree that gives frequent words short paths; a single word has an empty one."""
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
    levels = [(words[:0], at[:0])]
    while (climbing := parent[at] >= 0).any():
        words, at = words[climbing], at[climbing]
        levels.append((words, at))
        at = parent[at]
    owners, below = (np.concatenate(column)[::-1] for column in zip(*levels, strict=True))
    order = np.argsort(owners, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=size))])
    return Tree(starts, (parent[below[order]] - size).astype(np.int32), turn[below[order]])


def grams(word: str, config: Word2VecConfig) -> list[int]:
    """The buckets of a word's n-grams of letters, "<" and ">" around the word, as in fastText."""
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
    """The rows of `input` that are averaged for word i: `rows[starts[i] : starts[i + 1]]`, its own first."""
    if not config.longest:
        return np.arange(len(words) + 1), np.arange(len(words), dtype=np.int32)
    rows = [[i, *(len(words) + bucket for bucket in grams(word, config))] for i, word in enumerate(words)]
    starts = np.cumsum([0, *map(len, rows)])
    return starts, np.fromiter(chain.from_iterable(rows), np.int32, int(starts[-1]))


class WordVectors:
    """A vector for each word; with n-grams also for any other word.

    Args:
        vocabulary: the words, the most frequent first.
        vectors: (V, D).
        buckets: the vectors of n-grams, and the config of how words are cut into them.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        vectors: NDArray[np.float32],
        buckets: tuple[NDArray[np.float32], Word2VecConfig] | None = None,
    ) -> None:
        self.vocabulary, self.vectors, self.buckets = vocabulary, vectors, buckets

    def look(self, text: str) -> NoReturn:
        """Raises UsageError: see `similar`."""
        raise UsageError("word vectors read no text: there are no layers to look into", cure="see similar and analogy")

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """(V), the length of each vector; 1 for one of zeros."""
        norms = np.sqrt(np.einsum("vd,vd->v", self.vectors, self.vectors))
        return np.asarray(np.where(norms > 0, norms, 1), dtype=np.float32)

    def __getitem__(self, word: str) -> NDArray[np.float32]:
        """The vector (D) of a word as written or in lower case; of an unseen one, the mean of its n-grams.

        Raises UsageError with the nearest spellings for a word that has none.
        """
        if self.buckets is not None and self.vocabulary.place(word) is None:
            table, config = self.buckets
            if rows := grams(word, config):
                return np.asarray(table[rows].mean(0))
        return np.asarray(self.vectors[self.vocabulary.find(word)])

    def unit(self, word: str) -> NDArray[np.float32]:
        """The vector of a word, scaled to length 1."""
        vector = self[word]
        return np.asarray(vector / (np.linalg.norm(vector) or 1), dtype=np.float32)

    def near(self, direction: NDArray[np.float32], count: int = 10, without: Collection[str] = ()) -> Near:
        """The words whose vectors have the largest cosine with a direction (D), with their cosines."""
        length = float(np.linalg.norm(direction)) or 1.0
        parts = [self.vectors[at : at + _ROWS] @ direction for at in range(0, len(self.vectors), _ROWS)]
        cosines = np.concatenate(parts) / (self.norms * length)
        for word in without:
            if (at := self.vocabulary.place(word)) is not None:
                cosines[at] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:count]
        return [(self.vocabulary.words[i], float(cosines[i])) for i in order.tolist() if np.isfinite(cosines[i])]

    def similar(self, words: Sequence[str], count: int = 10) -> Near:
        """The words nearest to the mean direction of the given ones."""
        return self.near(np.mean([self.unit(word) for word in words], axis=0), count, words)

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> Near:
        """The words that are to `c` as `b` is to `a`: those nearest to b - a + c (Mikolov et al. 2013c)."""
        return self.near(self.unit(b) - self.unit(a) + self.unit(c), count, (a, b, c))

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words' vectors."""
        return float(self.unit(a) @ self.unit(b))

    def odd_one_out(self, words: Sequence[str]) -> Near:
        """The words with their cosine to the mean direction of all, the one that fits least first."""
        if len(words) < 3:
            raise UsageError(f"{len(words)} words have no odd one out", cure="give three words or more")
        mean = np.mean([self.unit(word) for word in words], axis=0)
        length = float(np.linalg.norm(mean)) or 1.0
        return sorted(((word, float(self.unit(word) @ mean) / length) for word in words), key=lambda pair: pair[1])

    def map(self, words: Sequence[str], method: str = "pca") -> NDArray[np.float64]:
        """Places of words in a plane (words, 2): along the two directions in which they differ most (pca), or so that
        near words stay near (tsne, van der Maaten and Hinton 2008). Raises MissingExtra for tsne without scikit-learn.
        """
        units = np.array([self.unit(word) for word in words], dtype=np.float64)
        if len(words) < 3 or self.vectors.shape[1] < 2:
            problem = f"{len(words)} words with vectors of {self.vectors.shape[1]} features make no map"
            raise UsageError(problem, cure="give three words or more")
        if method == "tsne":
            manifold = optional("sklearn.manifold", "a map by t-SNE", "maps")
            perplexity = min(30.0, max(1.0, (len(words) - 1) / 3))
            placed = manifold.TSNE(perplexity=perplexity, init="pca", random_state=1).fit_transform(units)
            return np.asarray(placed, dtype=np.float64)
        centred = units - units.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(centred @ axes[:2].T)
