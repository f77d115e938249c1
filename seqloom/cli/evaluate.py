"""seqloom eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@Parameter(name="*")
@dataclass(frozen=True)
class Other:
    """What is scored in place of translations or texts.

    Args:
        choices: Multiple-choice questions for a language model, which chooses the most probable answer: JSON lines of
            {"context": "...", "choices": ["...", "..."], "answer": 0}.
        shots: The number of questions, the first of the file, shown with their answers before each other one.
        alignments: Links of words for a translation model, whose attention is compared with them: for each pair of the
            test set a line of i-j (sure) and i?j (possible), the words of both sides counted from 0.
    """

    choices: str = ""
    shots: Annotated[int, bounded(Annotated[int, Bounds(0, 1000)])] = 0
    alignments: str = ""

    def check(self, by: Engine, test: Sequence[str], overrides: Sequence[str]) -> None:
        """Raises UsageError for two of them, and for what means nothing beside one."""
        if self.choices and self.alignments:
            raise UsageError("are for models of other kinds", where="--choices and --alignments", cure="leave one out")
        if self.shots and not self.choices:
            raise UsageError("examples are questions", where="--shots", cure="name their file: --choices FILE")
        unused = [*["--engine"] * (by.engine == "ctranslate2"), *overrides[:1]]
        unused += ["--test"] * bool(self.choices and test) + ["--int8"] * bool(self.alignments and by.int8)
        if unused and (self.choices or self.alignments):
            where, problem = "--choices", "its questions are answered by our own engine, and nothing else is read"
            if self.alignments:
                where, problem = "--alignments", "the references are read, and nothing is decoded"
            raise UsageError(problem, where=where, cure=f"leave {' and '.join(unused)} out")


OTHER = Other()


def evaluate(
    run: str,
    /,
    *overrides: Annotated[str, config_keys("--decoding.beam 5")],
    test: Test = (),
    name: str = "",
    task: Task = "",
    on: Other = OTHER,
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
    """
    from seqloom.workflows.evaluate import evaluate_alignments, evaluate_choices, evaluate_run

    reporter = printing.reporter
    on.check(by, test, overrides)
    if on.choices:
        scores = evaluate_choices(run, on.choices, on.shots, name, reporter, task, int8=by.int8)
    elif on.alignments:
        scores = evaluate_alignments(run, test, on.alignments, name, reporter, task)
    else:
        scores = evaluate_run(run, test, name, overrides, reporter, task, by.engine, int8=by.int8)
    print_result(scores, printing.json, show_scores)


def show_scores(scores: dict[str, Any]) -> None:
    """Prints the scores as tables: first all of them, then their details."""
    from seqloom.inspection.scores import score_tables

    print_tables(table for table in score_tables(scores) if len(table.columns) <= _MOST_COLUMNS)
