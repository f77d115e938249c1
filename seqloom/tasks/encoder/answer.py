"""Questions to spans of passages: the first and the last token of the answer (Devlin et al. 2019, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from seqloom.data.batches.windows import Item, TextBatchConfig, Window, frame
from seqloom.data.formats.lines import is_text
from seqloom.data.rows import Question
from seqloom.data.sources.labelled import QuestionFiles
from seqloom.errors import UsageError
from seqloom.evaluation.answers import score_answers
from seqloom.files import Json
from seqloom.objectives.reading import Labels
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.examples import ExamplesConfig, Reader
from seqloom.training.config import Metric, TrainingConfig


@dataclass(frozen=True)
class Answer:
    """A span of a passage, from character `start` up to `end`; "" = the passage has no answer."""

    question: str
    text: str
    start: int
    end: int
    probability: float

    def __str__(self) -> str:
        return self.text


class Answerer(Reader):
    """Questions with their passages; a long passage is split into overlapping windows.

    In a window without the answer the target is its very first token.
    """

    head, inputs = "span", ("question", "passage")
    config: AnswerConfig

    def items(self, rows: Sequence[Question], learn: bool) -> list[Item]:
        """See Reader."""
        tokenizer = self.tokenizer
        asked = tokenizer.encode([row.question for row in rows])
        passages = {text: i for i, text in enumerate(dict.fromkeys(row.passage for row in rows))}
        read = tokenizer.encode_places(list(passages))
        items = []
        for row, question in zip(rows, asked, strict=True):
            ids, places = read[passages[row.passage]]
            windows = frame(question, ids, tokenizer.template, self.config.batches, windows=True)
            spans = _spans(row, windows, places, len(tokenizer.template.after)) if learn else None
            items.append(Item(windows, spans, places))
        return items

    def predict(self, row: Question, item: Item, scores: list[np.ndarray]) -> Answer:
        """The most probable span of all windows; or no answer, if that is allowed and more probable."""
        best, none = (-math.inf, 0, 0), math.inf
        for window, window_scores in zip(item.windows, scores, strict=True):
            log_p = window_scores.astype(np.float64)
            log_p = log_p - np.logaddexp.reduce(log_p, axis=0)
            none = min(none, float(log_p[0].sum()))
            inside = log_p[window.second : len(window.values) - len(self.tokenizer.template.after)]
            if len(inside):
                sums = inside[:, :1] + inside[None, :, 1]
                apart = np.arange(len(inside)) - np.arange(len(inside))[:, None]
                sums[(apart < 0) | (apart >= self.config.data.longest)] = -np.inf
                first, last = divmod(int(sums.argmax()), len(inside))
                candidate = float(sums[first, last]), window.first_token + first, window.first_token + last
                best = max(best, candidate)
        if best[0] == -math.inf or (self.config.data.no_answer and none > best[0]):
            return Answer(row.question, "", 0, 0, math.exp(none))
        assert item.places is not None
        start, end = int(item.places[best[1], 0]), int(item.places[best[2], 1])
        start += len(row.passage[start:end]) - len(row.passage[start:end].lstrip())
        text = row.passage[start:end].rstrip()
        return Answer(row.question, text, start, start + len(text), math.exp(best[0]))

    def measure(self, rows: Sequence[Question], items: Sequence[Item], outputs: Sequence[list[np.ndarray]]) -> Json:
        """See Reader."""
        predictions = [self.predict(*each).text for each in zip(rows, items, outputs, strict=True)]
        losses = []
        for item, windows in zip(items, outputs, strict=True):
            assert item.targets is not None
            for target, scores in zip(item.targets, windows, strict=True):
                log_p = scores.astype(np.float64) - np.logaddexp.reduce(scores.astype(np.float64), axis=0)
                losses.append(-log_p[target, [0, 1]].mean())
        references = [[text for text, _ in row.answers] for row in rows]
        return {"loss": float(np.mean(losses)), **score_answers(predictions, references)}

    def sample(self, row: Question, prediction: Answer) -> Json:
        """See Reader."""
        answers = {"answers": " / ".join(dict.fromkeys(text for text, _ in row.answers))}
        return {"question": row.question, "passage": row.passage, **answers, "prediction": prediction.text}

    def texts(self, row: Question) -> list[str]:
        """See Reader."""
        return [row.question, row.passage]

    def row(self, example: Any) -> Question:
        """(question, passage)."""
        if isinstance(example, str) or len(example) != 2 or not all(map(is_text, example)):
            raise UsageError("a question and a passage are needed", cure="give pairs: (question, passage)")
        return Question(*example)


def _spans(row: Question, windows: Sequence[Window], places: np.ndarray, ending: int) -> np.ndarray:
    """First and last position (W 2) of the first answer in each window; 0 and 0 in a window without it.

    `ending`: the number of special tokens at the end of a window.
    """
    spans = np.zeros((len(windows), 2), dtype=np.int64)
    if row.answers and len(places):
        text, start = row.answers[0]
        inside = ((places[:, 1] > start) & (places[:, 0] < start + len(text))).nonzero()[0]
        for k, window in enumerate(windows):
            after = window.first_token + len(window.values) - window.second - ending
            if len(inside) and window.first_token <= inside[0] and inside[-1] < after:
                spans[k] = window.second + inside[[0, -1]] - window.first_token
    return spans


@dataclass(frozen=True, kw_only=True)
class AnswerConfig(ExamplesConfig):
    """The config of a run that answers questions."""

    task: Literal["answer"] = "answer"
    data: QuestionFiles
    objective: Labels = field(default_factory=Labels)
    batches: TextBatchConfig = field(default_factory=lambda: TextBatchConfig(tokens=4096, long="windows"))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="f1"))
    reading: ClassVar[type[Reader]] = Answerer
    unit: ClassVar[str] = "windows"
    used_by: ClassVar[str] = "answer"
    metrics: ClassVar[tuple[Metric, ...]] = ("f1", "exact_match", "loss")
    pairs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective.smoothing:
            raise ValueError("objective.smoothing is for labels, not for positions")

    def heads(self, facts: Json) -> dict[str, int]:
        """Two outputs: the first and the last position."""
        return {"span": 2}

    def texts(self, rows: Sequence[Question]) -> Iterable[str]:
        """Each passage once, and the questions."""
        return dict.fromkeys(text for row in rows for text in (row.passage, row.question))

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        yield "answers", _answered(other, texts)
        yield from super().answers(other, texts)


def _answered(other: Counterpart, texts: Sequence[str]) -> Compared:
    reader = other.predictor.reader
    for pair in zip(texts, reversed(texts), strict=True):
        read = other.read(*pair)
        if read.input_ids.shape[1] > other.limit:
            continue
        out, row = other.theirs(**read), reader.row(pair)
        scores = np.stack((out.start_logits[0], out.end_logits[0]), -1)
        expected = reader.predict(row, reader.items([row], learn=False)[0], [scores])
        yield pair, other.predictor([pair])[0].text, expected.text
