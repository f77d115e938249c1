"""The score of a run on a test set, saved in the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqloom.run import Json, Run, title_of, write_json
from seqloom.tasks.building import load_run
from seqloom.tasks.language_model.choices import score_choices
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.task import RunConfig, config_of
from seqloom.training.log import Reporter


def evaluate_run(path: str | Path, test: Sequence[str], name: str, options: Sequence[str], reporter: Reporter) -> Json:
    """Scores a run on test data, and saves all that its task has to say of it as eval/NAME.json.

    Args:
        path: the run.
        test: files like those it was trained on; empty = the test data of its config.
        name: what to save it as; by default the name of the first file, or "test".
        options: as on the command line, for what the task decodes.
        reporter: where progress goes.
    """
    config = config_of(Run.open(path), RunConfig)
    title, measured_in = title_of(name, test, config.title), config.measured_in
    loaded = load_run(path, RunConfig, precision=measured_in, say=reporter.warn)
    scores = loaded.config.score(loaded.predictor(), test, options, reporter)
    return _saved(loaded.run, title, scores, test)


def evaluate_choices(path: str | Path, file: str, shots: int, name: str, reporter: Reporter) -> Json:
    """Lets a language model choose answers, and saves its score as eval/NAME.json; see `score_choices`."""
    title = title_of(name, (file,))
    loaded = load_run(path, LanguageModelConfig, precision="fp32", say=reporter.warn)
    scores = score_choices(loaded.predictor(), file, shots, reporter)
    return _saved(loaded.run, title, scores, [file])


def _saved(run: Run, title: str, scores: Json, files: Sequence[str]) -> Json:
    facts = {"checkpoint": run.best(lambda text: None).path.name, "files": list(files)}
    result = {"test": title, **scores, **facts}
    write_json(run.evaluation_path(title), result)
    return result
