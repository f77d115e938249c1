"""seqloom eval."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import (
    ENGINE,
    PRINTING,
    Engine,
    Printing,
    Task,
    bounded,
    config_keys,
    print_result,
    print_tables,
)
from seqloom.errors import UsageError
from seqloom.limits import Bounds

_MOST_COLUMNS = 13  # of a confusion: a terminal has no room for more
_FILES = "The test files: source and reference, a file of pairs, or texts; by default those of the config."
Test = Annotated[tuple[str, ...], Parameter(consume_multiple=True, help=_FILES)]


def evaluate(
    run: str,
    /,
    *overrides: Annotated[str, config_keys("--decoding.beam 5")],
    test: Test = (),
    name: str = "",
    task: Task = "",
    choices: str = "",
    shots: Annotated[int, bounded(Annotated[int, Bounds(0, 1000)])] = 0,
    by: Engine = ENGINE,
    printing: Printing = PRINTING,
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

    reporter = printing.reporter
    if choices and (by.engine == "ctranslate2" or by.int8):
        raise UsageError("questions are answered by our own engine", where="--choices", cure="leave --engine out")
    if choices:
        scores = evaluate_choices(run, choices, shots, name, reporter)
    else:
        scores = evaluate_run(run, test, name, overrides, reporter, task, by.engine, int8=by.int8)
    print_result(scores, printing.json, show_scores)


def show_scores(scores: dict[str, Any]) -> None:
    """Prints the scores as tables: first all of them, then their details."""
    from seqloom.inspection.scores import score_tables

    print_tables(table for table in score_tables(scores) if len(table.columns) <= _MOST_COLUMNS)
