"""seqloom eval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Quiet, Right, bounded, config_keys, make_reporter, print_result, print_table
from seqloom.limits import Bounds
from seqloom.measures import MEASURES, count_of, measured

_SHOWN_LABELS = 12
Test = Annotated[
    tuple[str, ...],
    Parameter(
        consume_multiple=True,
        help="The test files: source and reference, a file of pairs, or texts; by default those of the config.",
    ),
]


def evaluate(
    run: str,
    /,
    *overrides: Annotated[str, config_keys("--decoding.beam 5")],
    test: Test = (),
    name: str = "",
    choices: str = "",
    shots: Annotated[int, bounded(Annotated[int, Bounds(0, 1000)])] = 0,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Evaluate a run on a test set.

    Translation: BLEU, chrF and exact match, also by source length. Language models: perplexity. Word vectors:
    analogies and similarity lists. Labels: accuracy, F1, correlation, confusion and calibration. Decoding options are
    config keys: --decoding.beam 5. For a language model, --batches.stride 64 moves its window by 64 tokens at a time.

    Args:
        run: The run directory.
        name: The name of the result, eval/NAME.json in the run; by default that of the first test file.
        choices: Multiple-choice questions for a language model, which chooses the most probable answer: JSON lines of
            {"context": "...", "choices": ["...", "..."], "answer": 0}.
        shots: The number of questions, the first of the file, shown with their answers before each other one.
    """
    from seqloom.workflows.evaluate import evaluate_choices, evaluate_run

    reporter = make_reporter(quiet)
    if choices:
        scores = evaluate_choices(run, choices, shots, name, reporter)
    else:
        scores = evaluate_run(run, test, name, overrides, reporter)
    print_result(scores, json, show_scores)


def show_scores(scores: dict[str, Any]) -> None:
    """Prints the scores as tables: first all of them, then their details."""
    parts = [scores["test"]]
    if "seconds" in scores:
        parts[0] += f" in {scores['seconds']:.1f} s"
    if count := count_of(scores):
        parts.append(f"{count[0]:,} {count[1]}")
    rows = [
        (MEASURES[key].name, None if value is None else Right(MEASURES[key].shown(value)), MEASURES[key].note(scores))
        for key, value in measured(scores).items()
    ]
    print_table(", ".join(parts), ("score", "value", "note"), rows)
    for key, show in _DETAILS.items():
        if scores.get(key):
            show(scores)


def length_names(groups: Sequence[dict[str, Any]]) -> list[str]:
    """The names of groups of sentences by length."""
    return [f"{r['from']} to {r['below'] - 1}" if r["below"] else f"{r['from']} and more" for r in groups]


def _group_table(title: str, column: str, names: Sequence[str], groups: Sequence[dict[str, Any]]) -> None:
    keys = list(measured(groups[0]))
    rows = [(name, row["sentences"], *(row[key] for key in keys)) for name, row in zip(names, groups, strict=True)]
    print_table(title, (column, "sentences", *(MEASURES[key].name for key in keys)), rows)


def _show_lengths(scores: dict[str, Any]) -> None:
    _group_table("by words of the source", "words", length_names(scores["by_length"]), scores["by_length"])


def _show_kinds(scores: dict[str, Any]) -> None:
    _group_table("by kind", "kind", [row["kind"] for row in scores["by_kind"]], scores["by_kind"])


def _show_lists(scores: dict[str, Any]) -> None:
    for test in scores["lists"]:
        if test["kind"] == "similarity":
            row = (test["pairs"], test["known"], test["spearman"])
            print_table(test["file"], ("pairs", "known", MEASURES["spearman"].name), [row])
            continue
        rows = [(r["section"], r["asked"], r["known"], r["right"], r["accuracy"]) for r in test["sections"]]
        title = f"{test['file']}, among the {test['restrict']:,} most frequent words"
        print_table(title, ("section", "questions", "known", "correct", "accuracy, %"), rows)


def _show_confusion(scores: dict[str, Any]) -> None:
    if len(scores["labels"]) <= _SHOWN_LABELS:
        table = [(name, *row) for name, row in zip(scores["labels"], scores["confusion"], strict=True)]
        print_table("confusion matrix", ("true \\ predicted", *scores["labels"]), table)


def _show_reliability(scores: dict[str, Any]) -> None:
    bins = [(row["confidence"], row["accuracy"], row["examples"]) for row in scores["reliability"]]
    print_table("calibration", ("confidence, %", "accuracy, %", "examples"), bins)


_DETAILS: dict[str, Callable[[dict[str, Any]], None]] = {
    "by_length": _show_lengths,
    "by_kind": _show_kinds,
    "lists": _show_lists,
    "confusion": _show_confusion,
    "reliability": _show_reliability,
}
"""Prints the parts of a result that are more than a score."""
