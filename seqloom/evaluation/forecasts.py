"""How well the next steps of signals are predicted, beside three forecasts that need no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from seqloom.files import Json

ORDERS = (1, 2, 4, 8, 16, 32)
"""The orders of an autoregression, of which the best one on validation data is taken."""
LAST, MEAN, AUTOREGRESSION = "last value", "mean", "autoregression"


@dataclass(frozen=True)
class Autoregression:
    """AR(p): the next value of a channel is a weighted sum of its last p ones, and a constant.

    Args:
        weights: (C p+1), the constant last.
    """

    weights: np.ndarray

    @classmethod
    def fit(cls, series: Iterable[np.ndarray], order: int) -> Autoregression:
        """That with the least squared error of the next value of some series (T C), where none of p+1 is missing."""
        products: np.ndarray | float = 0.0
        for values in series:
            if len(values) <= order:
                continue
            rows = sliding_window_view(values.astype(np.float64), order + 1, axis=0).transpose(1, 0, 2)  # C T p+1
            whole = ~np.isnan(rows).any(-1, keepdims=True)
            rows = np.where(whole, np.concatenate((rows, np.ones((*rows.shape[:2], 1))), -1), 0)
            products = products + rows.transpose(0, 2, 1) @ rows
        if isinstance(products, float):
            raise ValueError(f"no series is longer than {order}")
        known = np.delete(products, order, 1)
        return cls(np.stack([np.linalg.lstsq(np.delete(g, order, 1), g[:, order], rcond=None)[0] for g in known]))

    def __call__(self, histories: Sequence[np.ndarray], steps: int) -> np.ndarray:
        """The next steps (R N C) of some histories (T C); what is missing or before the first is the mean, 0."""
        order = self.weights.shape[1] - 1
        rows = np.stack([np.pad(np.nan_to_num(h[-order:]), ((max(0, order - len(h)), 0), (0, 0))) for h in histories])
        for _ in range(steps):
            new = np.einsum("rpc,cp->rc", rows[:, -order:], self.weights[:, :-1]) + self.weights[:, -1]
            rows = np.concatenate((rows, np.clip(new, -1e6, 1e6)[:, None]), 1)
        return rows[:, order:]


def last_and_mean(histories: Sequence[np.ndarray], steps: int) -> dict[str, np.ndarray]:
    """Two forecasts (R N C) of standardized histories: the last value of each channel again and again, and 0."""
    last = np.zeros((len(histories), histories[0].shape[1]))
    for row, history in zip(last, histories, strict=True):
        for channel, values in enumerate(history.T):
            there = values[~np.isnan(values)]
            row[channel] = there[-1] if len(there) else 0.0
    last = np.repeat(last[:, None], steps, 1)
    return {LAST: last, MEAN: np.zeros_like(last)}


def score_forecasts(
    came: np.ndarray,
    forecasts: np.ndarray,
    others: Mapping[str, np.ndarray],
    deviation: np.ndarray,
    channels: Sequence[str],
) -> Json:
    """The errors of forecasts (R N C), beside those of others.

    `skill` is the share of the mean squared error of repeating the last value that is avoided (Murphy 1988), with each
    channel in units of its deviation.

    Args:
        came: what came (R N C); NaN is missing and does not count.
        forecasts, others: what was predicted.
        deviation: (C), of the training data.
        channels: the names of the C.
    """
    there, named = ~np.isnan(came), {"model": forecasts, **others}
    errors = {name: each - came for name, each in named.items()}
    scaled = {name: np.square(each / deviation)[there].mean() for name, each in errors.items()}
    roots = {name: _root(each, there) for name, each in errors.items()}
    horizons = {n - 1: n for n in range(1, came.shape[1] + 1) if n == came.shape[1] or n & (n - 1) == 0}

    def parts(column: str, names: Mapping[int, int | str], axis: int) -> list[Json]:
        return [
            {column: name, **{key: _root(np.take(e, i, axis), np.take(there, i, axis)) for key, e in errors.items()}}
            for i, name in names.items()
        ]

    return {
        "skill": float(100 * (1 - scaled["model"] / max(scaled[LAST], 1e-12))),
        "rmse": roots["model"],
        "mae": float(np.abs(errors["model"])[there].mean()),
        "rmse_of_last": roots[LAST],
        "rmse_of_mean": roots[MEAN],
        "rmse_of_ar": roots[AUTOREGRESSION],
        "examples": len(came),
        "by_forecast": [
            {"forecast": name, "RMSE": roots[name], "MAE": float(np.abs(each)[there].mean())}
            for name, each in errors.items()
        ],
        "by_horizon": parts("steps ahead", horizons, 1),
        "by_channel": parts("channel", dict(enumerate(channels)), 2) if len(channels) > 1 else [],
    }


def _root(errors: np.ndarray, there: np.ndarray) -> float | None:
    """The root of the mean square of the errors that there are; None where there is none."""
    return float(np.sqrt(np.square(errors[there]).mean())) if there.any() else None
