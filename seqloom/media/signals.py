"""What is computed of series of values: the size of each channel, and series brought to one length."""

from __future__ import annotations

import numpy as np


def stretched(values: np.ndarray, steps: int) -> np.ndarray:
    """A series (T C) as channels of `steps` values (C S), between which lines are drawn; a missing value is 0."""
    filled = np.nan_to_num(values)
    at = np.linspace(0, len(filled) - 1, steps)
    return np.stack([np.interp(at, np.arange(len(filled)), channel) for channel in filled.T])


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the deviation of each channel (T C), without missing values; a constant one has the deviation 1."""
    steps = values.astype(np.float64)
    there = ~np.isnan(steps)
    count, filled = np.maximum(there.sum(0), 1), np.where(there, steps, 0)
    mean = filled.sum(0) / count
    deviation = np.sqrt((np.square(filled - mean) * there).sum(0) / count)
    return mean, np.where(deviation > 0, deviation, 1.0)
