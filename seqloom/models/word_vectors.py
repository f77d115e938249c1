"""Word vectors in use: what is similar, what is to what as what is to what, what does not belong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from seqloom.errors import UsageError
from seqloom.models.word2vec import Word2VecConfig, grams
from seqloom.text.vocabulary import Vocabulary

Near = list[tuple[str, float]]
_ROWS = 1 << 16  # rows scored at a time, so that no second table is needed


class WordVectors:
    """A vector for each word; with n-grams also for any other word.

    Args:
        vocabulary: the words, the most frequent first.
        vectors: (V, D).
        buckets: the vectors of n-grams, and the config that says which a word has.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        vectors: NDArray[np.float32],
        buckets: tuple[NDArray[np.float32], Word2VecConfig] | None = None,
    ) -> None:
        self.vocabulary, self.vectors, self.buckets = vocabulary, vectors, buckets

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """(V), the length of each vector; 1 for one of zeros."""
        norms = np.sqrt(np.einsum("vd,vd->v", self.vectors, self.vectors))
        return np.asarray(np.where(norms > 0, norms, 1), dtype=np.float32)

    def __getitem__(self, word: str) -> NDArray[np.float32]:
        """The vector (D) of a word as it is or in lower case; of an unseen one, the mean of its n-grams.

        Raises UsageError for a word that has none, with the nearest spellings.
        """
        if self.buckets is not None and self.vocabulary.place(word) is None:
            table, config = self.buckets
            if rows := grams(word, config):
                return np.asarray(table[rows].mean(0))
        return np.asarray(self.vectors[self.vocabulary.find(word)])

    def unit(self, word: str) -> NDArray[np.float32]:
        """Its vector with length 1."""
        vector = self[word]
        return np.asarray(vector / (np.linalg.norm(vector) or 1), dtype=np.float32)

    def near(self, direction: NDArray[np.float32], count: int = 10, without: Collection[str] = ()) -> Near:
        """The words whose vectors have the largest cosine with a direction (D), and the cosines."""
        length = float(np.linalg.norm(direction)) or 1.0
        parts = [self.vectors[at : at + _ROWS] @ direction for at in range(0, len(self.vectors), _ROWS)]
        cosines = np.concatenate(parts) / (self.norms * length)
        for word in without:
            if (at := self.vocabulary.place(word)) is not None:
                cosines[at] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:count]
        return [(self.vocabulary.words[i], float(cosines[i])) for i in order.tolist() if np.isfinite(cosines[i])]

    def similar(self, words: Sequence[str], count: int = 10) -> Near:
        """The words nearest to the mean direction of some."""
        return self.near(np.mean([self.unit(word) for word in words], axis=0), count, words)

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> Near:
        """What is to `c` as `b` is to `a`: the words nearest to b - a + c (Mikolov et al. 2013c)."""
        return self.near(self.unit(b) - self.unit(a) + self.unit(c), count, (a, b, c))

    def similarity(self, a: str, b: str) -> float:
        """The cosine of the vectors of two words."""
        return float(self.unit(a) @ self.unit(b))

    def odd_one_out(self, words: Sequence[str]) -> Near:
        """The words with their cosine to the mean direction of all, the one that fits least first."""
        if len(words) < 3:
            raise UsageError(f"{len(words)} words have no odd one out", cure="give three words or more")
        mean = np.mean([self.unit(word) for word in words], axis=0)
        length = float(np.linalg.norm(mean)) or 1.0
        return sorted(((word, float(self.unit(word) @ mean) / length) for word in words), key=lambda pair: pair[1])

    def map(self, words: Sequence[str], method: str = "pca") -> NDArray[np.float64]:
        """(words, 2), where they lie in a plane: along the two directions in which they differ most (pca), or so that
        near ones stay near (tsne, van der Maaten and Hinton 2008). Raises MissingExtra for tsne without scikit-learn.
        """
        found = [self.unit(word) for word in words]
        if len(words) < 3 or self.vectors.shape[1] < 2:
            problem = f"{len(words)} words with vectors of {self.vectors.shape[1]} numbers make no map"
            raise UsageError(problem, cure="give three words or more")
        units = np.stack(found).astype(np.float64)
        if method == "tsne":
            from seqloom.errors import MissingExtra

            try:
                from sklearn.manifold import TSNE
            except ImportError:
                raise MissingExtra("a map by t-SNE", "maps") from None
            perplexity = min(30.0, max(1.0, (len(words) - 1) / 3))
            made = TSNE(perplexity=perplexity, init="pca", random_state=1).fit_transform(units)
            return np.asarray(made, dtype=np.float64)
        centred = units - units.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(centred @ axes[:2].T)
