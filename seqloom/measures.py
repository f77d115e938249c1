"""All scores: the key of each in results, its title, unit and format, and whether more or less is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any, Literal

Scores = Mapping[str, Any]
Number = int | float
LEAST = 20
"""The fewest examples of which an interval or a p-value is given.

One example is drawn again and again, so that its bootstrap never varies. The interval of n is narrower than Student's
by the factor 1.96 sqrt((n - 1) / n) / t(n - 1): 0.11 for two, 0.63 for five, 0.91 for 20. A paired test by signs finds
no p below 2^(1 - n).
"""
COUNTS = ("sentences", "examples", "questions")
"""The keys of the counts that scores are based on; a result has at most one of them."""


@dataclass(frozen=True)
class Measure:
    """A score.

    Args:
        key: its name in results, `accept` and `training.metric`.
        title: its name for readers.
        better: whether more or less is better; "" = neither: a baseline, or a fact about another score.
        unit: the unit of the value; "" = none.
        decimals: the number of decimals shown.
        notes: what it is computed on, as templates over the result; the first that can be filled in is shown.
        headline: whether it is shown where there is room for few scores.
        share: whether it is the percentage of counted examples that are correct, which determines its interval.
    """

    key: str
    title: str
    better: Literal["more", "less", ""]
    unit: str = ""
    decimals: int = 2
    notes: tuple[str, ...] = ()
    headline: bool = False
    share: bool = False

    @property
    def name(self) -> str:
        """The title, with the unit unless the title names it."""
        return self.title if not self.unit or self.unit in self.title else f"{self.title}, {self.unit}"

    def shown(self, value: Number) -> str:
        """A value as text, without its unit."""
        return f"{value:,.{self.decimals}f}" if abs(value) < 1e7 else f"{value:.2e}"

    def note(self, scores: Scores) -> str:
        """What the score in this result is computed on; "" = nothing to add."""
        filled = {key for key, value in scores.items() if value is not None}
        fields = {note: {name for _, name, _, _ in Formatter().parse(note) if name} for note in self.notes}
        return next((note.format_map(scores) for note in self.notes if fields[note] <= filled), "")


_ALL = (
    Measure("score", "mean score of the tasks", "more", headline=True),
    Measure("bleu", "BLEU", "more", notes=("{signature}",), headline=True),
    Measure("bleu_lowercased", "BLEU, lowercased", "more", notes=("{signature_lowercased}",)),
    Measure("bleu_moses", "BLEU, Moses tokens, lowercased", "more", notes=("{moses_signature}",)),
    Measure("chrf", "chrF", "more", notes=("{chrf_signature}",), headline=True),
    Measure("aer", "alignment error rate", "less", "%", notes=("attention of all layers and heads",), headline=True),
    Measure("cider", "CIDEr-D", "more", decimals=3, notes=("{cider_signature}",), headline=True),
    Measure("nearest_bleu", "BLEU of the nearest", "", notes=("the first text of the nearest training image",)),
    Measure("nearest_cider", "CIDEr-D of the nearest", "", decimals=3),
    Measure(
        "accuracy",
        "accuracy",
        "more",
        "%",
        notes=("of {questions:,} questions after {shots} examples", "of {words:,} words", "of {steps:,} steps"),
        headline=True,
        share=True,
    ),
    Measure("accuracy_by_byte", "accuracy by byte", "more", "%", notes=("log-probability divided by length",)),
    Measure("standard_error", "standard error", "", "%", notes=("of the accuracy",)),
    Measure("by_chance", "accuracy by chance", "", "%", notes=("of guessing",)),
    Measure("accuracy_low", "accuracy, low end", "", "%", notes=("of its 95 % interval",)),
    Measure("accuracy_high", "accuracy, high end", "", "%", notes=("of its 95 % interval",)),
    Measure("longer_accuracy", "accuracy of the longer answer", "", "%", notes=("of always preferring it",)),
    Measure("against_length", "accuracy against length", "more", "%", notes=("where the shorter answer was chosen",)),
    Measure("reward", "reward", "more", decimals=3, notes=("of {prompts:,} sampled answers",), headline=True),
    Measure("reward_start", "reward before", "", decimals=3, notes=("of the model that training started from",)),
    Measure("win_rate", "win rate", "more", "%", notes=("against the start, equal rewards count half",)),
    Measure("divergence", "divergence from the start", "", "nats", notes=("KL(model || start) of an answer",)),
    Measure("entropy", "entropy", "", "nats", notes=("of a token",)),
    Measure("answer_tokens", "tokens of an answer", "", decimals=1),
    Measure("truncated", "answers without an end", "", "%"),
    Measure("reward_chosen", "reward of the chosen answers", ""),
    Measure("reward_rejected", "reward of the rejected answers", ""),
    Measure("kl", "divergence from the reference", "", "nats", notes=("of answers sampled from it: KL(ref || model)",)),
    Measure("majority", "accuracy of the most frequent label", "", "%"),
    Measure("f1", "F1", "more", "%", notes=("of {f1_of}",), headline=True),
    Measure("macro_f1", "F1, mean of all labels", "more", "%"),
    Measure("precision", "precision", "more", "%"),
    Measure("recall", "recall", "more", "%"),
    Measure("matthews", "Matthews correlation", "more", "%", headline=True),
    Measure("exact_match", "exact match", "more", "%", notes=("{sentences:,} sentences",), headline=True, share=True),
    Measure(
        "has_answer_exact_match", "exact match, HasAns", "more", "%", notes=("{has_answer_questions:,} with an answer",)
    ),
    Measure("has_answer_f1", "F1, HasAns", "more", "%"),
    Measure(
        "no_answer_exact_match", "exact match, NoAns", "more", "%", notes=("{no_answer_questions:,} without an answer",)
    ),
    Measure("no_answer_f1", "F1, NoAns", "more", "%"),
    Measure("pearson", "Pearson", "more", "%", headline=True),
    Measure("spearman", "Spearman", "more", "%", headline=True),
    Measure("calibration_error", "calibration error", "less", "%"),
    Measure("skill", "skill over the last value", "more", "%", notes=("of its squared error avoided",), headline=True),
    Measure("rmse", "root mean squared error", "less", notes=("of {examples:,} forecasts of {horizon} steps",)),
    Measure("rmse_of_mean", "root mean squared error of predicting the mean", ""),
    Measure("rmse_of_last", "root mean squared error of the last value", "", notes=("repeated",)),
    Measure("rmse_of_ar", "root mean squared error of an autoregression", "", notes=("of order {order}",)),
    Measure("mae", "mean absolute error", "less", headline=True),
    Measure("next_accuracy", "accuracy of the next text", "more", "%"),
    # Without a unit: nats, but the squared difference where numbers are predicted.
    Measure("loss", "loss", "less", decimals=3),
    Measure("training_loss", "training loss", "less", decimals=3),
    Measure(
        "perplexity",
        "perplexity",
        "less",
        notes=(
            "of {tokens:,} tokens; {reading}",
            "per token of {references:,} references",
            "per token of {sentences:,} references",
        ),
        headline=True,
    ),
    Measure(
        "word_perplexity", "perplexity by words", "less", notes=("of {words:,} words and ends of lines",), headline=True
    ),
    Measure("bits_per_character", "bits per character", "less", "bits", notes=("of {characters:,} characters",)),
    Measure("bits_per_byte", "bits per byte", "less", "bits", notes=("of {bytes:,} bytes",), headline=True),
    Measure("unknown_share", "unknown", "", "%", notes=("words predicted only as <unk>: not comparable",)),
    Measure("distinct_1", "distinct-1", "more", "%", notes=("distinct words in all translations",)),
    Measure("distinct_2", "distinct-2", "more", "%", notes=("distinct pairs of words",)),
    Measure("semantic", "analogies of meaning", "more", "%"),
    Measure("syntactic", "analogies of grammar", "more", "%"),
    Measure("analogies", "all analogies", "more", "%", headline=True),
    Measure("similarity", "similar words, Spearman", "more", "%", headline=True),
    Measure("minutes", "minutes of training", "less", "minutes", decimals=1),
)


class _Measures(dict[str, Measure]):
    """A score of one of several tasks, "digits.accuracy", is that score with the name of the task before its title."""

    def __missing__(self, key: str) -> Measure:
        task, dot, score = key.partition(".")
        if not dot or score not in self:
            raise KeyError(key)
        measure = self[score]
        return replace(measure, key=key, title=f"{task}: {measure.title}", notes=())

    def __contains__(self, key: object) -> bool:
        return super().__contains__(str(key).partition(".")[2] or key)


MEASURES: Mapping[str, Measure] = _Measures({measure.key: measure for measure in _ALL})
"""All scores by key, in the order in which they are shown."""


def in_order(keys: Iterable[str]) -> list[str]:
    """Those that are keys of scores, in the order in which they are shown: those of each task together."""
    ranks = {key: number for number, key in enumerate(MEASURES)}
    known = [key for key in dict.fromkeys(keys) if key in MEASURES]
    tasks = list(dict.fromkeys(key.rpartition(".")[0] for key in known))
    return sorted(known, key=lambda key: (tasks.index(key.rpartition(".")[0]), ranks[key.rpartition(".")[2]]))


def measured(scores: Scores, *, headline: bool = False) -> dict[str, Number | None]:
    """The scores in a result, in order, or only the headline ones. None = the score could not be computed."""
    return {
        key: scores[key]
        for key in in_order(scores)
        if is_value(scores[key]) and (MEASURES[key].headline or not headline)
    }


def is_value(value: object) -> bool:
    """Whether a score may have this value."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def directed() -> list[str]:
    """The keys of the scores for which more or less is better."""
    return [key for key, measure in MEASURES.items() if measure.better]


def rank(key: str, value: Number) -> Number:
    """A value with its sign changed where less is better; rank(key, rank(key, value)) == value."""
    return -value if MEASURES[key].better == "less" else value


def reaches(key: str, value: Number | None, target: Number) -> bool:
    """Whether a value is as good as the target or better; None and NaN reach no target."""
    return value is not None and rank(key, value) >= rank(key, target)


def best(rows: Iterable[Scores], key: str) -> Scores | None:
    """The row with the best value of a score, the first of equal ones; None if no row has a finite value."""
    scored = [row for row in rows if is_value(row.get(key)) and row.get(key) is not None and abs(row[key]) < math.inf]
    return max(scored, key=lambda row: rank(key, row[key]), default=None)


def worst(values: Sequence[Number], key: str) -> Number:
    """The worst value of a score."""
    return min(values, key=lambda value: rank(key, value))


def count_of(scores: Scores) -> tuple[int, str] | None:
    """The count that the scores are based on: (12, "sentences")."""
    return next(((scores[what], what) for what in COUNTS if scores.get(what)), None)


def certain(value: float, count: int) -> float | None:
    """Half an interval, or a p-value, where there are enough examples for one."""
    return value if count >= LEAST else None
