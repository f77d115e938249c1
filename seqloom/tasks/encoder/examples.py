"""The common part of the tasks that learn from labelled examples: classify, tag and answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from seqloom.data.batches.windows import Item, ItemBatches, TextBatchConfig
from seqloom.data.checks.pairs import Finding
from seqloom.data.rows import LabelledArray, digest_rows
from seqloom.data.sources.labelled import first_of
from seqloom.errors import DataError, UsageError, counted, nearest
from seqloom.files import Json
from seqloom.inspection.capture import MOST
from seqloom.inspection.inside.inspected import Inspected
from seqloom.models.assemblies import TextReader, parameter_count
from seqloom.run import Run
from seqloom.tasks.assets import Assets, standardized
from seqloom.tasks.building import tokenizer_for
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.embed import compared_vectors
from seqloom.tasks.encoder.media import MEDIA
from seqloom.tasks.encoder.medium import Medium
from seqloom.tasks.encoder.task import SHOWN, ReadingConfig, outputs
from seqloom.tasks.looking import look_at_window
from seqloom.tasks.task import Prepared, Seen, tested_on
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter

_SAMPLES = 4
_VALIDATED = ("loss", "accuracy", "f1", "matthews", "exact_match", "pearson", "spearman")


class Reader:
    """How a task encodes its examples, and decodes and scores the predictions of a model.

    Args:
        config: the config of the task.
        assets: those of the run: its tokenizer, and the facts about the training examples.
    """

    head: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    """The keys of a sample that are the input of the model; () = those of its medium."""

    lost: str = ""
    """What of the examples that were encoded last is not read; "" = they are read whole, or it is counted elsewhere."""

    def __init__(self, config: Any, assets: Assets) -> None:
        self.config, self.assets, self.facts = config, assets, assets.facts or {}
        self.medium = MEDIA[config.modality](config, assets)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of a run that reads text."""
        return self.assets.tokenizer

    def label_index(self, label: str, where: str) -> int:
        """The number of a label. Raises DataError for one that the training data do not have."""
        labels: list[str] = self.facts["labels"]
        if label not in labels:
            problem = f"the label {label!r} is not in the training data"
            raise DataError(problem, where=where, cure=nearest(label, labels))
        return labels.index(label)

    def items(self, rows: Sequence[Any], learn: bool) -> list[Item]:
        """The encoded examples, with targets if `learn`. Raises DataError."""
        raise NotImplementedError

    def learned(self, item: Item) -> list[Item]:
        """What is drawn by itself in training: an example."""
        return [item]

    def outputs_of(self, model: TextReader, items: Sequence[Item]) -> list[list[np.ndarray]]:
        """The outputs of the head for each example."""
        return outputs(model, self.head, items)

    def predict(self, row: Any, item: Item, scores: list[np.ndarray]) -> Any:
        """The prediction for an example, from the outputs of the head."""
        raise NotImplementedError

    def measure(self, rows: Sequence[Any], items: Sequence[Item], outputs: Sequence[list[np.ndarray]]) -> Json:
        """The metrics of the predictions, with the loss."""
        raise NotImplementedError

    def sample(self, row: Any, prediction: Any) -> Json:
        """An example with its prediction, for the report."""
        raise NotImplementedError

    def seen(self, predictor: Predictor, rows: Sequence[Any], looks: Sequence[Inspected]) -> Seen:
        """What the report shows of some examples that the model was looked at with."""
        return self.medium.seen(rows, looks, parameter_count(predictor.model))

    def row(self, example: Any) -> Any:
        """An example from user input. Raises UsageError."""
        raise NotImplementedError

    def texts(self, row: Any) -> list[str]:
        """The texts of an example, in the order in which they are read."""
        return [*self.medium.shown(row).values()]


class Predictor:
    """A trained model in use: `predictor(["a text"])`, pairs of texts, sentences, questions with passages, images.

    Args:
        model: the model.
        reader: encodes what it reads, and decodes what it predicts.
        long_input: whether what is longer than the model reads is cut, or a DataError.
    """

    def __init__(self, model: TextReader, reader: Reader, long_input: Literal["cut", "refuse"] = "cut") -> None:
        self.model, self.reader, self.long_input = model, reader, long_input

    @property
    def medium(self) -> Medium:
        """What encodes its inputs."""
        return self.reader.medium

    def __call__(self, examples: Sequence[Any]) -> list[Any]:
        """The prediction for each example."""
        if isinstance(examples, str):
            raise UsageError("expected a list, got one text", cure='write predictor(["..."])')
        return self.predictions([self.reader.row(example) for example in examples])

    def look(self, example: Any, *, most: int = MOST) -> Inspected:
        """What the model does with an example; of a long one, with its first window."""
        return self.looked(self.reader.row(example), most)

    def looked(self, row: Any, most: int = MOST, tokens: int = 0) -> Inspected:
        """The same of a row; of the first so many tokens, or (0) of all."""
        reader, (item,) = self.reader, self.reader.items([row], learn=False)
        window, tokenizer = item.windows[0], None
        if window.modality == "text":
            window, tokenizer = replace(window, values=window.values[: tokens or None]), reader.tokenizer
        labels = reader.facts.get("labels", () if reader.head == "span" else ("value",))
        return look_at_window(self.model, reader.head, window, reader.texts(row), tokenizer, labels, most)

    def predictions(self, rows: Sequence[Any]) -> list[Any]:
        """The prediction for each row, whatever texts it has: also for those that a model wrote."""
        items = self.reader.items(rows, learn=False)
        if self.long_input == "refuse":
            self._check(items)
        scores = self.reader.outputs_of(self.model, items)
        return [self.reader.predict(*each) for each in zip(rows, items, scores, strict=True)]

    def _check(self, items: Sequence[Item]) -> None:
        length = self.reader.config.batches.length
        lost = [sum(window.lost for window in item.windows) for item in items]
        for number, tokens in enumerate(lost, start=1):
            if tokens or self.reader.lost:
                problem = f"{counted(tokens, 'token')} do not fit into {length}" if tokens else self.reader.lost
                raise DataError(problem, where=f"input {number}", cure="shorten it")


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig(ReadingConfig):
    """A config whose data are examples with answers.

    Args:
        data: the examples it learns from, and is evaluated and tested with.
    """

    data: Any
    batches: TextBatchConfig = field(default_factory=TextBatchConfig)
    used_by: ClassVar[str] = "classify"
    reading: ClassVar[type[Reader]]
    using: ClassVar[type[Predictor]] = Predictor

    def heads(self, facts: Json) -> dict[str, int]:
        """See ReadingConfig."""
        return {self.reading.head: len(facts["labels"]) if "labels" in facts else 1}

    def texts(self, rows: Sequence[Any]) -> Iterable[str]:
        """What a tokenizer is made of."""
        raise NotImplementedError

    def labels(self, row: Any) -> Iterable[str]:
        """The labels of an example, each of which must occur in the training data; () = any answer is possible."""
        return ()

    def usable(self, rows: list[Any], name: str, reporter: Reporter) -> list[Any]:
        """The examples of a split that can be learned from and scored; reports the others."""
        return rows

    def equipped(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer, with the special tokens that the examples need."""
        return tokenizer

    def content(self, row: Any) -> object:
        """What is the same where an example occurs twice."""
        if isinstance(row, LabelledArray):
            return row.values.tobytes() or row.where
        return tuple(self.texts([row]))

    def facts(self, rows: Sequence[Any]) -> Json:
        """What the training examples tell: the labels there are."""
        return {}

    def splits(self, say: Callable[[str], None]) -> dict[str, list[Any]]:
        """The examples of each split; `say` reports how they were divided."""
        splits: dict[str, list[Any]] = self.data.splits(say, self.seed, partial(self.data.hold_out, labels=self.labels))
        return splits

    def learned_texts(self, say: Callable[[str], None]) -> Iterable[str]:
        """The training texts."""
        return self.texts(self.splits(say)["train"])

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See ReadingConfig."""
        read = self.splits(reporter.say)
        rows = {name: self.usable(split, name, reporter) for name, split in read.items()}
        assets = Assets(facts=standardized(self.facts(rows["train"]), self.start, run))
        if self.modality == "text":
            tokenizer = self.equipped(tokenizer_for(self, run, lambda: self.texts(rows["train"])))
            assets = replace(assets, tokenizers=(tokenizer, tokenizer))
        reader, items = self.reading(self, assets), dict[str, list[Item]]()
        for name, split in rows.items():
            items[name] = reader.items(split, learn=True)
            if reader.lost:
                reporter.warn(f"{name}: {reader.lost}")

        drawn = [part for item in items["train"] for part in reader.learned(item)]

        def measure(model: TextReader) -> Callable[[int], Measured]:
            return lambda step: _validated(reader, model, rows["valid"], items["valid"], step)

        return self.prepared(
            {name: digest_rows(split) for name, split in rows.items()},
            assets,
            ItemBatches(drawn, self.batches, self.seed, reader.medium.change()),
            measure,
            lambda: [
                {"split": name, "examples": len(split), **reader.medium.summary(split, items[name], rows["train"])}
                for name, split in rows.items()
            ],
            lambda: self.findings(read),
        )

    def findings(self, rows: dict[str, list[Any]]) -> list[Finding]:
        """What is suspicious in the examples of each split."""
        known = (finding for name in rows if name != "train" for finding in _known(self, rows, name))
        return [*self.data.findings(rows["train"]), *_single(self, rows["train"]), *known]

    def predictor(self, model: TextReader, assets: Assets, **options: Any) -> Predictor:
        """See RunConfig."""
        return self.using(model, self.reading(self, assets), **options)

    def score(self, predictor: Predictor, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig; there are no options."""
        reader = predictor.reader
        files = tested_on(test, self.data.test, options)
        for line in self.data.described(files):
            reporter.say(line)
        rows = self.usable(self.data.read(files), "the test data", reporter)
        items = reader.items(rows, learn=True)
        if reader.lost:
            reporter.warn(reader.lost)
        reporter.say(f"reading {len(rows):,} examples")
        began = time.perf_counter()
        scores = reader.outputs_of(predictor.model, items)
        measures = reader.measure(rows, items, scores)
        each = zip(rows, items, scores, strict=True)
        predictions = [reader.sample(row, reader.predict(row, item, windows)) for row, item, windows in each]
        return {**measures, "predictions": predictions, "seconds": round(time.perf_counter() - began, 3)}

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        return compared_vectors(other, texts)

    def look(self, run: Run, predictor: Predictor, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: attention within the inputs."""
        reader = predictor.reader
        keys = reader.inputs or reader.medium.inputs
        shown: list[Any] = list(texts) or [tuple(row[k] for k in keys if k in row) for row in samples[-2:]]
        rows = [reader.row(one) for one in shown]
        looks = [predictor.looked(row, tokens=SHOWN) for row in rows]
        return reader.seen(predictor, rows, looks)


def _single(config: ExamplesConfig, train: Sequence[Any]) -> list[Finding]:
    """A note on the labels with a single training example."""
    places: dict[str, list[str]] = {}
    for row in train:
        for label in set(config.labels(row)):
            places.setdefault(label, []).append(row.where)
    single = sorted(label for label, where in places.items() if len(where) == 1)
    if not single:
        return []
    detail = f"{counted(len(single), 'label')} of {len(places):,}: {first_of(single)}"
    cure = "they are never held out for validation; add examples of them, or merge them with other labels"
    return [Finding("note", "labels with a single example", places[single[0]][0], detail, cure, len(single))]


def _known(config: ExamplesConfig, rows: dict[str, list[Any]], name: str) -> list[Finding]:
    """A warning of the examples of a split that are in the training data, too."""
    train = {config.content(row) for row in rows["train"]}
    same = [row.where for row in rows[name] if config.content(row) in train]
    if not same:
        return []
    detail = f"{len(same):,} of {len(rows[name]):,} of {name}, the first at {same[0]}"
    cure = f"remove them from train: what is known by heart makes {name} look better than it is"
    return [Finding("warning", f"{config.modality}s of {name} also in train", same[0], detail, cure, len(same))]


def _validated(reader: Reader, model: TextReader, rows: Sequence[Any], items: Sequence[Item], step: int) -> Measured:
    scores = reader.outputs_of(model, items)
    measures = reader.measure(rows, items, scores)
    chosen = range(0, len(rows), -(-len(rows) // _SAMPLES))
    samples = [{"step": step, **reader.sample(rows[i], reader.predict(rows[i], items[i], scores[i]))} for i in chosen]
    return {name: measures[name] for name in _VALIDATED if name in measures}, samples
