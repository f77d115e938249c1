"""Every score once: its key in results, title, unit, how it is shown, and whether more or less of it is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

Scores = Mapping[str, Any]
Number = int | float
COUNTS = ("sentences", "examples", "questions")
"""The keys of what scores are of, at most one of them in each result."""


@dataclass(frozen=True)
class Measure:
    """A score.

    Args:
        key: what results, `accept` and `training.metric` call it.
        title: what people read.
        better: whether more or less of it is better; "" = neither: a baseline, or a fact about another score.
        unit: of the value; "" = it has none.
        decimals: how many are shown.
        notes: what it is of, as templates over the result that it stands in; the first that can be filled in is shown.
        headline: whether it is shown where there is room for few.
        share: whether it is the percentage of the counted examples that were right, so that its interval follows.
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
        """The title with the unit, where the title does not name it."""
        return self.title if not self.unit or self.unit in self.title else f"{self.title}, {self.unit}"

    def shown(self, value: Number) -> str:
        """A value without its unit."""
        return f"{value:,.{self.decimals}f}" if abs(value) < 1e7 else f"{value:.2e}"

    def note(self, scores: Scores) -> str:
        """What the score of this result is of; "" = nothing to add."""
        known = {key for key, value in scores.items() if value is not None}
        fields = {note: {name for _, name, _, _ in Formatter().parse(note) if name} for note in self.notes}
        return next((note.format_map(scores) for note in self.notes if fields[note] <= known), "")


_ALL = (
    Measure("bleu", "BLEU", "more", notes=("{signature}",), headline=True),
    Measure("bleu_lowercased", "BLEU, lowercased", "more", notes=("{signature_lowercased}",)),
    Measure("bleu_moses", "BLEU, Moses tokens, lowercased", "more", notes=("{moses_signature}",)),
    Measure("chrf", "chrF", "more", notes=("{chrf_signature}",), headline=True),
    Measure(
        "accuracy",
        "accuracy",
        "more",
        "%",
        notes=("of {questions:,} questions after {shots} examples", "of {words:,} words"),
        headline=True,
        share=True,
    ),
    Measure(
        "accuracy_by_byte",
        "accuracy by byte",
        "more",
        "%",
        notes=("each choice's log-probability divided by its length",),
    ),
    Measure("standard_error", "standard error", "", "%", notes=("of the accuracy",)),
    Measure("by_chance", "accuracy by chance", "", "%", notes=("what guessing gives",)),
    Measure("majority", "accuracy of the commonest label", "", "%"),
    Measure("f1", "F1", "more", "%", notes=("of {f1_of}",), headline=True),
    Measure("macro_f1", "F1, mean of all labels", "more", "%"),
    Measure("precision", "precision", "more", "%"),
    Measure("recall", "recall", "more", "%"),
    Measure("matthews", "Matthews correlation", "more", "%", headline=True),
    Measure("exact_match", "exact match", "more", "%", notes=("{sentences:,} sentences",), headline=True, share=True),
    Measure("pearson", "Pearson", "more", "%", headline=True),
    Measure("spearman", "Spearman", "more", "%", headline=True),
    Measure("calibration_error", "calibration error", "less", "%"),
    Measure("rmse", "root of the mean squared error", "less"),
    Measure("rmse_of_mean", "the same of the mean alone", ""),
    Measure("next_accuracy", "accuracy of the next text", "more", "%"),
    # Without a unit: nats, but the squared difference where numbers are predicted.
    Measure("loss", "loss", "less", decimals=3),
    Measure("training_loss", "loss of training", "less", decimals=3),
    Measure(
        "perplexity",
        "perplexity",
        "less",
        notes=(
            "of {tokens:,} tokens; {reading}",
            "of {sentences:,} references, a word of the tokenizer",
        ),
        headline=True,
    ),
    Measure(
        "word_perplexity", "perplexity by words", "less", notes=("of {words:,} words and ends of lines",), headline=True
    ),
    Measure("bits_per_character", "bits a character", "less", "bits", notes=("of {characters:,} characters",)),
    Measure("bits_per_byte", "bits a byte", "less", "bits", notes=("of {bytes:,} bytes",), headline=True),
    Measure("unknown_share", "unknown", "", "%", notes=("words predicted as <unk> only: not comparable",)),
    Measure("distinct_1", "distinct-1", "more", "%", notes=("different words of all translations",)),
    Measure("distinct_2", "distinct-2", "more", "%", notes=("different pairs of words",)),
    Measure("semantic", "analogies of meaning", "more", "%"),
    Measure("syntactic", "analogies of grammar", "more", "%"),
    Measure("analogies", "all analogies", "more", "%", headline=True),
    Measure("similarity", "similar words, Spearman", "more", "%", headline=True),
    Measure("minutes", "minutes of training", "less", "minutes", decimals=1),
)
MEASURES: Mapping[str, Measure] = {measure.key: measure for measure in _ALL}
"""Every score by its key, in the order in which they are shown."""


def measured(scores: Scores, *, headline: bool = False) -> dict[str, Number | None]:
    """The scores that a result holds, in their order; or only the headline ones. None = it could not be computed."""
    return {
        key: scores[key]
        for key, measure in MEASURES.items()
        if key in scores and is_value(scores[key]) and (measure.headline or not headline)
    }


def is_value(value: object) -> bool:
    """Whether a score may have this value."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def directed() -> list[str]:
    """The keys of the scores of which more or less is better."""
    return [key for key, measure in MEASURES.items() if measure.better]


def rank(key: str, value: Number) -> Number:
    """A value as what is the larger the better; rank(key, rank(key, value)) == value."""
    return -value if MEASURES[key].better == "less" else value


def reaches(key: str, value: Number | None, wanted: Number) -> bool:
    """Whether a value is as good as the wanted one, or better; what is absent or no number reaches nothing."""
    return value is not None and rank(key, value) >= rank(key, wanted)


def best(rows: Iterable[Scores], key: str) -> Scores | None:
    """The row that is best by a score, the first of equal ones; None where no row has it as a number."""
    known = [row for row in rows if is_value(row.get(key)) and row.get(key) is not None and abs(row[key]) < math.inf]
    return max(known, key=lambda row: rank(key, row[key]), default=None)


def worst(values: Sequence[Number], key: str) -> Number:
    """The least good value of a score."""
    return min(values, key=lambda value: rank(key, value))


def count_of(scores: Scores) -> tuple[int, str] | None:
    """How many of what the scores are of: (12, "sentences")."""
    return next(((scores[what], what) for what in COUNTS if scores.get(what)), None)
