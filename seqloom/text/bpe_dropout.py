"""BPE dropout (Provilkov et al. 2020): every epoch sees different segmentations of each word.

The `tokenizers` library uses a generator that cannot be seeded, so a resumed run would see different data. Here some
segmentations of each distinct word are drawn once from a seed, and each epoch picks among them with its own seed.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from random import Random

import numpy as np

from seqloom.text.tokenizer import Tokenizer

_MOST = 32  # segmentations of a word; a rare word has four for each time it occurs


class DroppedBPE:
    """Texts that are encoded differently in every epoch.

    Args:
        tokenizer: a BPE tokenizer.
        texts: the texts.
        p: the probability that a merge is skipped.
        seed: the random seed of the segmentations.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], p: float, seed: int) -> None:
        self.tokenizer, self.p, self.seed = tokenizer, p, seed
        model = json.loads(tokenizer.to_json())["model"]
        self._ids: dict[str, int] = model["vocab"]
        pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
        self._ranks = {(a, b): rank for rank, (a, b) in enumerate(pairs)}
        words: dict[tuple[int, ...], int] = {}
        rows = [self._words_of(text, words) for text in texts]
        self._words = np.array([w for row in rows for w in row], dtype=np.int32)
        self._ends = np.cumsum([len(row) for row in rows], dtype=np.int64)  # where each text's words end
        counts = Counter(self._words.tolist())
        random = Random(seed)
        cuts = [self._draw(word, min(_MOST, 4 * counts[i]), random) for word, i in words.items()]
        self._choices = np.array([len(c) for c in cuts], dtype=np.int64)
        self._first = np.cumsum(self._choices) - self._choices  # where each word's segmentations begin
        self._cuts = [cut for word in cuts for cut in word]
        self._sizes = np.array([len(cut) for cut in self._cuts], dtype=np.int64)

    def _words_of(self, text: str, numbers: dict[tuple[int, ...], int]) -> list[int]:
        encoding = self.tokenizer.inner.encode(text, add_special_tokens=False)
        pairs = itertools.groupby(zip(encoding.word_ids, encoding.ids, strict=True), key=itemgetter(0))
        words = [tuple(token for _, token in group) for _, group in pairs]
        return [numbers.setdefault(word, len(numbers)) for word in words]

    def _draw(self, word: tuple[int, ...], count: int, random: Random) -> list[list[int]]:
        symbols = list("".join(str(self.tokenizer.inner.id_to_token(i)) for i in word))
        return [[self._ids[s] for s in self._cut(symbols, random)] for _ in range(count)]

    def _cut(self, symbols: list[str], random: Random) -> list[str]:
        symbols = list(symbols)
        while len(symbols) > 1:
            ranked = [
                (rank, i)
                for i, pair in enumerate(itertools.pairwise(symbols))
                if (rank := self._ranks.get(pair)) is not None and random.random() >= self.p
            ]
            if not ranked:
                break
            _, i = min(ranked)
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        return symbols

    @lru_cache(maxsize=2)  # noqa: B019 - as long-lived as the run
    def _picks(self, epoch: int) -> np.ndarray:
        """The segmentation of each word of each text in this epoch."""
        random = np.random.Generator(np.random.Philox(key=(self.seed, epoch)))
        drawn = random.random(len(self._words), dtype=np.float32) * self._choices[self._words]
        return (self._first[self._words] + drawn.astype(np.int64)).astype(np.int32)

    def lengths(self, epoch: int) -> np.ndarray:
        """The number of tokens of each text in this epoch, including the end-of-sentence token."""
        running = np.concatenate(([0], np.cumsum(self._sizes[self._picks(epoch)])))
        return np.diff(running[self._ends], prepend=0) + 1

    def rows(self, epoch: int, indices: np.ndarray) -> list[np.ndarray]:
        """The ids of some texts in this epoch, each with the end-of-sentence token."""
        picks, rows = self._picks(epoch), []
        for index in indices.tolist():
            words = picks[self._ends[index - 1] if index else 0 : self._ends[index]].tolist()
            ids = itertools.chain.from_iterable(self._cuts[word] for word in words)
            rows.append(np.array([*ids, self.tokenizer.end], dtype=np.int32))
        return rows
