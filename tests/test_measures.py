from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom import measures
from seqloom.evaluation.answers import score_answers
from seqloom.evaluation.classification import score_labels, score_numbers, score_tags
from seqloom.evaluation.forecasts import AUTOREGRESSION, LAST, MEAN, score_forecasts
from seqloom.evaluation.perplexity import perplexities
from seqloom.evaluation.preferences import score_preferences
from seqloom.evaluation.translation import score_translations
from seqloom.measures import MEASURES
from seqloom.training.config import Metric

LESS = {
    *("loss", "training_loss", "perplexity", "word_perplexity", "bits_per_character", "bits_per_byte"),
    *("rmse", "mae", "calibration_error", "minutes", "aer"),
}
NEITHER = {"majority", "by_chance", "standard_error", "unknown_share"} | {
    *("rmse_of_mean", "rmse_of_last", "rmse_of_ar"),
    *("reward_start", "divergence", "entropy", "answer_tokens", "truncated"),
    *("nearest_bleu", "nearest_cider"),
    *("kl", "accuracy_low", "accuracy_high", "longer_accuracy", "reward_chosen", "reward_rejected"),
}
FORECASTS = {name: np.zeros((1, 2, 1)) for name in (LAST, MEAN, AUTOREGRESSION)}
SIZES = {"words": 7, "characters": 31, "bytes": 37}
RESULTS: dict[str, dict[str, Any]] = {
    "translation": score_translations(["a b c d e"], ["A B C D E"], ["A B C D F"]),
    "captions": score_translations((), ["a b"] * 20, [("a b", "c d")] * 20),
    "text": perplexities(11.0, 13, SIZES),
    "labels": score_labels(np.array([0, 1, 1]), np.array([[0.7, 0.3], [0.4, 0.6], [0.8, 0.2]]), ["a", "b"]),
    "numbers": score_numbers(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])),
    "tags": score_tags([["B-A", "O"]], [["B-A", "B-A"]]),
    "answers": score_answers(["the cat", ""], [["a cat"], []]),
    "forecasts": score_forecasts(np.ones((1, 2, 1)), np.zeros((1, 2, 1)), FORECASTS, np.ones(1), ["x"]),
    "preferences": score_preferences(np.array([1.0, -1.0]), np.array([(1, 2), (1, 2)])),
}


def test_a_key_is_there_once() -> None:
    assert len({measure.key for measure in measures._ALL}) == len(measures._ALL) == len(MEASURES)
    assert len({measure.name for measure in MEASURES.values()}) == len(MEASURES)


@pytest.mark.parametrize("key", MEASURES)
def test_the_direction_of_each(key: str) -> None:
    assert MEASURES[key].better == ("less" if key in LESS else "" if key in NEITHER else "more")
    assert (key in measures.directed()) == (key not in NEITHER)


@pytest.mark.parametrize("result", RESULTS)
def test_what_is_evaluated_is_known(result: str) -> None:
    scores = RESULTS[result]
    found = {key for key, value in scores.items() if isinstance(value, float)}
    assert found
    assert found == set(measures.measured(scores))


def test_every_metric_of_a_training_is_known_and_has_a_direction() -> None:
    assert {*get_args(Metric)} - {"latest"} <= {*measures.directed()}


@given(st.sampled_from(sorted(MEASURES)), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=7))
def test_the_best_reaches_all_others_and_all_reach_the_worst(key: str, values: list[float]) -> None:
    best = measures.best([{key: value} for value in values], key)
    assert best is not None
    assert best[key] == (min(values) if key in LESS else max(values))
    worst = measures.worst(values, key)
    assert worst == (max(values) if key in LESS else min(values))
    assert all(measures.reaches(key, best[key], value) and measures.reaches(key, value, worst) for value in values)
    assert all(measures.rank(key, measures.rank(key, value)) == value for value in values)


def test_what_is_no_number_is_never_best_and_reaches_nothing() -> None:
    rows = [{"loss": math.nan}, {"loss": None}, {"bleu": 3.0}, {"loss": 2.0, "step": 5}, {"loss": 2.0, "step": 7}]
    assert measures.best(rows, "loss") == {"loss": 2.0, "step": 5}
    assert measures.best(rows[:3], "loss") is None
    for value in (None, math.nan):
        assert not measures.reaches("loss", value, 1e9)
        assert not measures.reaches("bleu", value, 0)
    assert measures.reaches("minutes", 3, 3.0)


def test_scores_come_in_the_order_of_the_table_without_what_is_none() -> None:
    scores = {"perplexity": None, "files": 3.0, "bleu": 7, "test": "x", "chrf": 5.0, "accuracy": True, "recall": "no"}
    assert list(measures.measured(scores).items()) == [("bleu", 7), ("chrf", 5.0), ("perplexity", None)]
    assert list(measures.measured(RESULTS["labels"], headline=True)) == ["accuracy", "f1", "matthews"]


def test_how_scores_are_written() -> None:
    names = {key: MEASURES[key].name for key in ("bleu", "accuracy", "bits_per_byte", "minutes")}
    assert names == {
        "bleu": "BLEU",
        "accuracy": "accuracy, %",
        "bits_per_byte": "bits per byte",
        "minutes": "minutes of training",
    }
    shown = [MEASURES[key].shown(value) for key, value in (("bleu", 7), ("loss", 1.23456), ("minutes", 1234.56))]
    assert shown == ["7.00", "1.235", "1,234.6"]
    assert MEASURES["perplexity"].shown(5.0e21) == "5.00e+21"


def test_a_note_is_the_first_that_the_result_can_fill_in() -> None:
    perplexity = MEASURES["perplexity"]
    assert perplexity.note({"tokens": 1234, "reading": "its state carries over"}) == (
        "of 1,234 tokens; its state carries over"
    )
    assert perplexity.note({"tokens": None, "sentences": 11}) == "per token of 11 references"
    assert perplexity.note({"perplexity": 3.0}) == ""
    assert MEASURES["distinct_1"].note({}) == "distinct words in all translations"


@pytest.mark.parametrize(
    ("scores", "count"),
    [
        ({"sentences": 3, "bleu": 1.0}, (3, "sentences")),
        ({"examples": 5, "words": 9}, (5, "examples")),
        ({"examples": None}, None),
        ({}, None),
    ],
)
def test_what_scores_are_of(scores: dict[str, Any], count: tuple[int, str] | None) -> None:
    assert measures.count_of(scores) == count


@pytest.mark.parametrize(("count", "stated"), [(0, None), (1, None), (19, None), (20, 1.5), (2000, 1.5)])
def test_few_examples_carry_no_interval(count: int, stated: float | None) -> None:
    assert measures.certain(1.5, count) == stated
