"""How right labels and numbers are: accuracy, F1, Matthews, correlation, confusion and calibration; all in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqloom.evaluation.correlation import Numbers, correlation, rank_correlation

_BINS = 10

Counts = NDArray[np.int64]


def score_labels(truth: Counts, probabilities: Numbers, names: Sequence[str]) -> dict[str, Any]:
    """The measures of the most probable labels.

    Args:
        truth: (N) the right labels, by number.
        probabilities: (N L).
        names: of the labels.

    Returns:
        accuracy, majority (the accuracy of always saying the most frequent label), f1 (of two labels: of "1" where
        they are 0 and 1, else of the rarer one; of more: the mean of all), macro_f1, matthews (Gorodkin 2004),
        calibration_error (see `reliability`), loss (nats), "confusion" (a row for each true label) and "reliability".
    """
    said, size = probabilities.argmax(1), len(names)
    table = np.zeros((size, size), dtype=np.int64)
    np.add.at(table, (truth, said), 1)
    f1 = label_f1(table)
    present = (table.sum(0) + table.sum(1)) > 0
    found: dict[str, Any] = {
        "examples": len(truth),
        "accuracy": 100 * float(np.mean(truth == said)),
        "majority": 100 * float(table.sum(1).max() / len(truth)),
        "macro_f1": 100 * float(f1[present].mean()),
        "matthews": 100 * matthews(table),
        "loss": float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-30)).mean()),
        "labels": list(names),
        "confusion": table.tolist(),
    }
    positive = 1 if sorted(names) == ["0", "1"] else int(table.sum(1).argmin())
    found["f1"] = 100 * float(f1[positive]) if size == 2 else found["macro_f1"]
    found["f1_of"] = names[positive] if size == 2 else "all"
    rows, error = reliability(probabilities.max(1), truth == said)
    return found | {"calibration_error": error, "reliability": rows}


def label_f1(table: Counts) -> Numbers:
    """The F1 of each label, from 0 to 1, of a confusion table; 0 for a label that neither is nor was said."""
    found: Numbers = 2 * np.diag(table) / np.maximum(table.sum(0) + table.sum(1), 1)
    return found


def matthews(table: Counts) -> float:
    """Matthews' correlation of a confusion table of any number of labels, from -1 to 1; 0 where it is undefined."""
    total, right = float(table.sum()), float(np.trace(table))
    said, true = table.sum(0).astype(float), table.sum(1).astype(float)
    below = np.sqrt(max(total**2 - said @ said, 0.0)) * np.sqrt(max(total**2 - true @ true, 0.0))
    return float((right * total - said @ true) / below) if below > 0 else 0.0


def reliability(confidence: Numbers, right: NDArray[np.bool_]) -> tuple[list[dict[str, Any]], float]:
    """Confidence and accuracy of ten bins of confidence, in percent, and the expected calibration error.

    That is the mean difference of the two over all examples (Guo et al. 2017).
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


def score_numbers(truth: Numbers, found: Numbers) -> dict[str, Any]:
    """Correlations in percent, 0 where they are undefined, and the root of the mean squared error."""
    return {
        "examples": len(truth),
        "pearson": 100 * float(np.nan_to_num(correlation(truth, found))),
        "spearman": 100 * float(np.nan_to_num(rank_correlation(truth, found))),
        "rmse": float(np.sqrt(np.mean((truth - found) ** 2))),
        "rmse_of_mean": float(truth.std()),
    }


def score_tags(truth: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The accuracy of the labels of words; and F1 of spans where labels are "O", "B-...", "I-..."."""
    pairs = [(t, s) for ts, ss in zip(truth, said, strict=True) for t, s in zip(ts, ss, strict=True)]
    counts = np.unique([t for t, _ in pairs], return_counts=True)[1]
    found: dict[str, Any] = {
        "examples": len(truth),
        "words": len(pairs),
        "accuracy": 100 * sum(t == s for t, s in pairs) / len(pairs),
        "majority": 100 * float(counts.max() / len(pairs)),
    }
    if all(t == "O" or t[:2] in ("B-", "I-") for t, _ in pairs):
        wanted, given = ({(i, *span) for i, row in enumerate(rows) for span in spans(row)} for rows in (truth, said))
        common = len(wanted & given)
        found |= {
            "f1": 200 * common / max(1, len(wanted) + len(given)),
            "precision": 100 * common / max(1, len(given)),
            "recall": 100 * common / max(1, len(wanted)),
            "spans": len(wanted),
        }
    return found


def spans(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first, after the last, kind) of each span of BIO labels; an "I-" that continues nothing begins one."""
    found: list[tuple[int, int, str]] = []
    kind, start = "", 0
    for i, label in enumerate([*labels, "O"]):
        if label[:2] == "I-" and label[2:] == kind:
            continue
        if kind:
            found.append((start, i, kind))
        kind, start = ("", i) if label == "O" else (label[2:], i)
    return found
