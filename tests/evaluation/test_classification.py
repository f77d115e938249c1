from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.evaluation.classification import (
    label_f1,
    marks_spans,
    matthews,
    paired_difference,
    ranks,
    reliability,
    score_labels,
    score_numbers,
    score_tags,
    spans,
)


def one_hot(said: list[int], size: int, sure: float = 0.8) -> np.ndarray:
    rest = (1 - sure) / (size - 1)
    return np.where(np.arange(size) == np.array(said)[:, None], sure, rest)


def test_a_paired_difference_is_that_of_the_examples_that_differ():
    first, other = np.zeros(200, bool), np.zeros(200, bool)
    first[:150] = True
    other[6:160] = True  # 6 lost, 10 gained
    difference, half = paired_difference(first, other)
    assert difference == pytest.approx(2)
    assert half == pytest.approx(100 * 1.96 * math.sqrt(6.5 + 10.5 - (10 - 6) ** 2 / 202) / 202)
    assert paired_difference(other, first) == (-difference, half)
    same, narrow = paired_difference(first, first)
    assert same == 0
    assert 0 < narrow < 1


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_interval_of_a_paired_difference_holds_the_truth(shift):
    generator, inside, truth = np.random.default_rng(0), 0, 100 * (_share(0.7 + shift) - _share(0.7))
    for _ in range(1000):
        hard = generator.random(300)
        first, other = hard + generator.normal(0, 0.2, 300) < 0.7, hard + generator.normal(0, 0.2, 300) < 0.7 + shift
        difference, half = paired_difference(first, other)
        inside += abs(difference - truth) <= half
    assert 930 <= inside <= 975


def _share(limit: float) -> float:
    """P(u + 0.2 z < limit) for a uniform u and a normal z."""
    grid = (np.arange(2_000) + 0.5) / 2_000
    return float(np.mean([0.5 * (1 + math.erf((limit - u) / 0.2 / math.sqrt(2))) for u in grid]))


def test_two_labels_by_hand():
    # 3 right of "1", 1 missed; 2 right of "0", 2 taken for "1"
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    found = score_labels(truth, one_hot([1, 1, 1, 0, 0, 0, 1, 1], 2), ["0", "1"])
    assert found["confusion"] == [[2, 2], [1, 3]]
    assert found["accuracy"] == pytest.approx(62.5)
    assert found["majority"] == pytest.approx(50)
    assert (found["f1"], found["f1_of"]) == (pytest.approx(100 * 6 / 9), "1")
    assert found["macro_f1"] == pytest.approx(100 * (6 / 9 + 4 / 7) / 2)
    assert found["matthews"] == pytest.approx(100 * (3 * 2 - 2 * 1) / math.sqrt(5 * 4 * 4 * 3))
    assert found["loss"] == pytest.approx(-(5 * math.log(0.8) + 3 * math.log(0.2)) / 8)
    assert found["calibration_error"] == pytest.approx(80 - 62.5)


def test_f1_of_other_names_is_of_the_rarer_label():
    found = score_labels(np.array([0, 1, 1]), one_hot([0, 1, 1], 2), ["bad", "good"])
    assert (found["f1_of"], found["f1"]) == ("bad", 100)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_matthews_is_the_correlation_of_indicators(pairs):
    table = np.zeros((3, 3), dtype=np.int64)
    for t, s in pairs:
        table[t, s] += 1
    truth, said = (np.eye(3)[[pair[k] for pair in pairs]] for k in (0, 1))
    truth, said = truth - truth.mean(0), said - said.mean(0)
    below = math.sqrt((truth**2).sum() * (said**2).sum())
    assert matthews(table) == pytest.approx((truth * said).sum() / below if below else 0.0, abs=1e-9)
    assert all(0 <= f <= 1 for f in label_f1(table))


def test_calibration_by_hand():
    confidence = np.array([0.95, 0.92, 0.55, 0.51, 1.0])
    rows, error = reliability(confidence, np.array([True, True, True, False, False]))
    assert [row["examples"] for row in rows] == [2, 3]
    assert error == pytest.approx(2 / 5 * (53 - 50) + 3 / 5 * (100 * 2.87 / 3 - 100 * 2 / 3))


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30))
def test_ranks_are_means_of_places(values):
    found = ranks(np.array(values, dtype=float))
    for value, rank in zip(values, found, strict=True):
        below, same = sum(v < value for v in values), values.count(value)
        assert rank == below + (same + 1) / 2


def test_numbers_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    found = score_numbers(truth, np.array([1.0, 4.0, 9.0, 16.0]))
    assert found["spearman"] == pytest.approx(100)
    assert found["pearson"] == pytest.approx(100 * np.corrcoef(truth, truth**2)[0, 1])
    assert found["rmse"] == pytest.approx(math.sqrt((4 + 36 + 144) / 4))
    constant = score_numbers(truth, np.ones(4))
    assert (constant["pearson"], constant["spearman"]) == (0, 0)


def test_spans_of_labels():
    assert spans(["B-A", "I-A", "O", "I-B", "B-B", "I-A"]) == [(0, 2, "A"), (3, 4, "B"), (4, 5, "B"), (5, 6, "A")]
    found = score_tags([["B-A", "I-A", "O", "B-B"]], [["B-A", "O", "O", "B-B"]])
    assert (found["accuracy"], found["f1"], found["recall"]) == (75, 50, 50)
    assert "f1" not in score_tags([["NOUN", "VERB"]], [["NOUN", "NOUN"]])


def test_spans_of_schemes_that_mark_the_end():
    labels = ["I-A", "E-A", "E-A", "S-B", "I-B", "O", "E-C", "B-C", "L-D", "U-A", "M-A", "W-A"]
    ends = [(0, 2, "A"), (2, 3, "A"), (3, 4, "B"), (4, 5, "B"), (6, 7, "C"), (7, 8, "C"), (8, 9, "D")]
    assert spans(labels) == [*ends, (9, 10, "A"), (10, 11, "A"), (11, 12, "A")]
    found = score_tags([["B-A", "E-A", "O", "S-B"]], [["B-A", "I-A", "O", "S-A"]])
    assert (found["spans"], found["f1"]) == (2, 50)


@given(st.lists(st.lists(st.sampled_from(["A", "B", ""]), max_size=7), max_size=6))
def test_every_scheme_finds_the_spans_it_was_written_with(kinds):
    """Runs of equal kinds are spans; each scheme writes them in its own labels."""
    runs = [(kind, len(list(run))) for row in kinds for kind, run in itertools.groupby(row)]
    ends = list(itertools.accumulate(size for _, size in runs))
    expected = [(end - size, end, kind) for (kind, size), end in zip(runs, ends, strict=True) if kind]
    for inside, last, single in ("IIB", "IES", "ILU", "MES", "MEW"):
        labels: list[str] = []
        for kind, size in runs:
            marks = [single] if size == 1 else ["B", *[inside] * (size - 2), last]
            labels += [f"{mark}-{kind}" if kind else "O" for mark in marks]
        assert spans(labels) == expected
        assert marks_spans(labels)


def test_labels_that_mark_no_spans():
    for labels in (["NOUN"], ["B-A", "E-A", "L-A"], ["B"], ["B-"], ["B-A", "S-A", "U-A"], ["O", "X-A"]):
        assert not marks_spans(labels)
