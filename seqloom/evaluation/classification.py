"""Scores of predicted labels and numbers: accuracy, F1, Matthews, correlation, confusion, calibration; in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BINS = 10
_ROWS = 256  # compared at once

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]


def score_labels(truth: Counts, probabilities: Numbers, names: Sequence[str]) -> dict[str, Any]:
    """The scores of predicting the most probable label.

    Args:
        truth: (N) the true labels, by number.
        probabilities: (N L).
        names: the names of the labels.

    Returns:
        accuracy, majority (the accuracy of always predicting the most frequent label), f1 (with two labels: of "1" if
        they are 0 and 1, else of the rarer one; with more: the mean of all), macro_f1, matthews (Gorodkin 2004),
        calibration_error (see `reliability`), loss (nats), "confusion" (a row for each true label) and "reliability".
    """
    predictions, size = probabilities.argmax(1), len(names)
    table = np.zeros((size, size), dtype=np.int64)
    np.add.at(table, (truth, predictions), 1)
    f1 = label_f1(table)
    present = (table.sum(0) + table.sum(1)) > 0
    scores: dict[str, Any] = {
        "examples": len(truth),
        "accuracy": 100 * float(np.mean(truth == predictions)),
        "majority": 100 * float(table.sum(1).max() / len(truth)),
        "macro_f1": 100 * float(f1[present].mean()),
        "matthews": 100 * matthews(table),
        "loss": float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-30)).mean()),
        "labels": list(names),
        "confusion": table.tolist(),
    }
    positive = 1 if sorted(names) == ["0", "1"] else int(table.sum(1).argmin())
    scores["f1"] = 100 * float(f1[positive]) if size == 2 else scores["macro_f1"]
    scores["f1_of"] = names[positive] if size == 2 else "all"
    rows, error = reliability(probabilities.max(1), truth == predictions)
    return scores | {"calibration_error": error, "reliability": rows}


def label_f1(table: Counts) -> Numbers:
    """The F1 of each label of a confusion table, from 0 to 1; 0 for a label that neither occurs nor is predicted."""
    f1: Numbers = 2 * np.diag(table) / np.maximum(table.sum(0) + table.sum(1), 1)
    return f1


def matthews(table: Counts) -> float:
    """Matthews' correlation of a confusion table of any number of labels, from -1 to 1; 0 where it is undefined."""
    total, right = float(table.sum()), float(np.trace(table))
    predicted, true = table.sum(0).astype(float), table.sum(1).astype(float)
    below = np.sqrt(max(total**2 - predicted @ predicted, 0.0)) * np.sqrt(max(total**2 - true @ true, 0.0))
    return float((right * total - predicted @ true) / below) if below > 0 else 0.0


def paired_difference(first: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """How much more often `other` is right than `first` on the same examples, and half its 95 % interval, in points.

    Only the examples on which they differ count, which makes it narrower than what two shares of other examples would
    have; half an example is added to each kind (Agresti and Min 2005).
    """
    gained, lost, count = int((other & ~first).sum()), int((first & ~other).sum()), len(first)
    spread = gained + lost + 1 - (gained - lost) ** 2 / (count + 2)
    return 100 * (gained - lost) / count, 196 * spread**0.5 / (count + 2)


def reliability(confidence: Numbers, right: NDArray[np.bool_]) -> tuple[list[dict[str, Any]], float]:
    """Confidence and accuracy in ten bins of confidence, in percent, and the expected calibration error.

    The error is the mean difference of the two over all examples (Guo et al. 2017).
    """
    at = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    rows = [
        {
            "examples": int((at == k).sum()),
            "confidence": 100 * float(confidence[at == k].mean()),
            "accuracy": 100 * float(right[at == k].mean()),
        }
        for k in range(_BINS)
        if (at == k).any()
    ]
    error = sum(row["examples"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, len(right))
    return rows, float(error)


def nearest(rows: Sequence[NDArray[Any]], train: Sequence[NDArray[Any]]) -> list[int]:
    """The index of the training row that is nearest to each row, by the squared distance of their values."""
    known = np.stack([row.ravel() for row in train]).astype(np.float32)
    squares, found = np.square(known).sum(1), list[int]()
    for i in range(0, len(rows), _ROWS):
        part = np.stack([row.ravel() for row in rows[i : i + _ROWS]]).astype(np.float32)
        found += (squares - 2 * part @ known.T).argmin(1).tolist()
    return found


def score_numbers(truth: Numbers, predictions: Numbers) -> dict[str, Any]:
    """Correlations in percent, 0 where they are undefined, and the root mean squared error."""
    return {
        "examples": len(truth),
        "pearson": 100 * float(np.nan_to_num(correlation(truth, predictions))),
        "spearman": 100 * float(np.nan_to_num(rank_correlation(truth, predictions))),
        "rmse": float(np.sqrt(np.mean((truth - predictions) ** 2))),
        "rmse_of_mean": float(truth.std()),
    }


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's r of (N) and (N); nan if one of them is constant."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else float("nan")


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rho of (N) and (N); nan if one of them is constant."""
    return correlation(ranks(first), ranks(second))


def ranks(values: ArrayLike) -> Numbers:
    """(N): the rank of each value, from 1; equal values share their mean rank."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    result: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return result


def score_tags(
    truth: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], unit: str = "words"
) -> dict[str, Any]:
    """The accuracy of the labels of words or other units, the mean F1 of the labels that occur or are predicted, and
    the F1 of spans where labels mark them; see `marks_spans`."""
    pairs = [(t, p) for ts, ps in zip(truth, predictions, strict=True) for t, p in zip(ts, ps, strict=True)]
    names, at = np.unique(np.array(pairs), return_inverse=True)
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(table, tuple(at.reshape(-1, 2).T), 1)
    scores: dict[str, Any] = {
        "examples": len(truth),
        unit: len(pairs),
        "accuracy": 100 * float(np.trace(table) / len(pairs)),
        "majority": 100 * float(table.sum(1).max() / len(pairs)),
        "macro_f1": 100 * float(label_f1(table).mean()),
    }
    if marks_spans({t for t, _ in pairs}):
        sides = truth, predictions
        true, predicted = ({(i, *span) for i, row in enumerate(side) for span in spans(row)} for side in sides)
        common = len(true & predicted)
        scores |= {
            "f1": 200 * common / max(1, len(true) + len(predicted)),
            "precision": 100 * common / max(1, len(predicted)),
            "recall": 100 * common / max(1, len(true)),
            "spans": len(true),
        }
    return scores


_SCHEMES = [set(marks) for marks in ("BI", "BIES", "BILU", "BMES", "BMEW")]
"""The marks before a label: Beginning, Inside or Middle, End or Last, Single, Unit or Whole; "O" = outside."""


def marks_spans(labels: Iterable[str]) -> bool:
    """Whether labels are those of a scheme of spans: "O", and "B-...", "I-..." (BIO); IOBES, BILOU, BMES, BMEWO."""
    marks = {label[0] if label[1:2] == "-" and label[2:] else "" for label in labels if label != "O"}
    return any(marks <= scheme for scheme in _SCHEMES)


def spans(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first, after the last, kind) of each span of labels of one of the schemes of `marks_spans`.

    A label within a span ("I-", "M-", "E-", "L-") that continues none begins one, as in the script of CoNLL-2000.
    """
    result: list[tuple[int, int, str]] = []
    kind, start = "", 0  # of the span that may go on
    for i, label in enumerate([*labels, "O"]):
        if kind and not (label[:2] in ("I-", "M-", "E-", "L-") and label[2:] == kind):
            result.append((start, i, kind))
            kind = ""
        if label != "O" and not kind:
            kind, start = label[2:], i
        if kind and label[:1] in "ELSUW":
            result.append((start, i + 1, kind))
            kind = ""
    return result
