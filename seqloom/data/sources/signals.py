"""Labelled series of values: movements, heartbeats, sensor readings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seqloom.data.formats.lines import expand, file_format
from seqloom.data.formats.signals import Layout, axes_of, read_signals
from seqloom.data.rows import LabelledArray
from seqloom.data.sources.labelled import ExampleFiles
from seqloom.errors import DataError, counted
from seqloom.files import Json


@dataclass(frozen=True)
class SignalFiles(Layout, ExampleFiles[LabelledArray]):
    """Labelled series of values: .npz; .jsonl with {"label": ..., "series": [[...], ...]}, a list for each time step;
    .ts of the UCR and UEA archives; and tables, .csv or .tsv, with a line for each time step.

    A missing value is NaN, null in JSON, or an empty cell or "?" in text.

    Args:
        values: the name of the array or key; "" = "values" or "series".
        label: the name of the array, key or column of labels.
        names: the names of labels that are numbers, from 0; by default the numbers are the names.
        axes: what the axes of an array are: N series of T steps with C channels, or TC, a stream with a label for each
            step. auto = NT, or of NTC and NCT that with fewer channels than steps; what was taken is reported.
        leave_out: the columns of a table that are not read; all others but the label are channels.
        window: a stream (a table, or an array TC) is cut into windows of so many steps, each with its most frequent
            label; 0 = a stream is one series.
        stride: steps from the start of one window to that of the next; 0 = as many as a window has.
        onsets: the name of an array of the first steps, from 0, of the events of a stream in .npz, each of which has a
            label and is one series: of `window` steps, or up to the next.
    """

    kind: ClassVar[str] = "signals"
    modality: ClassVar[str] = "signal"

    def read(self, files: Sequence[str], *, labelled: bool = True) -> list[LabelledArray]:
        """See SplitFiles; in use, series need no label."""
        return read_signals(files, self, labelled=labelled)

    def described(self, files: Sequence[str]) -> list[str]:
        """See ExampleFiles."""
        lines = []
        for path in (path for path in dict.fromkeys(files) if self.axes == "auto" and file_format(path) == ".npz"):
            values, _, axes = axes_of(expand(path), self)
            lines.append(f"{path}: {' x '.join(map(str, values.shape))}, read as {', '.join(axes)} (data.axes)")
        return lines

    def hold_out(
        self,
        train: list[LabelledArray],
        seed: int,
        labels: Callable[[LabelledArray], Iterable[str]] = lambda row: (),
    ) -> tuple[list[LabelledArray], list[LabelledArray], str]:
        """See ExampleFiles; of windows the last tenth, because neighbours are alike, and none that overlaps it."""
        if not self.window:
            return super().hold_out(train, seed, labels)
        held, apart = max(1, len(train) // 10), -(-self.window // (self.stride or self.window)) - 1
        if len(train) <= held + apart:
            cure = "name validation data with --data.valid"
            raise DataError("no window can be held out for validation", where=", ".join(self.train), cure=cure)
        return train[: -held - apart], train[-held:], f"the last {counted(held, 'window')} held out as validation data"

    def learned(self, train: Sequence[LabelledArray]) -> Json:
        """The number of channels, and the mean and the deviation of each, without missing values.

        Raises DataError where the number differs.
        """
        first = train[0]
        for row in train:
            if row.values.shape[1] != first.values.shape[1]:
                these, those = (counted(r.values.shape[1], "channel") for r in (row, first))
                problem, cure = f"{these}, and {first.where} has {those}", "data.axes says which axis is the channels"
                raise DataError(problem, where=row.where, cure=cure)
        steps = np.concatenate([row.values for row in train]).astype(np.float64)
        there = ~np.isnan(steps)
        count, filled = np.maximum(there.sum(0), 1), np.where(there, steps, 0)
        mean = filled.sum(0) / count
        deviation = np.sqrt((np.square(filled - mean) * there).sum(0) / count)
        scale = {"mean": mean.tolist(), "deviation": np.where(deviation > 0, deviation, 1.0).tolist()}
        return {"sizes": {"channels": steps.shape[1]}, "scale": scale}
