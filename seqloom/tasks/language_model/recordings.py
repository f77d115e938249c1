"""Signals as a language model of frames reads them: windows to learn, and places from which they are walked forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqloom.data.batches.windows import Item, Window, starts_of
from seqloom.data.rows import LabelledArray, Recording
from seqloom.errors import DataError
from seqloom.evaluation.forecasts import AUTOREGRESSION, ORDERS, Autoregression, last_and_mean
from seqloom.files import Json
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.media import SignalMedium

_SAMPLES = 4
_SHOWN = 64  # steps of a sample before its forecast


@dataclass(frozen=True)
class Walk:
    """Signals at some of their steps, walked forward through time.

    Args:
        places: the signal, and the first step that is predicted.
        histories: what came before, standardized, as much as is read.
        came: (R N C) the N steps from there, standardized.
    """

    places: Sequence[tuple[LabelledArray, int]]
    histories: Sequence[np.ndarray]
    came: np.ndarray


class FrameReader:
    """Reads signals for a model of frames.

    Args:
        config: a ForecastConfig.
        facts: those about the training data: the channels, what standardizes them, the autoregression.
    """

    def __init__(self, config: Any, facts: Json) -> None:
        self.config, self.facts, self.medium = config, facts, SignalMedium(config, Assets(facts=facts))

    def read(self, values: np.ndarray) -> np.ndarray:
        """The last steps, standardized: so many that the model need not start over within the horizon."""
        length = self.config.batches.length
        return self.medium.scale(values[-max(1, length // 2, length - self.config.horizon + 1) :])

    def items(self, rows: Sequence[Recording], *, learn: bool) -> list[Item]:
        """The windows of some series: overlapping ones to learn, or such that each step counts once.

        Raises DataError where there is nothing to predict.
        """
        self.medium.check(rows)
        items, length, scale = list[Item](), self.config.batches.length, self.medium.scale
        for row in rows:
            counted = max(1, row.first)
            for at in starts_of(len(row.values) - 1, length, 0):
                targets = scale(row.values[at + 1 : at + 1 + length])
                if not learn:
                    targets[: max(0, counted - at - 1)] = np.nan
                    counted = max(counted, at + 1 + len(targets))
                if not np.isnan(targets).all():
                    read = row.values[at : at + len(targets)]
                    items.append(Item((Window(read, first_token=at, modality="signal", scale=scale),), targets))
        if not items:
            cure = "name series of two time steps or more"
            raise DataError("there is no step to predict", where=rows[0].where if rows else "", cure=cure)
        return items

    def walk(self, rows: Sequence[Recording], most: int = 0) -> Walk:
        """Series at every horizon-th step; the first after as many as the model reads, or half of a shorter series.

        Args:
            rows: the series.
            most: of more, some are taken evenly; 0 = all.

        Raises DataError where no series is long enough.
        """
        self.medium.check(rows)
        horizon, places = self.config.horizon, list[tuple[LabelledArray, int]]()
        for row in rows:
            size = len(row.values)
            first = row.first or max(1, min(self.config.batches.length, size // 2))
            places += [(row, at) for at in range(first, size - horizon + 1, horizon)]
        places = [(row, at) for row, at in places if not np.isnan(row.values[at : at + horizon]).all()]
        if not places:
            cure = "lower horizon, or hold out longer series: --data.valid, --data.test"
            raise DataError(f"no series has {horizon} steps to predict", where=rows[0].where if rows else "", cure=cure)
        places = places[:: -(-len(places) // most)] if most else places
        came = np.stack([self.medium.scale(row.values[at : at + horizon]) for row, at in places])
        return Walk(places, [self.read(row.values[:at]) for row, at in places], came)

    def others(self, walk: Walk) -> dict[str, np.ndarray]:
        """The forecasts of the last value, the mean and the autoregression."""
        steps, autoregression = walk.came.shape[1], Autoregression(np.array(self.facts["autoregression"]))
        return {**last_and_mean(walk.histories, steps), AUTOREGRESSION: autoregression(walk.histories, steps)}

    def samples(self, walk: Walk, forecasts: np.ndarray, most: int = _SAMPLES) -> list[Json]:
        """Some of the forecasts, each of one channel, as texts: what was seen, what came, and what was predicted."""
        samples, scale = list[Json](), self.medium.scale
        for number, i in enumerate(range(0, len(forecasts), -(-len(forecasts) // most))):
            (row, at), c = walk.places[i], number % self.medium.channels
            forecast = forecasts[i, :, c] * scale.deviation[c] + scale.mean[c]
            parts = {"seen": row.values[max(0, at - _SHOWN) : at, c], "came": row.values[at : at + len(forecast), c]}
            name = f"{row.where or 'signal'}, step {at + 1:,}, channel {c + 1}"
            texts = {key: " ".join(f"{value:.4g}" for value in part) for key, part in parts.items()}
            samples.append({"signal": name, **texts, "forecast": " ".join(f"{value:.4g}" for value in forecast)})
        return samples

    def fitted(self, train: Sequence[Recording], walk: Walk) -> Autoregression:
        """The autoregression of the training series whose order is the best one for the forecasts of a walk."""
        scaled = [self.medium.scale(row.values) for row in train]
        orders = [order for order in ORDERS if order == 1 or 2 * order < max(map(len, scaled))]
        fits = [Autoregression.fit(scaled, order) for order in orders]
        came = walk.came
        return min(fits, key=lambda fit: float(np.nanmean(np.square(fit(walk.histories, came.shape[1]) - came))))
