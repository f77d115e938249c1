from __future__ import annotations

import math

import numpy as np
import pytest

from seqloom.evaluation.preferences import score_preferences, wilson


@pytest.mark.parametrize(("correct", "count"), [(0, 7), (3, 7), (7, 7), (331, 598)])
def test_the_interval_holds_the_shares_from_which_the_count_is_less_than_two_deviations_away(correct, count):
    """Wilson's interval inverts the score test: at its ends |share - p| = 1.96 sqrt(p (1 - p) / n)."""
    for end in wilson(correct, count):
        p = end / 100
        assert abs(correct / count - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / count), abs=1e-9)
    assert wilson(0, 0) == (0.0, 100.0)


def test_accuracy_and_its_baselines():
    lengths = np.array([(9, 2), (2, 9), (3, 3), (1, 5), (8, 1)])
    scores = score_preferences(np.array([1.0, -2.0, 0.5, 3.0, 0.0]), lengths)
    assert scores["accuracy"] == pytest.approx(60)  # equal rewards are no preference
    assert scores["longer_accuracy"] == pytest.approx(50)  # 2 of 5, and half of one
    assert scores["against_length"] == pytest.approx(50)
    assert scores["loss"] == pytest.approx(np.mean([math.log1p(math.exp(-d)) for d in (1, -2, 0.5, 3, 0)]))
    assert scores["accuracy_low"] < 60 < scores["accuracy_high"]


def test_calibration_is_that_of_the_probability_of_the_preferred_answer():
    """Rewards drawn from the model of Bradley and Terry are calibrated; the same, exaggerated, are not."""
    draw = np.random.default_rng(0)
    differences = draw.normal(0, 2, 40_000)
    signed = np.where(draw.random(40_000) < 1 / (1 + np.exp(-differences)), differences, -differences)
    lengths = np.ones((40_000, 2), dtype=np.int64)
    assert score_preferences(signed, lengths)["calibration_error"] < 1
    assert score_preferences(4 * signed, lengths)["calibration_error"] > 10
