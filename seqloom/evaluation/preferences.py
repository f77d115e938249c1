"""Scores of rewards on preferences: how often the chosen answer has the higher one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqloom.evaluation.classification import Numbers, reliability

_95 = 1.959964  # standard deviations


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, in percent (Wilson 1927); from 0 to 100 where nothing was counted."""
    if not count:
        return 0.0, 100.0
    share, z = correct / count, _95**2 / count
    middle = (share + z / 2) / (1 + z)
    half = _95 / (1 + z) * math.sqrt(share * (1 - share) / count + z / (4 * count))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def score_preferences(differences: Numbers, lengths: NDArray[np.int64]) -> dict[str, Any]:
    """The scores of preferring the answer with the higher reward, and those of doing without it.

    Args:
        differences: (N) the reward of the chosen answer minus that of the rejected one.
        lengths: (N 2) the characters of both.

    Returns:
        accuracy with its interval (`wilson`); longer_accuracy: of preferring the longer answer (of equally long ones,
        half); by_chance; against_length: the accuracy on the pairs whose shorter answer was chosen; loss: the mean of
        -log sigmoid(difference); calibration_error of the probability sigmoid(difference), and "reliability".
    """
    differences = differences.astype(np.float64)
    right = differences > 0
    shorter = lengths[:, 0] < lengths[:, 1]
    longer = (lengths[:, 0] > lengths[:, 1]) + 0.5 * (lengths[:, 0] == lengths[:, 1])
    low, high = wilson(int(right.sum()), len(right))
    rows, error = reliability(1 / (1 + np.exp(-np.abs(differences))), right)
    return {
        "examples": len(right),
        "accuracy": 100 * float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "longer_accuracy": 100 * float(longer.mean()),
        "by_chance": 50.0,
        "against_length": 100 * float(right[shorter].mean()) if shorter.any() else None,
        "loss": float(np.logaddexp(0, -differences).mean()),
        "calibration_error": error,
        "reliability": rows,
    }
