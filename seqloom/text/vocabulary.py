"""The vocabulary of word vectors: the words of a corpus and how often each occurs."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seqloom.errors import RunError, UsageError


@dataclass(frozen=True)
class Vocabulary:
    """Words, the most frequent first.

    Args:
        words: the words, all different.
        counts: (V), how often each occurs in the corpus.
    """

    words: list[str]
    counts: NDArray[np.int64]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {word: i for i, word in enumerate(self.words)})

    @classmethod
    def ranked(cls, counts: Mapping[str, int], least: int = 1, most: int = 0) -> Vocabulary:
        """The words that occur at least `least` times, by frequency, then alphabetically; at most `most` if above 0."""
        kept = sorted((word for word, n in counts.items() if n >= least), key=lambda word: (-counts[word], word))
        kept = kept[:most] if most else kept
        return cls(kept, np.array([counts[word] for word in kept], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.words)

    def place(self, word: str) -> int | None:
        """The index of a word, as written or else in lower case; None if it is not there."""
        return self.index.get(word, self.index.get(word.lower()))

    def find(self, word: str) -> int:
        """The index of a word, as written or else in lower case. Raises UsageError with the nearest words."""
        if (index := self.place(word)) is not None:
            return index
        # Only words of similar length with the same first letter: comparing with all takes seconds.
        low = word.lower()
        near = {w.lower(): w for w in self.words if w[:1].lower() == low[:1] and abs(len(w) - len(word)) < 3}
        close = [near[w] for w in difflib.get_close_matches(low, near, n=3, cutoff=0.7)]
        cure = f"did you mean {', '.join(map(repr, close))}?" if close else "it is too rare in the corpus or not in it"
        raise UsageError(f"the vocabulary has no word {word!r}", cure=cure)

    def to_tsv(self) -> str:
        """One line per word: the word, a tab and its count."""
        return "".join(f"{word}\t{count}\n" for word, count in zip(self.words, self.counts.tolist(), strict=True))

    def digest(self) -> str:
        """SHA-256 of `to_tsv`."""
        return hashlib.sha256(self.to_tsv().encode()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads what `to_tsv` wrote. Raises RunError for anything else."""
        words, counts = list[str](), list[int]()
        try:
            with path.open(encoding="utf-8", newline="\n") as file:
                for line in file:
                    word, _, count = line.rstrip("\n").rpartition("\t")
                    words.append(word)
                    counts.append(int(count))
            return cls(words, np.array(counts, dtype=np.int64))
        except (OSError, ValueError, OverflowError) as error:
            cure = "restore the file that the run was written with"
            raise RunError(f"not a vocabulary: {error}", where=str(path), cure=cure) from None
