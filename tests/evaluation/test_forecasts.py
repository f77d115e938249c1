from __future__ import annotations

import numpy as np
import pytest

from seqloom.evaluation.forecasts import AUTOREGRESSION, LAST, MEAN, Autoregression, last_and_mean, score_forecasts

NAN = np.nan


def test_an_autoregression_finds_its_own_weights_and_continues_by_them() -> None:
    weights = np.array([[-0.5, 1.2, 0.3], [0.2, 0.7, 0.0]])  # the oldest first, the constant last
    series = np.random.default_rng(1).normal(size=(60, 2))
    for t in range(2, 60):
        series[t] = [weights[c, :2] @ series[t - 2 : t, c] + weights[c, 2] for c in range(2)]
    gap = series.copy()
    gap[30, 1] = NAN
    fit = Autoregression.fit([gap, series[:20], series[:2]], 2)
    np.testing.assert_allclose(fit.weights, weights, atol=1e-6)
    np.testing.assert_allclose(fit([series[:40], series[:50]], 5), [series[40:45], series[50:55]], atol=1e-6)
    short = fit([np.array([[1.0, NAN]])], 1)[0, 0]  # what is missing, or before the first, is the mean
    np.testing.assert_allclose(short, [1.2 + 0.3, 0.0], atol=1e-6)
    with pytest.raises(ValueError, match="no series is longer than 60"):
        Autoregression.fit([series], 60)


def test_the_last_value_is_the_last_one_that_is_there() -> None:
    found = last_and_mean([np.array([[1.0, NAN], [3.0, 5.0], [NAN, 7.0]]), np.array([[NAN, 2.0]])], 2)
    assert found[LAST].tolist() == [[[3, 7], [3, 7]], [[0, 2], [0, 2]]]
    assert found[MEAN].tolist() == np.zeros((2, 2, 2)).tolist()


def test_errors_are_in_units_of_the_data_and_what_is_missing_does_not_count() -> None:
    came = np.array([[[1.0, 10.0], [2.0, NAN], [3.0, 30.0]]])
    model, last = came + 1, np.nan_to_num(came) + np.array([2.0, 20.0])
    others = {LAST: last, MEAN: last, AUTOREGRESSION: last}
    scores = score_forecasts(came, model, others, np.array([1.0, 10.0]), ["x", "y"])
    assert (scores["rmse"], scores["mae"], scores["examples"]) == (1, 1, 1)
    assert scores["rmse_of_last"] == pytest.approx(((3 * 4 + 2 * 400) / 5) ** 0.5)
    assert scores["skill"] == pytest.approx(100 * (1 - (3 + 2 * 0.01) / (3 * 4 + 2 * 4)))
    assert [row["steps ahead"] for row in scores["by_horizon"]] == [1, 2, 3]
    assert scores["by_horizon"][1] == {"steps ahead": 2, "model": 1, LAST: 2, MEAN: 2, AUTOREGRESSION: 2}
    assert [row[LAST] for row in scores["by_channel"]] == [2, 20]
    assert scores["by_forecast"][0] == {"forecast": "model", "RMSE": 1, "MAE": 1}
    diverged = score_forecasts(came, model * NAN, others, np.ones(2), ["x", "y"])
    assert np.isnan(diverged["rmse"])  # and not left out as if it were missing
