"""Joins pairs of words that occur together strikingly often into phrases (Mikolov et al. 2013b, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from seqloom.data.batches.word_ids import END, WordIds
from seqloom.text.vocabulary import Vocabulary

Keys = NDArray[np.int64]

_PART = 1 << 22  # keys sorted at a time
_PAIRS = 20_000_000  # distinct pairs counted before the rarest are dropped


def join_phrases(
    vocabulary: Vocabulary,
    ids: WordIds,
    least: int,
    threshold: float,
    choose: Callable[[Mapping[str, int]], Vocabulary],
) -> tuple[Vocabulary, WordIds]:
    """Vocabulary and text with each phrase as one word ("new_york"); words that became rare are left out.

    Args:
        vocabulary, ids: the words of a text, and the text.
        least: the fewest occurrences of a pair to be counted.
        threshold: how striking its count must be; see WordText.
        choose: makes the vocabulary from the count of each word.
    """
    pairs = _striking(vocabulary, ids, least, threshold)
    names = vocabulary.words + ["_".join(vocabulary.words[i] for i in divmod(p, len(vocabulary))) for p in pairs]
    joined, counts = WordIds(ids.folder), np.zeros(len(names), dtype=np.int64)
    for part in _by_lines(ids):
        merged = _join(part, pairs, len(vocabulary))
        counts += np.bincount(merged[merged >= 0], minlength=len(names))
        joined.append(merged)
    # Two pairs may spell the same phrase: a_b with c, a with b_c.
    totals: dict[str, int] = {}
    for name, count in zip(names, counts.tolist(), strict=True):
        totals[name] = totals.get(name, 0) + count
    vocabulary = choose(totals)
    table = np.array([*(vocabulary.index.get(name, END - 1) for name in names), END], dtype=np.int32)
    ids = WordIds(ids.folder)
    for part in joined.parts():
        renumbered = table[part]
        ids.append(renumbered[renumbered >= END])
    return vocabulary, ids


def _by_lines(ids: WordIds) -> Iterator[NDArray[np.int32]]:
    edges = ids.cut(1 << 20)
    return (ids.read(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _keys(part: NDArray[np.int32], words: int) -> Keys:
    """The key of each pair of neighbours; -1 where one of them is the end of a line."""
    left, right = part[:-1].astype(np.int64), part[1:].astype(np.int64)
    return np.where((left >= 0) & (right >= 0), left * words + right, -1)


def _striking(vocabulary: Vocabulary, ids: WordIds, min_count: int, threshold: float) -> Keys:
    """The sorted keys of the pairs that are phrases."""
    words, least = len(vocabulary), 1
    keys, counts, waiting, more = np.zeros(0, np.int64), np.zeros(0, np.int64), list[tuple[Keys, Keys]](), 0
    for part in chain(_by_lines(ids), [None]):
        if part is not None:
            waiting.append(np.unique(_keys(part, words), return_counts=True))
            more += len(waiting[-1][0])
        if more > max(_PART, len(keys)) or part is None:  # merged rarely, because each merge sorts
            merged = np.concatenate([keys, *(new_keys for new_keys, _ in waiting)])
            keys, where = np.unique(merged, return_inverse=True)
            weights = np.concatenate([counts, *(new_counts for _, new_counts in waiting)])
            counts = np.bincount(where, weights, len(keys)).astype(np.int64)
            waiting, more = [], 0
        while len(keys) > _PAIRS:
            keys, counts = keys[counts > least], counts[counts > least]
            least += 1
    keys, counts = keys[keys >= 0], counts[keys >= 0]
    single = vocabulary.counts.astype(np.float64)
    score = (counts - min_count) * single.sum() / (single[keys // words] * single[keys % words])
    return np.asarray(keys[score > threshold])


def _join(part: NDArray[np.int32], pairs: Keys, words: int) -> NDArray[np.int32]:
    """The ids with phrases joined from left to right; phrase k becomes id `words` + k."""
    if not len(pairs):
        return part
    keys = _keys(part, words)
    at = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
    matches = np.flatnonzero(pairs[at] == keys)
    # In a run of overlapping pairs, every second one is joined, beginning with the first.
    run_starts = np.diff(matches, prepend=-2) > 1
    first = matches[run_starts][np.cumsum(run_starts) - 1] if len(matches) else matches
    chosen = matches[(matches - first) % 2 == 0]
    result = part.copy()
    result[chosen] = words + at[chosen]
    return np.delete(result, chosen + 1)
