"""The labels of an evaluation: which are mistaken for which, and how well confidence matches accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seqloom.inspection.charts import Curve, Steps, line_figure
from seqloom.inspection.page import Markup, figure, join, table

_LABELS = 30  # shown of a confusion


def label_sections(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, Markup]:
    """Calibration, and confusion of labels, of each evaluation that has them, by the title of the report's section."""
    parts = [part for name, scores in evaluations.items() if "reliability" in scores for part in _labels(name, scores)]
    return {"Labels": join(parts)} if parts else {}


def _labels(name: str, scores: Mapping[str, Any]) -> Iterator[Markup]:
    if "confusion" in scores:
        labels, rows = scores["labels"][:_LABELS], scores["confusion"][:_LABELS]
        cells = [[label, *row[:_LABELS]] for label, row in zip(labels, rows, strict=True)]
        yield figure(f"Confusion: {name}", "A row for each true label.", table(["true \\ predicted", *labels], cells))
    bins = scores["reliability"]
    points = [(row["confidence"], row["accuracy"]) for row in bins]
    summary = ", ".join(
        f"{row['examples']} of {row['confidence']:.0f} %: {row['accuracy']:.0f} % right" for row in bins
    )
    note = f"Accuracy by confidence, in percent; mean difference {scores['calibration_error']:.1f} points."
    ideal = Curve("as confident as right", [(0.0, 0.0), (100.0, 100.0)], "train")
    axis = Steps(100.0, lambda x: f"confidence {x:.0f} %")
    curves = [ideal, Curve("accuracy", points, "valid")]
    yield from line_figure(f"Calibration: {name}", note, curves, axis, description=summary)
