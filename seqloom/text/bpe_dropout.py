"""BPE dropout (Provilkov et al. 2020): every epoch sees each word cut in other ways.

The `tokenizers` library draws from a generator that cannot be seeded, so that a resumed run would see other data.
Here some cuts of each distinct word are drawn once from a seed, and each epoch picks among them by its own.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np

from seqloom.text.tokenizer import Tokenizer

_MOST = 32  # cuts of a word; a rarer word than that has as many as it has places to be seen in


class DroppedBPE:
    """Texts that are encoded anew in every epoch.

    Args:
        tokenizer: a BPE tokenizer.
        texts: the texts.
        p: the probability that a merge is skipped.
        seed: what the cuts are drawn from.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], p: float, seed: int) -> None:
        self.tokenizer, self.p, self.seed = tokenizer, p, seed
        model = json.loads(tokenizer.to_json())["model"]
        self._ids: dict[str, int] = model["vocab"]
        pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
        self._ranks = {(a, b): rank for rank, (a, b) in enumerate(pairs)}
        words: dict[tuple[int, ...], int] = {}
        found = [self._words_of(text, words) for text in texts]
        self._words = np.array([w for text in found for w in text], dtype=np.int32)
        self._ends = np.cumsum([len(text) for text in found], dtype=np.int64)  # where each text's words stop
        counts = Counter(self._words.tolist())
        random = Random(seed)
        cuts = [self._draw(word, min(_MOST, 4 * counts[i]), random) for word, i in words.items()]
        self._choices = np.array([len(c) for c in cuts], dtype=np.int64)
        self._first = np.cumsum(self._choices) - self._choices  # where each word's cuts begin among all
        self._cuts = [cut for word in cuts for cut in word]
        self._sizes = np.array([len(cut) for cut in self._cuts], dtype=np.int64)

    def _words_of(self, text: str, known: dict[tuple[int, ...], int]) -> list[int]:
        encoding = self.tokenizer.inner.encode(text, add_special_tokens=False)
        groups: list[list[int]] = []
        last = None
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if word != last:
                groups.append([])
            groups[-1].append(token)
            last = word
        return [known.setdefault(tuple(g), len(known)) for g in groups]

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
        """The cut of each word of each text that this epoch sees."""
        random = np.random.Generator(np.random.Philox(key=(self.seed, epoch)))
        drawn = random.random(len(self._words), dtype=np.float32) * self._choices[self._words]
        return (self._first[self._words] + drawn.astype(np.int64)).astype(np.int32)

    def lengths(self, epoch: int) -> np.ndarray:
        """The words of each text as this epoch sees it, with the end-of-sentence token."""
        running = np.concatenate(([0], np.cumsum(self._sizes[self._picks(epoch)])))
        return np.diff(running[self._ends], prepend=0) + 1

    def rows(self, epoch: int, indices: np.ndarray) -> list[np.ndarray]:
        """The ids of some texts as this epoch sees them, each with the end-of-sentence token."""
        picks, end = self._picks(epoch), self.tokenizer.end
        found = []
        for index in indices.tolist():
            own = picks[self._ends[index - 1] if index else 0 : self._ends[index]]
            ids = [i for pick in own.tolist() for i in self._cuts[pick]]
            found.append(np.array([*ids, end], dtype=np.int32))
        return found
