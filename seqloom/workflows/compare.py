"""Finished runs of one task side by side, on one test set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqloom import measures
from seqloom.errors import UsageError
from seqloom.evaluation.classification import paired_difference
from seqloom.evaluation.preferences import wilson
from seqloom.files import Json, output_in, write_json, write_text
from seqloom.inspection.comparison import render_comparison
from seqloom.measures import MEASURES, certain
from seqloom.run import Run
from seqloom.tasks.task import RunConfig, config_of, refuse_other_tests
from seqloom.training.log import Reporter
from seqloom.workflows.evaluate import evaluated
from seqloom.workflows.forgetting import forgetting

OUTPUTS = "compare.json", "compare.html"


def compare_runs(
    paths: Sequence[str | Path | Run], folder: str | Path, reporter: Reporter, test: Sequence[str] = ()
) -> Json:
    """Compares runs on a test set, and writes compare.json and compare.html to `folder`.

    Args:
        paths: the runs; the first is the baseline.
        folder: where the files are written.
        reporter: prints progress.
        test: test files; empty = the test data of each run's config, which must be the same.

    Raises:
        UsageError: fewer than two runs, the same run twice, runs of different tasks, or different test data.
    """
    opened = [Run.open(path) for path in paths]
    names = run_names(opened)
    if len(opened) < 2:
        raise UsageError("a comparison needs at least two runs", cure="seqloom compare RUN RUN ...")
    if len({*names}) < len(names):
        raise UsageError(f"the same run twice: {', '.join(str(run.path) for run in opened)}", cure="name each run once")
    configs = [config_of(run, RunConfig) for run in opened]
    # A run that was aligned is also one of what it started from.
    config = next((one for one in configs if all(isinstance(other, type(one)) for other in configs)), None)
    if config is None:
        task, other, *_ = dict.fromkeys(config.task for config in configs)
        raise UsageError(f"these are runs of the tasks {task!r} and {other!r}", cure="compare runs of one task")
    target = Path(folder)
    with output_in(target, *OUTPUTS):
        evaluations = [evaluated(run, test, reporter) for run in opened]
        metric = config.training.metric if config.training.metric in MEASURES else "loss"
        same = len({_scored_on(run, of_tokens=metric == "loss" and "tokens" in config.unit) for run in opened}) == 1
        bests = [best[metric] for run in opened if (best := measures.best(_valid(run), metric)) is not None]
        reached = measures.worst(bests, metric) if same and len(bests) == len(opened) and any(bests) else None
        result = {"test": evaluations[0]["test"]}
        result |= config.compared(opened, names, evaluations, reporter) or scores_alone(opened, names, evaluations)
        result |= {"task": config.task, "reached": reached, "metric": metric, "unit": config.unit, "same_valid": same}
        if not same:
            reporter.say("the validation data differ, or the tokens of a loss: no times to reach one score")
        for row, run, scores in zip(result["systems"], opened, evaluations, strict=True):
            row |= {"valid": _valid(run)} | _costs(run, scores, metric, reached)
        result["forgetting"] = forgetting(opened, names, reporter)
        write_json(target / OUTPUTS[0], result)
        write_text(target / OUTPUTS[1], render_comparison(result))
    reporter.say(f"{target / OUTPUTS[1]} written")
    return result


def scores_alone(runs: Sequence[Run], names: Sequence[str], evaluations: Sequence[Json]) -> Json:
    """The scores of several runs on one test set, with 95 % intervals for percentages of `LEAST` examples or more.

    For predicted labels also how much more often each is right than the first, with the interval of the pairs.
    """
    refuse_other_tests([scores.get("examples", scores.get("bytes")) for scores in evaluations], runs, names)
    systems: list[Json] = []
    for name, scores in zip(names, evaluations, strict=True):
        shown = measures.measured(scores, headline=True)
        shares = {key: value / 100 for key, value in shown.items() if MEASURES[key].share and value is not None}
        count = scores.get("examples", 0)
        halves = {key: (high - low) / 2 for key, p in shares.items() for low, high in [wilson(round(p * count), count)]}
        intervals = {key: certain(half, count) for key, half in halves.items()} if "examples" in scores else {}
        systems.append({"name": name, "scores": shown, "intervals": intervals})
    first, right = evaluations[0], [_right(scores) for scores in evaluations]
    for system, each in zip(systems[1:], right[1:], strict=True):
        if right[0] is not None and each is not None:
            system["difference"], half = paired_difference(right[0], each)
            system["difference_interval"] = certain(half, len(each))
    return {"systems": systems, "examples": first.get("examples")} | {k: first[k] for k in ("majority",) if k in first}


def _right(scores: Json) -> np.ndarray | None:
    """(N) whether each predicted label is the true one; None where no labels were predicted."""
    rows = scores.get("predictions", ())
    if "accuracy" not in scores or not rows or not {"label", "prediction"} <= rows[0].keys():
        return None
    return np.array([row["label"] == row["prediction"] for row in rows])


def run_names(runs: Sequence[Run]) -> list[str]:
    """The names of the runs, or their paths where two have the same name."""
    short = [run.name for run in runs]
    return short if len({*short}) == len(short) else [str(run.path) for run in runs]


def _scored_on(run: Run, *, of_tokens: bool) -> tuple[str | None, str | None]:
    """Digests of the validation data of a run, and of the tokenizer where a score is a mean over its tokens."""
    info = run.info()
    return info.get("corpus", {}).get("valid"), info.get("files", {}).get("tokenizer.json") if of_tokens else None


def _valid(run: Run) -> list[Json]:
    return [row for row in run.rows("metrics.jsonl") if row.get("kind") == "valid"]


def _costs(run: Run, scores: Json, metric: str, reached: float | None) -> Json:
    training = run.info().get("training", {})
    minutes, tokens = training.get("minutes"), training.get("tokens")
    curve = [(row["seconds"] / 60, row[metric]) for row in _valid(run) if metric in row]
    arrivals = (when for when, value in curve if reached is not None and measures.reaches(metric, value, reached))
    count = measures.count_of(scores)
    return {
        "parameters": training.get("parameters"),
        "learned": None if training.get("learned") == training.get("parameters") else training.get("learned"),
        "minutes": minutes,
        "tokens_per_second": tokens / (60 * minutes) if tokens and minutes else None,
        "minutes_to_reach": next(arrivals, None),
        "sentences_per_second": count[0] / scores["seconds"] if count and scores["seconds"] else None,
        "gigabytes": training.get("gigabytes"),
        "megabytes": run.best(lambda text: None).weights.stat().st_size / 1e6,
    }
