"""The scores of a run on a test set, saved in the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqloom.files import Json, write_sealed
from seqloom.run import Run, title_of
from seqloom.tasks.building import load_run
from seqloom.tasks.language_model.choices import score_choices
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.task import RunConfig, config_of
from seqloom.training.log import Reporter


def evaluate_run(
    path: str | Path | Run, test: Sequence[str], name: str, options: Sequence[str], reporter: Reporter
) -> Json:
    """Scores a run on test data, and saves the scores and predictions of its task as eval/NAME.json.

    Args:
        path: the run, or its directory.
        test: files like those it was trained on; empty = the test data of its config.
        name: what to save it as; by default the name of the first file, or "test".
        options: decoding options, as on the command line.
        reporter: prints progress.
    """
    run = Run.open(path)
    config = config_of(run, RunConfig)
    title = title_of(name, test, config.title)
    predictor = load_run(run, RunConfig, precision=config.measured_in, say=reporter.warn).predictor()
    return _saved(run, title, config.score(predictor, test, options, reporter), test, reporter)


def evaluate_choices(path: str | Path, file: str, shots: int, name: str, reporter: Reporter) -> Json:
    """Scores a language model on multiple-choice questions, and saves the result as eval/NAME.json; see
    `score_choices`."""
    title = title_of(name, (file,))
    loaded = load_run(path, LanguageModelConfig, precision="fp32", say=reporter.warn)
    return _saved(loaded.run, title, score_choices(loaded.predictor(), file, shots, reporter), [file], reporter)


def _saved(run: Run, title: str, scores: Json, files: Sequence[str], reporter: Reporter) -> Json:
    checkpoint = run.best(reporter.warn).path.name
    result = {"test": title, **scores, "checkpoint": checkpoint, "files": list(files)}
    write_sealed(run.evaluation_path(title), result)
    return result
