"""Series of values brought to one length, for what compares them step by step."""

from __future__ import annotations

import numpy as np


def stretched(values: np.ndarray, steps: int) -> np.ndarray:
    """A series (T C) as channels of `steps` values (C S), between which lines are drawn; a missing value is 0."""
    filled = np.nan_to_num(values)
    at = np.linspace(0, len(filled) - 1, steps)
    return np.stack([np.interp(at, np.arange(len(filled)), channel) for channel in filled.T])
