"""Sentences to a label for each word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from seqloom.data.batches.windows import Item, Window
from seqloom.data.formats.lines import is_blank
from seqloom.data.rows import TaggedWords
from seqloom.data.sources.labelled import TaggedFiles
from seqloom.errors import DataError, UsageError
from seqloom.evaluation.classification import marks_spans, score_tags
from seqloom.files import Json
from seqloom.objectives.reading import Labels
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.examples import ExamplesConfig, Reader
from seqloom.training.config import Metric, TrainingConfig


class Tagger(Reader):
    """Sentences with a label for each word, which is trained and predicted at the first token of the word."""

    head, inputs = "tags", ("text",)
    config: TagConfig

    def items(self, rows: Sequence[TaggedWords], learn: bool) -> list[Item]:
        """See Reader; a long sentence is split into windows. Raises DataError for a new label."""
        encoded = self.tokenizer.encode_words([row.words for row in rows])
        return [self._item(row, ids, firsts, learn) for row, (ids, firsts) in zip(rows, encoded, strict=True)]

    def _item(self, row: TaggedWords, ids: np.ndarray, firsts: np.ndarray, learn: bool) -> Item:
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
        targets = None
        if learn:
            targets = np.full(at + len(template.after), -1, dtype=np.int64)
            targets[places] = [self.label_index(label, row.where) for label in row.labels]
        return Item(tuple(Window(ids) for ids in windows), targets, np.array(places))

    def predict(self, row: TaggedWords, item: Item, scores: list[np.ndarray]) -> TaggedWords:
        """See Reader."""
        best = np.concatenate(scores)[item.places].argmax(-1)
        return TaggedWords(row.words, tuple(self.facts["labels"][i] for i in best.tolist()))

    def measure(self, rows: Sequence[TaggedWords], items: Sequence[Item], outputs: Sequence[list[np.ndarray]]) -> Json:
        """See Reader."""
        predictions = [self.predict(*each).labels for each in zip(rows, items, outputs, strict=True)]
        nll = 0.0
        for item, windows in zip(items, outputs, strict=True):
            assert item.targets is not None
            scores = np.concatenate(windows)[item.places].astype(np.float64)
            right = scores[np.arange(len(scores)), item.targets[item.places]]
            nll += float((np.logaddexp.reduce(scores, axis=-1) - right).sum())
        scored = score_tags([row.labels for row in rows], predictions)
        return {"loss": nll / scored["words"], **scored}

    def sample(self, row: TaggedWords, prediction: TaggedWords) -> Json:
        """See Reader."""
        return {"text": " ".join(row.words), "labels": " ".join(row.labels), "prediction": " ".join(prediction.labels)}

    def row(self, example: Any) -> TaggedWords:
        """A sentence with spaces between its words, or a list of its words."""
        words = tuple((example if isinstance(example, str) else " ".join(example)).split())
        if all(map(is_blank, words)):
            raise UsageError("there are no words", cure="give sentences with blanks between their words")
        return TaggedWords(words)


@dataclass(frozen=True, kw_only=True)
class TagConfig(ExamplesConfig):
    """The config of a run that labels words."""

    task: Literal["tag"] = "tag"
    data: TaggedFiles
    objective: Labels = field(default_factory=Labels)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="accuracy"))
    reading: ClassVar[type[Reader]] = Tagger
    metrics: ClassVar[tuple[Metric, ...]] = ("accuracy", "f1", "loss")
    """What "best" may mean; "f1" is for labels that mark spans: BIO, IOBES, BILOU."""

    def texts(self, rows: Sequence[TaggedWords]) -> Iterable[str]:
        """See ExamplesConfig."""
        return (" ".join(row.words) for row in rows)

    def labels(self, row: TaggedWords) -> Iterable[str]:
        """See ExamplesConfig."""
        return row.labels

    def facts(self, rows: Sequence[TaggedWords]) -> Json:
        """The labels."""
        labels = sorted({label for row in rows for label in row.labels})
        if self.training.metric == "f1" and not marks_spans(labels):
            cure = "set training.metric = 'accuracy'"
            problem = "F1 is of spans: labels must be O, B-... and I-... (or those of IOBES, BILOU)"
            raise DataError(problem, where=rows[0].where, cure=cure)
        return {"labels": labels}

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
