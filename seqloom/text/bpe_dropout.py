"""BPE dropout (Provilkov et al. 2020): every epoch sees each word cut in other ways.

The `tokenizers` library draws from a generator that cannot be seeded, so that a resumed run would see other data.
Here some cuts of each distinct word are drawn once from a seed, and each epoch picks among them by its own.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
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
        self._texts = [self._words_of(text, words) for text in texts]
        counts = Counter(w for text in self._texts for w in text.tolist())
        random = Random(seed)
        self._cuts = [self._draw(word, min(_MOST, 4 * counts[i]), random) for word, i in words.items()]
        self._choices = np.array([len(c) for c in self._cuts])

    def _words_of(self, text: str, known: dict[tuple[int, ...], int]) -> np.ndarray:
        encoding = self.tokenizer.inner.encode(text, add_special_tokens=False)
        groups: list[list[int]] = []
        last = None
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if word != last:
                groups.append([])
            groups[-1].append(token)
            last = word
        return np.array([known.setdefault(tuple(g), len(known)) for g in groups], dtype=np.int64)

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

    def rows(self, epoch: int, indices: np.ndarray, end: int) -> list[np.ndarray]:
        """The ids of some texts as this epoch sees them, each followed by `end`."""
        found = []
        for index in indices.tolist():
            words = self._texts[index]
            random = np.random.Generator(np.random.Philox(key=(self.seed, epoch), counter=(0, 0, 0, index)))
            picks = (random.random(len(words)) * self._choices[words]).astype(np.int64)
            ids = [i for word, pick in zip(words.tolist(), picks.tolist(), strict=True) for i in self._cuts[word][pick]]
            found.append(np.array([*ids, end], dtype=np.int32))
        return found
