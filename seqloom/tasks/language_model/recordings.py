"""Signals as a language model of frames reads them: windows to learn, and places from which they are walked forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqloom.data.batches.windows import Item, Window, starts_of
from seqloom.data.rows import LabelledArray, Recording
from seqloom.errors import DataError
from seqloom.evaluation.forecasts import AUTOREGRESSION, ORDERS, Autoregression, last_and_mean
from seqloom.files import Json
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.signals import SignalMedium

_SAMPLES = 4
_SHOWN = 64  # steps of a sample before its forecast


@dataclass(frozen=True)
class Walk:
    """Signals at some of their steps, walked forward through time.

    Args:
        places: the signal, and the first step that is predicted.
        pasts: what came before, as it is read; see FrameReader.past.
        came: (R N C) the N steps from there.
    """

    places: Sequence[tuple[LabelledArray, int]]
    pasts: Sequence[Window]
    came: np.ndarray


class FrameReader:
    """Reads signals for a model of frames.

    Args:
        config: a ForecastConfig.
        facts: those about the training data: the channels, what standardizes them, the autoregression.
    """

    def __init__(self, config: Any, facts: Json) -> None:
        self.config, self.facts, self.medium = config, facts, SignalMedium(config, Assets(facts=facts))

    def past(self, row: LabelledArray) -> Window:
        """The last steps of a series: so many that the model need not start over within the horizon."""
        length = self.config.batches.length
        read = row.values[-max(1, length // 2, length - self.config.horizon + 1) :]
        return Window(read, modality="signal", scale=self.medium.scale_of(row))

    def items(self, rows: Sequence[Recording], *, learn: bool) -> list[Item]:
        """The windows of some series: overlapping ones to learn, or such that each step counts once.

        Raises DataError where there is nothing to predict.
        """
        self.medium.check(rows)
        items, length = list[Item](), self.config.batches.length
        for row in rows:
            frames, counted = self.medium.scale_of(row)(row.values), max(1, row.first)
            for at in starts_of(len(row.values) - 1, length, 0):
                targets = frames[at + 1 : at + 1 + length].copy()
                if not learn:
                    targets[: max(0, counted - at - 1)] = np.nan
                    counted = max(counted, at + 1 + len(targets))
                if not np.isnan(targets).all():
                    read = Window(frames[at : at + len(targets)], first_token=at, modality="signal")
                    items.append(Item((read,), targets))
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
        came = np.stack([row.values[at : at + horizon] for row, at in places])
        return Walk(places, [self.past(replace(row, values=row.values[:at])) for row, at in places], came)

    def others(self, walk: Walk) -> dict[str, np.ndarray]:
        """The forecasts of the last value, the mean and the autoregression."""
        steps, scale = walk.came.shape[1], self.medium.scale
        pasts = [scale(past.values) for past in walk.pasts]
        found = {**last_and_mean(pasts, steps), AUTOREGRESSION: self.autoregression(pasts, steps)}
        return {name: scale.undone(each) for name, each in found.items()}

    @property
    def autoregression(self) -> Autoregression:
        """That of the training data."""
        return Autoregression(np.array(self.facts["autoregression"]))

    def samples(self, walk: Walk, forecasts: np.ndarray, most: int = _SAMPLES) -> list[Json]:
        """Some of the forecasts, each of one channel, as texts: what was seen, what came, and what was predicted."""
        samples = list[Json]()
        for number, i in enumerate(range(0, len(forecasts), -(-len(forecasts) // most))):
            (row, at), c = walk.places[i], number % self.medium.channels
            parts = {"seen": row.values[max(0, at - _SHOWN) : at], "came": walk.came[i], "forecast": forecasts[i]}
            name = f"{row.where or 'signal'}, step {at + 1:,}, {self.channel(c)}"
            texts = {key: " ".join(f"{value:.4g}" for value in part[:, c]) for key, part in parts.items()}
            samples.append({"signal": name, **texts})
        return samples

    def channel(self, c: int) -> str:
        """The name of a channel, from 0."""
        return str(self.medium.names[c]) if self.medium.names else f"channel {c + 1}"

    def fitted(self, train: Sequence[Recording], walk: Walk) -> Autoregression:
        """The autoregression of the training series whose order is the best one for the forecasts of a walk."""
        scale = self.medium.scale
        scaled, came = [scale(row.values) for row in train], scale(walk.came)
        pasts = [scale(past.values) for past in walk.pasts]
        orders = [order for order in ORDERS if order == 1 or 2 * order < max(map(len, scaled))]
        fits = [Autoregression.fit(scaled, order) for order in orders]
        return min(fits, key=lambda fit: float(np.nanmean(np.square(fit(pasts, came.shape[1]) - came))))
