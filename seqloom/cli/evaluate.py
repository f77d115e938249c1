"""seqloom eval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Overrides, Quiet, Right, print_json, print_table, verbosity
from seqloom.measures import MEASURES, count_of, measured

_SHOWN_LABELS = 12
Test = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, help="Source and reference file, or one file of pairs; or texts."),
]


def evaluate(
    run: str,
    /,
    *overrides: Overrides,
    test: Test = (),
    name: str = "",
    choices: str = "",
    shots: int = 0,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Score a run on a test set: BLEU, chrF, exact match, and by source length; perplexity of a language model;
    analogies and similarity lists for word vectors; accuracy, F1, correlation, confusion and calibration of labels.

    Without --test on the test data of its config. Decoding options as config keys: --decoding.beam 5; of a language
    model how far apart its windows are: --batches.stride 64. The result is saved as eval/NAME.json in the run.

    Args:
        choices: questions for a language model, which chooses the likeliest answer: JSON lines of
            {"context": "...", "choices": ["...", "..."], "answer": 0}.
        shots: how many of these, the first, stand solved before each of the others.
    """
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.evaluate import evaluate_choices, evaluate_run

    keep_freed_memory()
    reporter = Reporter(verbosity(quiet, False))
    if choices:
        scores = evaluate_choices(run, choices, shots, name, reporter)
    else:
        scores = evaluate_run(run, test, name, overrides, reporter)
    if json:
        print_json(scores)
    else:
        show_scores(scores)


def show_scores(scores: dict[str, Any]) -> None:
    """The scores as tables: all that were measured, and then what they are made of."""
    parts = [scores["test"]]
    if "seconds" in scores:
        parts[0] += f" in {scores['seconds']:.1f} s"
    if count := count_of(scores):
        parts.append(f"{count[0]:,} {count[1]}")
    rows = [
        (MEASURES[key].name, None if value is None else Right(MEASURES[key].shown(value)), MEASURES[key].note(scores))
        for key, value in measured(scores).items()
    ]
    print_table(", ".join(parts), ("score", "value", "what"), rows)
    for key, show in _DETAILS.items():
        if scores.get(key):
            show(scores)


def _group_table(title: str, column: str, names: Sequence[str], groups: Sequence[dict[str, Any]]) -> None:
    keys = list(measured(groups[0]))
    rows = [(name, row["sentences"], *(row[key] for key in keys)) for name, row in zip(names, groups, strict=True)]
    print_table(title, (column, "sentences", *(MEASURES[key].name for key in keys)), rows)


def _show_lengths(scores: dict[str, Any]) -> None:
    groups = scores["by_length"]
    names = [f"{r['from']} to {r['below'] - 1}" if r["below"] else f"{r['from']} and more" for r in groups]
    _group_table("by words of the source", "words", names, groups)


def _show_kinds(scores: dict[str, Any]) -> None:
    groups = scores["by_kind"]
    _group_table("by kind", "kind", [row["kind"] for row in groups], groups)


def _show_lists(scores: dict[str, Any]) -> None:
    for found in scores["lists"]:
        if found["kind"] == "similarity":
            row = (found["pairs"], found["known"], found["spearman"])
            print_table(found["file"], ("pairs", "known", MEASURES["spearman"].name), [row])
            continue
        rows = [(r["section"], r["asked"], r["known"], r["right"], r["accuracy"]) for r in found["sections"]]
        title = f"{found['file']}, among the {found['restrict']:,} most frequent words"
        print_table(title, ("section", "questions", "known", "right", "%"), rows)


def _show_confusion(scores: dict[str, Any]) -> None:
    if len(scores["labels"]) <= _SHOWN_LABELS:
        table = [(name, *row) for name, row in zip(scores["labels"], scores["confusion"], strict=True)]
        print_table("confusion", ("true \\ said", *scores["labels"]), table)


def _show_reliability(scores: dict[str, Any]) -> None:
    bins = [(row["confidence"], row["accuracy"], row["examples"]) for row in scores["reliability"]]
    print_table("by confidence", ("confidence, %", "right, %", "examples"), bins)


_DETAILS: dict[str, Callable[[dict[str, Any]], None]] = {
    "by_length": _show_lengths,
    "by_kind": _show_kinds,
    "lists": _show_lists,
    "confusion": _show_confusion,
    "reliability": _show_reliability,
}
"""How each part of a result is shown that is more than a score."""
