"""Labelled series of values: movements, heartbeats, sensor readings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar, Literal

import numpy as np

from seqloom.data.formats.lines import expand, file_format
from seqloom.data.formats.series import Layout
from seqloom.data.formats.signals import Cut, Places, axes_of, read_signals, read_steps
from seqloom.data.rows import Fresh, LabelledArray, Pairs, Recording, Splits, TaggedArray, digest_rows
from seqloom.data.sources.labelled import ExampleFiles
from seqloom.data.sources.pairs import PairSource
from seqloom.data.sources.source import no_test_data
from seqloom.errors import DataError, UsageError, counted
from seqloom.files import Json
from seqloom.limits import Length, LengthOrZero, Seed
from seqloom.media.signals import moments


@dataclass(frozen=True)
class SeriesFiles(Layout, ExampleFiles[Any]):
    """Files of series of values, and what is learned of them."""

    kind: ClassVar[str] = "signals"
    modality: ClassVar[str] = "signal"

    def described(self, files: Sequence[str]) -> list[str]:
        """See ExampleFiles."""
        lines = []
        for path in (path for path in dict.fromkeys(files) if self.axes == "auto" and file_format(path) == ".npz"):
            values, _, axes = axes_of(expand(path), self)
            lines.append(f"{path}: {' x '.join(map(str, values.shape))}, read as {', '.join(axes)} (data.axes)")
        return lines

    def in_use(self, files: Sequence[str]) -> list[LabelledArray]:
        """The series of some files, which need no label."""
        raise NotImplementedError

    def learned(self, train: Sequence[LabelledArray]) -> Json:
        """See `sizes_of`."""
        return sizes_of(train)

    def hold_out(
        self, train: list[Any], seed: int, labels: Callable[[Any], Iterable[str]] = lambda row: ()
    ) -> tuple[list[Any], list[Any], str]:
        """See ExampleFiles; of a single series the last tenth of its steps."""
        if len(train) > 1:
            return super().hold_out(train, seed, labels)
        steps = len(train[0].values)
        at = steps - max(1, steps // 10)
        message = f"the last {counted(steps - at, 'step')} held out as validation data"
        return [self.part(train[0], 0, at)], [self.part(train[0], at, steps)], message

    def part(self, row: Any, first: int, end: int) -> Any:
        """The steps of a series from `first` up to `end`."""
        raise NotImplementedError


@dataclass(frozen=True)
class StandardizedFiles(SeriesFiles):
    """The same, standardized.

    Args:
        scale: by what values are standardized: by the mean and deviation of each channel of the training data, or of
            each series by itself, where those differ from recording to recording.
    """

    scale: Literal["data", "series"] = "data"


def sizes_of(train: Sequence[LabelledArray]) -> Json:
    """The number of channels, and the mean and the deviation of each, without missing values; names, where there are.

    Raises DataError where the number or the names differ.
    """
    first = train[0]
    for row in train:
        check_names(row, first.channels, first.where)
        if row.values.shape[1] != first.values.shape[1]:
            these, those = (counted(r.values.shape[1], "channel") for r in (row, first))
            problem, cure = f"{these}, and {first.where} has {those}", "data.axes says which axis is the channels"
            raise DataError(problem, where=row.where, cure=cure)
    mean, deviation = moments(np.concatenate([row.values for row in train]))
    scale = {"mean": mean.tolist(), "deviation": deviation.tolist()}
    return {
        "sizes": {"channels": len(mean)},
        "scale": scale,
        **({"channels": first.channels} if first.channels else {}),
    }


def check_names(row: LabelledArray, channels: Sequence[str], of: str) -> None:
    """Raises DataError for a series whose channels have other names, or another order, than those of something."""
    if row.channels and channels and [*row.channels] != [*channels]:
        problem = f"has the columns {', '.join(row.channels)[:200]}, and {of} {', '.join(channels)[:200]}"
        raise DataError(problem, where=row.where, cure="give it the same columns, in the same order")


@dataclass(frozen=True)
class SignalFiles(Cut, StandardizedFiles):
    """Labelled series of values: .npz; .jsonl with {"label": ..., "series": [[...], ...]}, a list for each time step;
    .ts of the UCR and UEA archives; and tables, .csv or .tsv, with a line for each time step.

    A missing value is NaN, null in JSON, or an empty cell or "?" in text.
    """

    def read(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SplitFiles."""
        return read_signals(files, self, labelled=True, cut=self)

    def in_use(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SeriesFiles."""
        return read_signals(files, self, labelled=False, cut=self)

    def hold_out(
        self,
        train: list[LabelledArray],
        seed: int,
        labels: Callable[[LabelledArray], Iterable[str]] = lambda row: (),
    ) -> tuple[list[LabelledArray], list[LabelledArray], str]:
        """See ExampleFiles; of windows the last tenth, because neighbours are alike, and none that overlaps it."""
        if not self.window:
            return ExampleFiles.hold_out(self, train, seed, labels)
        held, apart = max(1, len(train) // 10), -(-self.window // (self.stride or self.window)) - 1
        if len(train) <= held + apart:
            cure = "name validation data with --data.valid"
            raise DataError("no window can be held out for validation", where=", ".join(self.train), cure=cure)
        return train[: -held - apart], train[-held:], f"the last {counted(held, 'window')} held out as validation data"


@dataclass(frozen=True)
class TaggedSignals(StandardizedFiles):
    """Recordings with a label for each time step: tables, .csv or .tsv, of one recording each; .npz of one (TC), or of
    several with labels (N T); and .jsonl with {"label": ["...", ...], "series": [[...], ...]}.

    Without `valid`, a tenth of the recordings is held out, and of a single one the last tenth of its steps.
    """

    def read(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SplitFiles."""
        return read_steps(files, self, labelled=True)

    def in_use(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SeriesFiles."""
        return read_steps(files, self, labelled=False)

    def part(self, row: TaggedArray, first: int, end: int) -> TaggedArray:
        """See SeriesFiles."""
        return replace(row, values=row.values[first:end], labels=row.labels[first:end])


@dataclass(frozen=True)
class Recordings(StandardizedFiles):
    """Series of values to be continued, in the files that `signals` of classify reads; labels are not read.

    Without `valid`, a tenth of the series is held out, and of a single one the last tenth of its steps.

    Args:
        last: the last steps of each training series are the test data, where `test` names none.
    """

    last: LengthOrZero = 0

    def read(self, files: Sequence[str]) -> list[Recording]:
        """See SplitFiles."""
        rows = read_steps(files, self, labelled=False)
        return [Recording(row.values, "", row.where, channels=row.channels) for row in rows]

    def in_use(self, files: Sequence[str]) -> list[LabelledArray]:
        """See SeriesFiles."""
        return [*self.read(files)]

    def part(self, row: Recording, first: int, end: int) -> Recording:
        """See SeriesFiles; what comes before is seen, and not predicted."""
        return replace(row, values=row.values[:end], first=first)

    def tested(self, files: Sequence[str]) -> list[Recording]:
        """The series of test files; without any, those of the config. Raises UsageError where it has none."""
        if files := tuple(files) or self.test:
            return self.read(files)
        if not self.last:
            raise no_test_data()
        return [self.part(row, self._end(row), len(row.values)) for row in self.read(self.train)]

    def splits(self, report: Callable[[str], object], seed: int = 0, hold_out: Any = None) -> dict[str, list[Any]]:
        """See ExampleFiles."""
        if self.test or not self.last:
            return super().splits(report, seed, hold_out)

        def learned(train: list[Recording]) -> list[Recording]:
            return [self.part(row, 0, self._end(row)) for row in train]

        splits = super().splits(report, seed, lambda train, seed: self.hold_out(learned(train), seed))
        return {**splits, "train": learned(splits["train"]) if self.valid else splits["train"], "test": self.tested(())}

    def _end(self, row: Recording) -> int:
        """The first step that is test data."""
        if len(row.values) < self.last + 2:
            steps = counted(len(row.values), "time step")
            problem = f"a series of {steps}, the last {self.last:,} of which are to be test data"
            raise DataError(problem, where=row.where, cure="lower data.last, or leave short series out")
        return len(row.values) - self.last


@dataclass(frozen=True)
class SignalPairs(Layout, PairSource):
    """Series of values and the text of each, in the files that `signals` of classify reads, with texts as labels.

    A series stands in a pair as its place in its file. With `most` above 1 each example is several series of a file,
    drawn by the seed, one after the other, and their texts with blanks between; so many that each split has as many
    examples as series, and the training examples are drawn anew in each epoch.

    Args:
        train, valid, test: the files; ${VARIABLES} of the environment are expanded. Without `valid`, a tenth of the
            series, drawn by the seed, is held out.
        scale: see `signals` of classify.
        least, most: the fewest and the most series of an example; all numbers are equally likely.
        max_length: a training text of more tokens is left out, and counted.
        seed: another seed holds out and draws other series.
    """

    kind: ClassVar[str] = "signals"
    modality: ClassVar[str] = "signal"
    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    scale: Literal["data", "series"] = "data"
    least: Length = 1
    most: Length = 1
    max_length: Length = 128
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least > self.most:
            raise ValueError(f"most must not be below least, not {self.most} and {self.least}")

    def in_use(self, files: Sequence[str]) -> list[LabelledArray]:
        """The series of some files, which need no text."""
        return read_signals(files, self, labelled=False)

    def splits(self) -> Splits:
        """See PairSource."""
        if not self.train:
            raise UsageError("the config names no training data", where="data.train", cure="name files of series")
        train = read_signals(self.train, self, labelled=True)
        held = set[int]()
        if not self.valid:
            held = {*Random(f"seqloom signals {self.seed}").sample(range(len(train)), len(train) // 10)}
            if not held:
                cure = "name validation data with --data.valid"
                raise DataError("no series can be held out for validation", where=self.train[0], cure=cure)
        kept = [row for i, row in enumerate(train) if i not in held]
        valid = self.read(self.valid) if self.valid else self._pairs([train[i] for i in sorted(held)], "valid")
        test = self.read(self.test) if self.test else None
        fresh = Fresh(lambda epoch: self._pairs(kept, f"epoch {epoch}")) if self.most > 1 else None
        return Splits(self._pairs(kept, "epoch 0"), valid, test, fresh)

    def read(self, files: Sequence[str]) -> Pairs:
        """See PairSource."""
        return self._pairs(read_signals(files, self, labelled=True), "test")

    def _pairs(self, rows: Sequence[LabelledArray], part: str) -> Pairs:
        values = digest_rows(rows)
        if self.most == 1:
            return Pairs([row.where for row in rows], [row.label for row in rows], values=values)
        random, files = Random(f"seqloom signals {self.seed} {part}"), dict[str, list[LabelledArray]]()
        for row in rows:
            files.setdefault(row.where.rpartition(":")[0], []).append(row)
        drawn = []
        for row in random.choices(rows, k=len(rows)):
            others = files[row.where.rpartition(":")[0]]
            drawn.append([row, *random.choices(others, k=random.randint(self.least, self.most) - 1)])
        places = ["+".join([each[0].where, *(row.where.rpartition(":")[2] for row in each[1:])]) for each in drawn]
        texts = [" ".join(row.label for row in each) for each in drawn]
        return Pairs(places, texts, kinds=[f"{len(each)} series" for each in drawn], values=values)

    def learned(self, train: Pairs) -> Json:
        """See PairSource and `sizes_of`."""
        places = Places(lambda name: self.in_use([name]))
        return sizes_of([places(place) for place in dict.fromkeys(train.sources)])

    def longest(self) -> int:
        """See PairSource."""
        return self.max_length
