"""Sentences to a label for each word, and signals to a label for each time step."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np

from seqloom.data.batches.windows import Item, Window
from seqloom.data.formats.lines import is_blank
from seqloom.data.rows import TaggedWords
from seqloom.data.sources.labelled import TaggedFiles
from seqloom.data.sources.signals import TaggedSignals
from seqloom.errors import DataError, UsageError
from seqloom.evaluation.classification import marks_spans, score_tags
from seqloom.files import Json
from seqloom.inspection.inside.inspected import Inspected
from seqloom.models.assemblies import parameter_count
from seqloom.objectives.reading import Labels
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.examples import ExamplesConfig, Predictor, Reader
from seqloom.tasks.encoder.signals import SignalMedium
from seqloom.tasks.task import Seen
from seqloom.training.config import Metric, TrainingConfig


class Tagger(Reader):
    """Sentences with a label for each word, which is trained and predicted at the first token of the word."""

    head, inputs = "tags", ("text",)
    unit: ClassVar[str] = "words"
    """What has a label."""
    config: TagConfig

    def items(self, rows: Sequence[Any], learn: bool) -> list[Item]:
        """See Reader; what is long is split into windows. Raises DataError for a new label."""
        each = zip(rows, self.windows(rows), strict=True)
        return [self._item(row, windows, places, learn) for row, (windows, places) in each]

    def _item(self, row: Any, windows: tuple[Window, ...], places: np.ndarray, learn: bool) -> Item:
        targets = None
        if learn:
            labels = np.array([self.label_index(label, self.place(row, i)) for i, label in enumerate(row.labels)])
            targets = np.full(sum(window.length for window in windows), -1, dtype=np.int64)
            targets[places[0]] = labels[places[1]]
        return Item(windows, targets, places)

    def windows(self, rows: Sequence[Any]) -> list[tuple[tuple[Window, ...], np.ndarray]]:
        """What is read of each example, and (2 P) which positions of all its windows stand for which of its labels."""
        encoded = self.tokenizer.encode_words([row.words for row in rows])
        return [self._words(ids, firsts) for ids, firsts in encoded]

    def _words(self, ids: np.ndarray, firsts: np.ndarray) -> tuple[tuple[Window, ...], np.ndarray]:
        template = self.tokenizer.template
        room = self.config.batches.length - len(template.before) - len(template.after)
        begins = np.unique(firsts[firsts >= 0])  # words may share a token
        ends = dict(zip(begins.tolist(), [*begins[1:].tolist(), len(ids)], strict=True))
        lead = ids[: begins[0] if len(begins) else len(ids)][:room]
        parts: list[list[np.ndarray]] = [[lead]]
        places: list[int] = []
        at, last = len(template.before) + len(lead), -1
        for first in firsts.tolist():
            if first == last >= 0:
                places.append(places[-1])
                continue
            piece = ids[first : ends[first]][:room] if first >= 0 else np.array([self.tokenizer.unknown])
            if sum(map(len, parts[-1])) + len(piece) > room:
                parts.append([])
                at += len(template.after) + len(template.before)
            places.append(at)
            parts[-1].append(piece)
            at, last = at + len(piece), first
        windows = [np.concatenate((template.before, *part, template.after)).astype(np.int32) for part in parts]
        return tuple(map(Window, windows)), np.stack((places, np.arange(len(places))))

    def learned(self, item: Item) -> list[Item]:
        """See Reader: each window, as a label does not depend on others."""
        assert item.targets is not None
        ends = np.cumsum([window.length for window in item.windows])[:-1]
        parts = zip(item.windows, np.split(item.targets, ends), strict=True)
        return [Item((window,), targets) for window, targets in parts if (targets >= 0).any()]

    def place(self, row: Any, label: int) -> str:
        """Where a label of an example is, for messages."""
        where: str = row.where
        return where

    def scores(self, item: Item, outputs: list[np.ndarray]) -> np.ndarray:
        """The scores of each label that an example has, in float64: the mean of those in all windows that show it."""
        assert item.places is not None
        positions, labels = item.places
        scores = np.concatenate(outputs)[positions].astype(np.float64)
        sums = np.zeros((labels.max() + 1, scores.shape[1]))
        np.add.at(sums, labels, scores)
        return sums / np.bincount(labels)[:, None]

    def predict(self, row: Any, item: Item, scores: list[np.ndarray]) -> Any:
        """See Reader."""
        best = self.scores(item, scores).argmax(-1)
        return self.labelled(row, tuple(self.facts["labels"][i] for i in best.tolist()))

    def labelled(self, row: Any, labels: tuple[str, ...]) -> Any:
        """What is predicted for an example."""
        return TaggedWords(row.words, labels)

    def measure(self, rows: Sequence[Any], items: Sequence[Item], outputs: Sequence[list[np.ndarray]]) -> Json:
        """See Reader."""
        predictions = [self.predict(*each).labels for each in zip(rows, items, outputs, strict=True)]
        nll, names = 0.0, {label: i for i, label in enumerate(self.facts["labels"])}
        for row, item, windows in zip(rows, items, outputs, strict=True):
            scores = self.scores(item, windows)
            right = scores[np.arange(len(scores)), [names[label] for label in row.labels]]
            nll += float((np.logaddexp.reduce(scores, axis=-1) - right).sum())
        scored = score_tags([row.labels for row in rows], predictions, self.unit)
        return {"loss": nll / scored[self.unit], **scored}

    def sample(self, row: Any, prediction: Any) -> Json:
        """See Reader."""
        return {"text": " ".join(row.words), "labels": " ".join(row.labels), "prediction": " ".join(prediction.labels)}

    def texts(self, row: Any) -> list[str]:
        """See Reader."""
        return [" ".join(row.words)] if isinstance(row, TaggedWords) else []

    def row(self, example: Any) -> Any:
        """A sentence with spaces between its words, or a list of its words."""
        words = tuple((example if isinstance(example, str) else " ".join(example)).split())
        if all(map(is_blank, words)):
            raise UsageError("there are no words", cure="give sentences with blanks between their words")
        return TaggedWords(words)


@dataclass(frozen=True)
class TaggedSteps:
    """The labels predicted for the time steps of a signal."""

    signal: str
    labels: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.signal}\t{first}-{last}\t{label}" for first, last, label in runs_of(self.labels))


def runs_of(labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The first and the last step, from 1, of each run of equal labels."""
    last = 0
    for label, run in itertools.groupby(labels):
        first, last = last + 1, last + sum(1 for _ in run)
        yield first, last, label


class StepTagger(Tagger):
    """Signals with a label for each time step."""

    inputs, unit = ("signal",), "steps"

    def windows(self, rows: Sequence[Any]) -> list[tuple[tuple[Window, ...], np.ndarray]]:
        """See Tagger."""
        found = self.medium.windows(rows)
        self.lost = self.medium.lost
        steps = [np.concatenate([window.first_token + np.arange(window.length) for window in each]) for each in found]
        return [(each, np.stack((np.arange(len(at)), at))) for each, at in zip(found, steps, strict=True)]

    def place(self, row: Any, label: int) -> str:
        """See Tagger."""
        return f"{row.where}, step {label + 1}"

    def labelled(self, row: Any, labels: tuple[str, ...]) -> TaggedSteps:
        """See Tagger."""
        return TaggedSteps(self.medium.shown(row)["signal"], labels)

    def sample(self, row: Any, prediction: TaggedSteps) -> Json:
        """See Reader."""
        both = {"labels": row.labels, "prediction": prediction.labels}
        runs = {name: "; ".join(f"{a}-{b} {label}" for a, b, label in runs_of(each)) for name, each in both.items()}
        return {**self.medium.shown(row), **runs}

    def seen(self, predictor: Predictor, rows: Sequence[Any], looks: Sequence[Inspected]) -> Seen:
        """See Reader: with the predicted labels."""
        medium, tags = cast(SignalMedium, self.medium), [each.labels for each in predictor.predictions(rows)]
        return medium.seen(rows, looks, parameter_count(predictor.model), tags)

    def row(self, example: Any) -> Any:
        """See Medium."""
        return self.medium.row(example)


@dataclass(frozen=True, kw_only=True)
class TagConfig(ExamplesConfig):
    """The config of a run that labels words, or the time steps of signals."""

    task: Literal["tag"] = "tag"
    data: TaggedFiles | TaggedSignals
    objective: Labels = field(default_factory=Labels)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="accuracy"))
    models: ClassVar[Mapping[str, str]] = {"signal": "signal-cnn"}  # that of the others shortens what is read
    metrics: ClassVar[tuple[Metric, ...]] = ("accuracy", "f1", "loss")
    """What "best" may mean; "f1" is for labels that mark spans: BIO, IOBES, BILOU."""

    @property
    def reading(self) -> type[Reader]:  # type: ignore[override]
        """See ExamplesConfig."""
        return Tagger if self.modality == "text" else StepTagger

    @property
    def unit(self) -> str:  # type: ignore[override]
        """See RunConfig."""
        return "tokens" if self.modality == "text" else "steps"

    def texts(self, rows: Sequence[TaggedWords]) -> Iterable[str]:
        """See ExamplesConfig."""
        return (" ".join(row.words) for row in rows)

    def labels(self, row: Any) -> Iterable[str]:
        """See ExamplesConfig."""
        labels: tuple[str, ...] = row.labels
        return labels

    def facts(self, rows: Sequence[Any]) -> Json:
        """The labels."""
        labels = sorted({label for row in rows for label in row.labels})
        if self.training.metric == "f1" and not marks_spans(labels):
            cure = "set training.metric = 'accuracy'"
            problem = "F1 is of spans: labels must be O, B-... and I-... (or those of IOBES, BILOU)"
            raise DataError(problem, where=rows[0].where, cure=cure)
        return {"labels": labels, **self.data.learned(cast(Any, rows))}

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        yield "labels of words", _tags(other, texts)
        yield from super().answers(other, texts)


def _tags(other: Counterpart, texts: Sequence[str]) -> Compared:
    pipeline = other.pipeline("token-classification", ignore_labels=[])
    for text in (" ".join(text.split()) for text in texts):
        tokens, at, theirs = pipeline(text), 0, []
        for word in text.split():
            begin, at = at, at + len(word) + 1
            first = next((t["entity"] for t in tokens if t["start"] < begin + len(word) and t["end"] > begin), None)
            theirs.append(first)
        ours = other.predictor([text])[0].labels
        # A word without a token has no label there.
        both = [(a, b) for a, b in zip(ours, theirs, strict=True) if b is not None]
        yield text, [a for a, _ in both], [b for _, b in both]
