"""Texts, pairs of texts, images or signals, to labels or numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np

from seqloom.data.batches.windows import Item
from seqloom.data.rows import Example, LabelledArray
from seqloom.data.sources.images import ImageFiles, SmallDigits
from seqloom.data.sources.labelled import LabelledFiles, first_of
from seqloom.data.sources.signals import SignalFiles
from seqloom.errors import DataError, counted
from seqloom.evaluation.classification import score_labels, score_numbers
from seqloom.files import Json
from seqloom.objectives.reading import Labels, Numbers
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.examples import ExamplesConfig, Reader
from seqloom.training.config import Metric, TrainingConfig
from seqloom.training.log import Reporter


@dataclass(frozen=True)
class Classified:
    """The prediction for a text, an image or a signal: a label with the probabilities of all labels, or a number.

    An imported model of labels that do not exclude each other, or of several numbers, has those as probabilities.
    """

    text: str
    label: str | float
    probabilities: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        label = f"{self.label:.4g}" if isinstance(self.label, float) else self.label
        ranked = sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:5]
        return "\t".join([label, " ".join(f"{name}={p:.3f}" for name, p in ranked), " ".join(self.text.split("\n"))])


class Classifier(Reader):
    """Labelled examples of any modality."""

    head = "label"
    config: ClassifyConfig

    def items(self, rows: Sequence[Example], learn: bool) -> list[Item]:
        """See Reader; a label that was not in the training data is a DataError."""
        each = zip(rows, self.medium.windows(rows), strict=True)
        items = [Item(windows, self._target(row) if learn else None) for row, windows in each]
        self.lost = self.medium.lost
        return items

    def _target(self, row: Example) -> np.ndarray:
        if "labels" not in self.facts:
            return np.array((number(row) - self.facts["mean"]) / self.facts["deviation"])
        return np.array(self.label_index(row.label, row.where))

    def predict(self, row: Example, item: Item, scores: list[np.ndarray]) -> Classified:
        """See Reader."""
        text = "\t".join(self.medium.shown(row).values())
        if "labels" not in self.facts:
            return Classified(text, float(scores[0][0]) * self.facts["deviation"] + self.facts["mean"])
        activate = _ACTIVATIONS[self.facts.get("activation", "softmax")]
        p = dict(zip(self.facts["labels"], activate(scores[0]).tolist(), strict=True))
        return Classified(text, max(p, key=p.__getitem__), p)

    def measure(self, rows: Sequence[Example], items: Sequence[Item], outputs: Sequence[list[np.ndarray]]) -> Json:
        """See Reader."""
        truth, scores = np.array([item.targets for item in items]), np.stack([windows[0] for windows in outputs])
        if "labels" in self.facts:
            return score_labels(truth, softmax(scores), self.facts["labels"])
        scale = self.facts["deviation"]
        loss = float(np.mean((truth - scores[:, 0]) ** 2))
        return {"loss": loss, **score_numbers(scale * truth, scale * scores[:, 0].astype(np.float64))}

    def sample(self, row: Example, prediction: Classified) -> Json:
        """See Reader."""
        shown = {**self.medium.shown(row), "label": row.label}
        if isinstance(prediction.label, float):
            return {**shown, "prediction": f"{prediction.label:.4g}"}
        probability = round(prediction.probabilities[prediction.label], 4)
        return {**shown, "probability": probability, "prediction": prediction.label}

    def row(self, example: Any) -> Any:
        """See Medium."""
        return self.medium.row(example)


def number(row: Example) -> float:
    """The label as a number. Raises DataError."""
    try:
        value = float(row.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        cure = "for labels that are no numbers, objective.kind must be 'labels'"
        raise DataError(f"the label {row.label!r} is not a number", where=row.where, cure=cure)
    return value


def softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis, in float64."""
    high = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    result: np.ndarray = high / high.sum(-1, keepdims=True)
    return result


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": softmax,
    "sigmoid": lambda scores: 1 / (1 + np.exp(-scores.astype(np.float64))),
    "none": lambda scores: scores,
}
"""What makes the probabilities of labels of their scores; an imported model may have another than softmax."""


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(ExamplesConfig):
    """The config of a run that predicts labels, or numbers with objective.kind = "numbers"."""

    task: Literal["classify"] = "classify"
    data: LabelledFiles | ImageFiles | SmallDigits | SignalFiles
    objective: Labels | Numbers = field(default_factory=Labels)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="accuracy"))
    reading: ClassVar[type[Reader]] = Classifier
    unit: ClassVar[str] = "examples"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What "best" may mean."""
        numbers: tuple[Metric, ...] = ("pearson", "spearman", "loss")
        return numbers if isinstance(self.objective, Numbers) else ("accuracy", "f1", "matthews", "loss")

    @property
    def pairs(self) -> bool:
        """Whether there are pairs of texts."""
        return bool(getattr(self.data, "second", ""))

    def texts(self, rows: Sequence[Example]) -> Iterable[str]:
        """See ExamplesConfig."""
        return (text for row in rows for text in (row.text, row.second) if text)

    def usable(self, rows: list[Any], name: str, reporter: Reporter) -> list[Any]:
        """See ExamplesConfig: files that are damaged have no values."""
        lost = [row.where for row in rows if isinstance(row, LabelledArray) and not row.values.size]
        if len(lost) == len(rows):
            raise DataError(f"all files of {name} are damaged", where=lost[0], cure="name images")
        if lost:
            reporter.warn(f"{name}: {counted(len(lost), 'damaged file')} skipped: {first_of(lost)}")
        return [row for row in rows if row.where not in lost] if lost else rows

    def labels(self, row: Example) -> Iterable[str]:
        """See ExamplesConfig; numbers are no labels."""
        return () if isinstance(self.objective, Numbers) else (row.label,)

    def facts(self, rows: Sequence[Example]) -> Json:
        """The labels; or mean and standard deviation of the numbers."""
        learned = self.data.learned(cast(Any, rows))
        if isinstance(self.objective, Numbers):
            values = np.array([number(row) for row in rows])
            return {"mean": float(values.mean()), "deviation": float(values.std()) or 1.0, **learned}
        labels = sorted({row.label for row in rows})
        if len(labels) < 2:
            problem = f"all examples have the label {labels[0]!r}"
            cure = "name examples with two labels or more; in a table, --data.label chooses their column"
            raise DataError(problem, where=rows[0].where, cure=cure)
        return {"labels": labels, **learned}

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        yield f"labels of {self.modality}s", _labels(other, texts)
        if self.modality == "text":
            yield "labels of pairs", _labels(other, list(zip(texts, reversed(texts), strict=True)))
            yield from super().answers(other, texts)


def _labels(other: Counterpart, texts: Sequence[Any]) -> Compared:
    modality, pairs, facts = other.config.modality, not isinstance(texts[0], str), other.assets.facts or {}
    pipeline = other.pipeline(f"{modality}-classification")
    all_labels = None if modality == "text" else len(facts["labels"])
    if pairs != other.config.pairs and other.config.data.train:
        return
    for text in texts:
        if pairs and len(other.read(*text).input_ids[0]) > other.limit:
            continue
        ours = other.predictor([text])[0]
        inputs = {"text": text[0], "text_pair": text[1]} if pairs else text
        rows = pipeline(inputs, top_k=all_labels)
        theirs = {row["label"]: row["score"] for row in (rows[0] if isinstance(rows[0], list) else rows)}
        if isinstance(ours.label, float):
            yield text, ours.label, next(iter(theirs.values()))
        else:
            yield text, ours.probabilities, theirs
