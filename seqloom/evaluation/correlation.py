"""Correlations of two series of numbers: of the values (Pearson) and of their ranks (Spearman)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's r of (N) and (N); nan if one of them is constant."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else float("nan")


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rho of (N) and (N); nan if one of them is constant."""
    return correlation(ranks(first), ranks(second))


def ranks(values: ArrayLike) -> Numbers:
    """(N): the rank of each value, from 1; equal values share their mean rank."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    result: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return result
