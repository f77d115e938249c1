"""Signals as models read them: series of values, in files, as numbers, or sent by others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqloom.data.batches.windows import Item, Scale, Window, starts_of
from seqloom.data.formats.lines import is_blank, json_value
from seqloom.data.formats.signals import Places, checked, numbers, sent_series
from seqloom.data.rows import LabelledArray, TaggedArray
from seqloom.data.sources.signals import check_names
from seqloom.errors import DataError, UsageError, counted
from seqloom.files import Json
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.page import Markup, join
from seqloom.inspection.signals import signal_attention
from seqloom.media.signals import moments, stretched
from seqloom.models.assemblies import limit_of
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.medium import Medium, neighbours
from seqloom.tasks.task import Seen

_COMPARED = 20_000  # time steps, of which the nearest are found
_FARTHEST = 10**6  # deviations of a value that others sent


def _apart(rows: Sequence[TaggedArray]) -> Sequence[LabelledArray]:
    """The time steps of recordings, each with its label, evenly thinned out where they are many."""
    steps = [LabelledArray(row.values[i : i + 1], label) for row in rows for i, label in enumerate(row.labels)]
    return steps[:: -(-len(steps) // _COMPARED)]


def _is_json(text: str) -> bool:
    """Whether a text is a list in JSON, as no name of a file of series is."""
    return text[:1] + text[-1:] == "[]"


class SignalMedium(Medium):
    """Series of values with equally many channels, of any length."""

    inputs = ("signal",)

    def __init__(self, config: Any, assets: Assets) -> None:
        super().__init__(config, assets)
        self.channels: int = self.facts["sizes"]["channels"]
        self.names: Sequence[str] = self.facts.get("channels", ())
        self.scale = Scale(*(np.array(self.facts["scale"][name], np.float32) for name in ("mean", "deviation")))
        self.places = Places(lambda name: config.data.in_use([name]))
        self.long_input: Literal["cut", "refuse"] = "cut"

    def scale_of(self, row: LabelledArray) -> Scale:
        """What standardizes a series."""
        return Scale(*moments(row.values)) if self.config.data.scale == "series" else self.scale

    def named(self, inputs: Sequence[str]) -> list[str]:
        """Each series of the files, by file and number; see Places."""
        taken = ([name] if is_blank(name) or _is_json(name) else self.places.named(name) for name in inputs)
        return [place for places in taken for place in places]

    def row(self, example: Any) -> LabelledArray:
        """The place of a series, see Places; or numbers (T C), (T), also as JSON, in which null is missing."""
        (example,) = example if isinstance(example, tuple) else (example,)
        if isinstance(example, str) and _is_json(example):
            example = numbers(json_value(example), "the series")
        if isinstance(example, str | Path):
            return replace(self.places(str(example)), label="")
        array = np.asarray(example)
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or not array.size:
            problem = f"not a series: {array.dtype} of {array.shape}"
            raise UsageError(problem, cure="give a file, or numbers of (T, C) or (T)")
        return LabelledArray(checked(array.reshape(len(array), -1), "the series"))

    def sent(self, data: bytes | Sequence[Any], where: str, form: str = "", number: int = 0) -> str:
        """Numbers (T C), (T) that others sent, or a series of a file, as an example. Raises DataError.

        See `sent_series`; what is so far from the training data that nothing can be computed with it is refused.
        """
        if isinstance(data, bytes):
            row = sent_series(data, form, number, where, self.config.data.in_use)
        else:
            values = numbers(data, where)
            row = LabelledArray(checked(values.reshape(len(values), -1), where))
        self.check([replace(row, where=where)])
        if np.nanmax(np.abs(self.scale_of(row)(row.values))) > _FARTHEST:
            problem = f"a value that is more than {_FARTHEST:,} deviations from the mean of the training data"
            raise DataError(problem, where=where, cure="send values in the units of the training data")
        return self.address(row)

    def address(self, row: LabelledArray) -> str:
        """See Medium."""
        return dumps([[None if np.isnan(x) else x for x in frame] for frame in row.values.tolist()])

    def check(self, rows: Sequence[LabelledArray]) -> None:
        """Raises DataError for another number of channels, or other names of them."""
        for row in rows:
            check_names(row, self.names, "the model has learned")
            if row.values.shape[1] != self.channels:
                problem = f"{counted(row.values.shape[1], 'channel')}, and the model reads {self.channels}"
                cure = "data.axes of its config says which axis of an array is the channels"
                if row.channels:
                    cure = f"leave columns out that are none of them: {', '.join(row.channels)[:200]}"
                raise DataError(problem, where=row.where, cure=cure)

    def windows(self, rows: Sequence[LabelledArray]) -> list[tuple[Window, ...]]:
        """See Medium. Raises DataError for another number of channels."""
        config, several = self.config.batches, getattr(self.config.batches, "long", "cut") == "windows"
        length = getattr(config, "length", 0) or limit_of(self.config.model) or 1 << 30
        self.check(rows)
        cut = 0 if several else sum(len(row.values) > length for row in rows)
        cure = f'raise batches.length above {length}, or batches.long = "windows" reads all'
        cure = cure if hasattr(config, "length") else "raise model.encoder.positions.length"
        self.lost = f"{counted(cut, 'series')} cut after {length} steps; {cure}" if cut else ""
        if cut and self.long_input == "refuse":
            longest = max(len(row.values) for row in rows)
            raise DataError(f"{longest:,} time steps, and the model reads {length:,}", cure="shorten it")
        return [
            tuple(
                Window(row.values[at : at + length], first_token=at, modality="signal", scale=scale)
                for at in (starts_of(len(row.values), length, config.stride) if several else (0,))
            )
            for row, scale in zip(rows, map(self.scale_of, rows), strict=True)
        ]

    def shown(self, row: LabelledArray) -> dict[str, str]:
        """The place of the series, from which `row` reads it."""
        return {"signal": row.where or f"{len(row.values):,} x {self.channels} values"}

    def summary(self, rows: Sequence[Any], items: Sequence[Item], train: Sequence[Any]) -> Json:
        """The form of the series, and the accuracy of the label of the nearest training series, stretched to it."""
        lengths, longest = [len(row.values) for row in rows], max(len(row.values) for row in train)
        tagged = isinstance(rows[0], TaggedArray)

        def compared(part: Sequence[Any]) -> Sequence[Any]:
            scaled = [replace(row, values=self.scale_of(row)(row.values)) for row in part]
            return _apart(scaled) if tagged else scaled

        def form(row: LabelledArray) -> np.ndarray:
            return stretched(row.values, 1 if tagged else longest)

        asked, known = (rows, rows) if rows is train else (compared(rows), compared(train))
        size = {"channels": self.channels, "steps": sum(lengths), "shortest": min(lengths), "longest": max(lengths)}
        missing = sum(int(np.isnan(row.values).sum()) for row in rows)
        return {**size, "missing values": missing, **neighbours(asked, known, form)}

    def seen(
        self, rows: Sequence[Any], looks: Sequence[Inspected], parameters: int, tags: Sequence[Sequence[str]] = ()
    ) -> Seen:
        """The attention below the first window of signals, and the labels of its steps; all where nothing attends."""
        parts = list[Markup]()
        for i, (row, windows, look) in enumerate(zip(rows, self.windows(rows), looks, strict=True)):
            weights = look.within("encoder")
            values = row.values if weights is None and len(windows) > 1 else windows[0].values
            labels = tags[i][: len(values)] if tags else ()
            parts.append(signal_attention(Path(row.where).name or f"Signal {i + 1}", values, weights, labels))
        return Seen([], parameters, {"Signals": join(parts)} if parts else {})
