"""The scores of an evaluation as tables, for the report and the terminal, and two charts of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seqloom.inspection.charts import Curve, line_figure
from seqloom.inspection.page import Markup, Table
from seqloom.measures import MEASURES, count_of, measured

Row = Mapping[str, Any]
_LABELS = 30  # shown of a confusion
_TABLES = {
    "by_layer": "By layer, the mean of its heads",
    "by_forecast": "Errors, in the units of the data",
    "by_horizon": "Root mean squared error by steps ahead",
    "by_channel": "Root mean squared error by channel",
}


def class_name(row: Row) -> str:
    """The name of a class of lengths or frequencies: "5–9", "20+"."""
    low, below = row.get("from") or 0, row.get("below")
    if below is None:
        return f"{low}+"
    return f"{low}–{below - 1}" if below - low > 1 else f"{low}"


def score_tables(scores: Row) -> Iterator[Table]:
    """All scores of an evaluation, and their details."""
    title = scores["test"] + (f" in {scores['seconds']:.1f} s" if "seconds" in scores else "")
    if count := count_of(scores):
        title += f", {count[0]:,} {count[1]}"
    rows = [
        (MEASURES[key].name, value if value is None else MEASURES[key].shown(value), MEASURES[key].note(scores))
        for key, value in measured(scores).items()
    ]
    yield Table(title, ["score", "value", "note"], rows)
    yield from detail_tables(scores)


def detail_tables(scores: Row) -> Iterator[Table]:
    """What an evaluation has besides its scores: groups of sentences, lists of words, confusion, calibration."""
    for key, column, title in (("by_length", "words", "By words of the source"), ("by_kind", "kind", "By kind")):
        if groups := scores.get(key):
            keys = [k for k in MEASURES if any(k in row for row in groups)]
            names = [row.get("kind", "–") if key == "by_kind" else class_name(row) for row in groups]
            rows = [[n, r.get("sentences"), *(r.get(k) for k in keys)] for n, r in zip(names, groups, strict=True)]
            yield Table(title, [column, "sentences", *(MEASURES[k].name for k in keys)], rows)
    for test in scores.get("lists") or ():
        if test["kind"] == "similarity":
            row = (test["pairs"], test["known"], test["spearman"])
            yield Table(test["file"], ["pairs", "known", MEASURES["spearman"].name], [row])
        else:
            rows = [[r[key] for key in ("section", "asked", "known", "right", "accuracy")] for r in test["sections"]]
            title = f"{test['file']}, among the {test['restrict']:,} most frequent words"
            yield Table(title, ["section", "questions", "known", "correct", "accuracy, %"], rows)
    for key, title in _TABLES.items():
        if errors := scores.get(key):
            yield Table(title, [*errors[0]], [[*row.values()] for row in errors])
    if "confusion" in scores:
        labels, counts = scores["labels"][:_LABELS], scores["confusion"][:_LABELS]
        rows = [[label, *row[:_LABELS]] for label, row in zip(labels, counts, strict=True)]
        yield Table("Confusion", ["true \\ predicted", *labels], rows)
    if "reliability" in scores:
        rows = [[row["confidence"], row["accuracy"], row["examples"]] for row in scores["reliability"]]
        yield Table("Calibration", ["confidence, %", "accuracy, %", "examples"], rows)


def length_chart(
    title: str, note: str, curves: Mapping[str, Sequence[tuple[Row, float, float | None]]]
) -> Iterator[Markup]:
    """BLEU by length of the source, from a class, its BLEU and half of the interval of it (None = unknown)."""

    def words(row: Row) -> float:
        low, below = row.get("from") or 0, row.get("below")
        return float((low + below - 1) / 2 if below else low * 1.25)

    drawn = [
        Curve(
            name,
            [(words(row), bleu) for row, bleu, _ in classes],
            band=[(words(row), bleu - half, bleu + half) for row, bleu, half in classes if half],
        )
        for name, classes in curves.items()
    ]
    yield from line_figure(title, note, drawn, lambda x: f"{x:.0f} words", height=260)


def calibration_chart(title: str, scores: Row) -> Iterator[Markup]:
    """The accuracy by confidence."""
    bins = scores.get("reliability") or ()
    note = f"Accuracy by confidence, in percent; mean difference {scores.get('calibration_error') or 0:.1f} points."
    ideal = Curve("as confident as right", [(0.0, 0.0), (100.0, 100.0)], "train")
    curve = Curve("accuracy", [(row["confidence"], row["accuracy"]) for row in bins], "valid")
    if bins:
        yield from line_figure(title, note, [ideal, curve], lambda x: f"confidence {x:.0f} %")
