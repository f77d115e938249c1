"""A trained language model of frames in use: signals in, their next steps out; and how far off those are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqloom.data.batches.windows import Item, Window, by_length, collate, inputs_of
from seqloom.data.rows import LabelledArray
from seqloom.decoding.engine import Engine
from seqloom.decoding.frames import continued
from seqloom.errors import UsageError
from seqloom.evaluation.forecasts import score_forecasts
from seqloom.files import Json
from seqloom.inspection.page import Markup, join
from seqloom.inspection.signals import CHANNELS, forecast_figure
from seqloom.models.decoder import LanguageModel
from seqloom.tasks.language_model.recordings import FrameReader, Walk

_ROWS = 256  # signals continued at once
_SEEN = 64  # steps drawn before a forecast, at least


class Forecaster:
    """Continues signals.

    Args:
        model: the model, in the precision of the computation.
        reader: reads the signals.
    """

    def __init__(self, model: LanguageModel, reader: FrameReader) -> None:
        self.model, self.reader, self.medium, self.config = model, reader, reader.medium, reader.config
        self.engine = Engine(model, None if model.carries else self.config.batches.length, 0)

    def look(self, *_: Any, **__: Any) -> Any:
        """Raises UsageError: forecasts are not shown from inside."""
        cure = "use seqloom.look(predictor.model) around a forecast in Python, or seqloom report for charts"
        raise UsageError("forecasts are not shown from inside", cure=cure)

    def __call__(self, signals: Any, steps: int = 0) -> Any:
        """The next steps (N C) of a signal, or a list of them for a list of signals.

        Args:
            signals: numbers (T C) or (T), in which NaN is missing, or the place of a series: "new.csv", "new.npz:7".
            steps: N; 0 = the horizon of the config.
        """
        several = isinstance(signals, list) and all(isinstance(one, str | Path | np.ndarray) for one in signals)
        rows = [self.medium.row(one) for one in (signals if several else [signals])]
        found = self.forecast(rows, steps)
        return found if several else found[0]

    def forecast(self, rows: Sequence[LabelledArray], steps: int = 0) -> list[np.ndarray]:
        """The next steps (N C) of each signal, in the units of the data. Raises DataError, UsageError."""
        self.medium.check(rows)
        if steps < 0:
            raise UsageError(f"there are no {steps} next steps", cure="ask for 1 or more")
        return self.continued([self.reader.past(row) for row in rows], steps or self.config.horizon)

    def drawn(self, signal: Any, steps: int = 0) -> Markup:
        """A chart for each of the first channels of a signal, with its next steps."""
        row = self.medium.row(signal)
        (found,) = self.forecast([row], steps)
        seen = row.values[-max(_SEEN, 2 * len(found)) :]
        charts = (
            forecast_figure(self.reader.channel(c), seen[:, c], np.zeros(0), found[:, c])
            for c in range(min(CHANNELS, self.medium.channels))
        )
        return join(charts)

    def continued(self, pasts: Sequence[Window], steps: int) -> list[np.ndarray]:
        """The next steps (N C) after each past, in the units of the data."""
        device, found = next(self.model.parameters()).device, dict[int, np.ndarray]()
        scales: Any = [past.scale for past in pasts]
        for length in {*map(len, pasts)}:  # those of one length at a time, as not every state skips padding
            same = [i for i, past in enumerate(pasts) if len(past) == length]
            for part in (same[at : at + _ROWS] for at in range(0, len(same), _ROWS)):
                read = inputs_of([pasts[i] for i in part]).to(device)["signal"].values
                new = continued(self.engine, read, steps).cpu().numpy()
                found |= {i: scales[i].undone(each) for i, each in zip(part, new, strict=True)}
        return [found[i] for i in range(len(pasts))]

    @torch.inference_mode()
    def loss(self, items: Sequence[Item]) -> float:
        """The mean loss of a value, of windows."""
        self.model.eval()
        device = next(self.model.parameters()).device
        batches = (collate([items[i] for i in part]) for part in by_length(items, self.config.batches.tokens))
        losses = [self.config.objective(self.model, batch.to(device)) for batch in batches]
        return float(sum(loss.nll for loss in losses) / sum(loss.tokens for loss in losses))

    def measured(self, walk: Walk, others: Mapping[str, np.ndarray]) -> tuple[Json, np.ndarray]:
        """The scores of forecasts beside those of others, and the forecasts (R N C)."""
        forecasts = np.stack(self.continued(walk.pasts, walk.came.shape[1]))
        names = [self.reader.channel(c) for c in range(self.medium.channels)]
        return score_forecasts(walk.came, forecasts, others, self.medium.scale.deviation, names), forecasts
