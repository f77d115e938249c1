"""Statistical evidence of faults in parallel text: shifted lines, swapped languages, unusual lengths."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqloom.data.formats.lines import is_blank

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEARN_FROM = 200_000
"""The language profiles are learned from at most this many pairs, evenly spread."""

_SHIFT_BLOCK = 200_000
_SCORE_BLOCK = 50_000
_BUCKETS = 1 << 15
_SURE = 5.0  # nats on each side of a pair: odds of 150 to 1
_TOKEN = re.compile(r"\w+|[^\w\s]|\n")  # or the end of a line
_OTHER, _END = -1, -2


def character_lengths(lines: Sequence[str]) -> Ints:
    """The number of characters of each line."""
    return np.fromiter(map(len, lines), np.int64, len(lines))


def length_outliers(sources: Sequence[str], targets: Sequence[str]) -> Ints:
    """Indices of pairs whose length ratio, in characters, is far from that of the corpus.

    Far means six robust standard deviations of the log ratio (median and MAD). Ten characters are added to each side
    and the deviation has a floor of 0.1, so that "Hi!" - "Guten Tag!" raises no alarm.
    """
    ratio = np.log((character_lengths(sources) + 10.0) / (character_lengths(targets) + 10.0))
    away = np.abs(ratio - np.median(ratio)) if len(ratio) else ratio
    scale = max(0.1, 1.4826 * float(np.median(away))) if len(ratio) else 1.0
    return np.flatnonzero(away > 6 * scale)


class LanguageProfiles:
    """The character trigrams of the two sides of a corpus, which distinguish its languages."""

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        step = max(1, math.ceil(len(sources) / LEARN_FROM))
        counts = [np.zeros(_BUCKETS), np.zeros(_BUCKETS)]
        for side, lines in enumerate((sources[::step], targets[::step])):
            for start in range(0, len(lines), _SCORE_BLOCK):
                grams, _ = _trigrams(lines[start : start + _SCORE_BLOCK])
                counts[side] += np.bincount(grams, minlength=_BUCKETS)
        size = math.log((counts[1].sum() + 1) / (counts[0].sum() + 1))
        # One occurrence is subtracted on both sides: no line is evidence for itself, and shared text for neither side.
        source, target = (np.log(np.maximum(count - 1, 0) + 0.5) for count in counts)
        self._table = source - target + size

    def odds(self, lines: Sequence[str]) -> Floats:
        """Log odds (nats) that each line is in the source language rather than in the target language."""
        parts = [np.zeros(0)]
        for start in range(0, len(lines), _SCORE_BLOCK):
            grams, ends = _trigrams(lines[start : start + _SCORE_BLOCK])
            total = np.concatenate([[0.0], np.cumsum(self._table[grams])])
            parts.append(np.diff(total[ends], prepend=0.0))
        return np.concatenate(parts)

    def swapped(self, sources: Sequence[str], targets: Sequence[str]) -> Ints:
        """Indices of pairs that are the wrong way round beyond doubt; none if the languages are not distinct."""
        source, target = self.odds(sources), self.odds(targets)
        apart = (np.abs(source) > _SURE) & (np.abs(target) > _SURE) & (source * target < 0)
        if not len(apart) or apart.mean() < 0.5:
            return np.zeros(0, np.int64)
        return np.flatnonzero(apart & (source < 0))


def _trigrams(lines: Sequence[str]) -> tuple[Ints, Ints]:
    """The hashed trigrams of all lines, joined, and where those of each line end. A line of n characters has n."""
    lower = [line.lower() for line in lines]
    text = "".join(f"\x02{line}\x03" for line in lower)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    mixed = codes[:-2] * np.uint64(0x9E3779B1) + codes[1:-1] * np.uint64(0x85EBCA77) + codes[2:] * np.uint64(0xC2B2AE3D)
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(0x2C1B3C6D) >> np.uint64(12)
    ends = np.cumsum(character_lengths(lower))
    inside = np.ones(len(mixed), np.bool_)
    edges = ends + 2 * np.arange(len(lines))  # the two trigrams that straddle a line and the next
    for offset in (0, 1):
        inside[(edges + offset)[:-1]] = False
    return (mixed[inside] % np.uint64(_BUCKETS)).astype(np.int64), ends


@dataclass(frozen=True)
class Shift:
    """From pair `start` on, source i matches target i + `lag` better than target i."""

    start: int
    lag: int


def find_shift(sources: Sequence[str], targets: Sequence[str]) -> Shift | None:
    """Where the two sides stop matching line by line, if a shift by some lines explains it; otherwise None.

    Two features of a pair, the difference in length and the tokens that both sides share (weighted by rarity), become
    log-likelihood ratios of "is the translation" to "is a line near it", calibrated on the corpus itself. A shift is
    the stretch that gains most at another offset, provided that the gain is far beyond chance: the largest of n chance
    gains stays near log n; 4 log n + 30 nats are required, and more for offsets chosen by correlation. The first of
    several shifts is returned. A shift of a few dozen lines or fewer goes undetected; the place is accurate to a few
    lines. Corpora of more than 200,000 pairs are examined in blocks of that size.
    """
    for first in range(0, len(sources), _SHIFT_BLOCK):
        earliest, end = None, min(first + _SHIFT_BLOCK, len(sources))
        while shift := _Alignment(sources[first:end], targets[first:end]).shift():
            end = first + shift.start
            earliest = Shift(end, shift.lag)
        if earliest is not None:
            return earliest
    return None


class _Alignment:
    """The evidence that source i belongs to target i + lag, for the plausible lags."""

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.n = len(sources)
        self.hashes = [np.fromiter(map(hash, side), np.int64, self.n) for side in (sources, targets)]
        tokens = [_TOKEN.findall("\n".join(line.replace("\n", " ") for line in side)) for side in (sources, targets)]
        common = sorted((set(tokens[0]) & set(tokens[1])) - {"\n"})
        self.size, numbers = max(1, len(common)), {token: i for i, token in enumerate(common)} | {"\n": _END}
        self.keys = [self._keys(side, numbers) for side in tokens]
        counts = np.bincount(self.keys[1] % self.size, minlength=self.size)
        self.rarity = np.log((self.n + 1) / np.maximum(counts, 1))
        self.filled = [np.fromiter((not is_blank(x) for x in side), np.bool_, self.n) for side in (sources, targets)]
        self.lengths = [_standard(lines, full) for lines, full in zip((sources, targets), self.filled, strict=True)]

    def shift(self) -> Shift | None:
        if self.n < 100:
            return None
        lags = self._lags()
        near = [lag for lag in (-5, -4, 4, 5, 6, 7, 8) if lag not in lags][:2]
        raw = {lag: self._features(lag) for lag in (0, *lags, *near)}
        values = [np.concatenate([raw[lag][f] for lag in (0, *lags)]) for f in (0, 1)]
        edges = [np.unique(np.quantile(each, np.linspace(0, 1, 13)[1:-1])) for each in values]
        bins = {lag: [np.digitize(raw[lag][f], edges[f]) for f in (0, 1)] for lag in raw}
        valid = {lag: self._exists(lag) for lag in raw}

        def tables(where: dict[int, npt.NDArray[np.bool_]]) -> list[Floats]:
            return [_log_shares([bins[lag][f][rows] for lag, rows in where.items()], len(edges[f]) + 1) for f in (0, 1)]

        chance = tables({lag: valid[lag] for lag in near})

        def evidence(aligned: list[Floats], lag: int) -> Floats:
            total = sum((aligned[f] - chance[f])[bins[lag][f]] for f in (0, 1))
            return np.where(valid[lag], total, 0.0)

        guesses = {lag: tables({lag: valid[lag]}) for lag in (0, *lags)}
        aligned = max(guesses.items(), key=lambda item: float(evidence(item[1], item[0]).mean()))[1]
        best = None
        for _ in range(2):  # the second time, calibrated on the alignment found the first time
            straight = evidence(aligned, 0)
            stretches = [
                (*_best_stretch(np.where(valid[k] & valid[0], evidence(aligned, k) - straight, 0.0)), k) for k in lags
            ]
            gain, start, end, lag = max(stretches)
            inside = np.zeros(self.n, np.bool_)
            inside[start:end] = True
            aligned = tables({0: valid[0] & ~inside, lag: valid[lag] & inside})
            mean = float(np.where(inside, evidence(aligned, lag), evidence(aligned, 0)).mean())
            required = (4 if abs(lag) == 1 else 8) * math.log(self.n) + 30
            if gain < max(required, 0.1 * mean * (end - start)):
                return None
            best = Shift(start, lag)
        return best

    def _lags(self) -> list[int]:
        """One line up, one line down, and the lags at which the lengths of the two sides correlate best."""
        size = 1 << (2 * self.n - 1).bit_length()
        spectrum = np.conj(np.fft.rfft(self.lengths[0], size)) * np.fft.rfft(self.lengths[1], size)
        best = np.argsort(-np.fft.irfft(spectrum, size))[:5]
        lags = {int(lag if lag < size // 2 else lag - size) for lag in best}
        return sorted({-1, 1} | {lag for lag in lags if 0 < abs(lag) < self.n // 2})

    def _exists(self, lag: int) -> npt.NDArray[np.bool_]:
        """Whether source i and target i + lag both exist and are not blank.

        Equal lines count only at lag 0: in a conversation, where each answer is the next source, nothing has shifted.
        """
        other = np.arange(self.n) + lag
        exists = (other >= 0) & (other < self.n) & self.filled[0] & self.filled[1][other % self.n]
        if lag:
            exists &= self.hashes[0] != self.hashes[1][other % self.n]
        return exists

    def _features(self, lag: int) -> tuple[Floats, Floats]:
        """The differences of the standardized log lengths, and the rarity of the shared tokens."""
        there = (self.keys[0] + lag * self.size) % (self.n * self.size)
        places = np.searchsorted(self.keys[1], there).clip(max=max(0, len(self.keys[1]) - 1))
        shared = self.keys[0][self.keys[1][places] == there] if len(self.keys[1]) else self.keys[0][:0]
        weights = self.rarity[shared % self.size]
        other = (np.arange(self.n) + lag) % self.n
        return (
            self.lengths[0] - self.lengths[1][other],
            np.bincount(shared // self.size, weights=weights, minlength=self.n).astype(np.float64),
        )

    def _keys(self, tokens: Sequence[str], numbers: Mapping[str, int]) -> Ints:
        """The distinct tokens of each line that both sides have: line * size + token, in order."""
        ids = np.fromiter((numbers.get(token, _OTHER) for token in tokens), np.int64, len(tokens))
        lines, shared = np.cumsum(ids == _END), ids >= 0
        return np.unique(lines[shared] * self.size + ids[shared])


def _standard(lines: Sequence[str], filled: npt.NDArray[np.bool_]) -> Floats:
    logs = np.log(character_lengths(lines) + 5.0)
    spread = float(logs[filled].std()) if filled.any() else 0.0
    middle = float(np.median(logs[filled])) if filled.any() else 0.0
    return np.where(filled, (logs - middle) / (spread or 1.0), 0.0)


def _log_shares(parts: Sequence[npt.NDArray[np.intp]], size: int) -> Floats:
    counts = np.ones(size)
    for part in parts:
        counts += np.bincount(part, minlength=size)
    shares: Floats = np.log(counts / counts.sum())
    return shares


def _best_stretch(gains: Floats) -> tuple[float, int, int]:
    """The largest sum over a stretch of `gains`, with its start and end (Kadane)."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total - lowest))
    start = int(np.flatnonzero(total[: end + 1] == lowest[end])[-1])
    return float(total[end] - total[start]), start, max(end, start + 1)
