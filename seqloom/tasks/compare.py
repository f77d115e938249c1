"""Finished runs side by side, on one test set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqloom import config as configs
from seqloom.errors import UsageError
from seqloom.evaluation.comparison import compare_translations
from seqloom.inspection.comparison import render_comparison
from seqloom.run import Run, write_json, write_text
from seqloom.tasks.evaluate import evaluate_run
from seqloom.tasks.translate import config_of, load_splits
from seqloom.training.log import Reporter


def compare_runs(
    paths: Sequence[str | Path], folder: str | Path, reporter: Reporter, test: Sequence[str] = ()
) -> dict[str, Any]:
    """Compares runs on a test set, and writes compare.json and compare.html into `folder`.

    Args:
        paths: the runs; the first is what the others are tested against.
        folder: where to write to.
        reporter: where progress goes.
        test: its files; empty = the test data of each run's config, which must be the same.

    Raises:
        UsageError: fewer than two runs, or two of one name.
    """
    opened = [Run.open(path) for path in paths]
    names = run_names(opened)
    if len(opened) < 2:
        raise UsageError("a comparison needs at least two runs", cure="seqloom compare RUN RUN ...")
    if len({*names}) < len(names):
        raise UsageError(f"the same run twice: {', '.join(map(str, paths))}", cure="name each run once")
    first, *_ = [config_of(run) for run in opened]  # all are read, so that each is of this task
    found = [_evaluated(run, test, reporter) for run in opened]
    asked = [[(row["source"], row["reference"]) for row in scores["translations"]] for scores in found]
    for run, rows in zip(opened, asked, strict=True):
        if rows != asked[0]:
            cure = "name one with --test SOURCE REFERENCE"
            raise UsageError(f"was not tested on what {names[0]} was", where=str(run.path), cure=cure)
    seen = Counter(word for text in load_splits(first.data).train.targets for word in text.split())
    sources, references = (list(side) for side in zip(*asked[0], strict=True))
    systems = {
        name: [row["translation"] for row in scores["translations"]] for name, scores in zip(names, found, strict=True)
    }
    reporter.say("drawing bootstrap samples")
    result = {"test": found[0]["test"], **compare_translations(systems, sources, references, seen)}
    result["by_kind"] = _by_kind(names, [scores["by_kind"] for scores in found])
    metric = "exact_match" if first.training.metric == "exact_match" else "bleu"
    reached = min(max((row[metric] for row in _valid(run)), default=0.0) for run in opened)
    result |= {"reached": reached, "metric": metric}
    for row, run, scores in zip(result["systems"], opened, found, strict=True):
        row |= _costs(run, scores, (metric, reached))
    target = Path(folder)
    write_json(target / "compare.json", result)
    write_text(target / "compare.html", render_comparison(result))
    reporter.say(f"{target / 'compare.html'} written")
    return result


def run_names(runs: Sequence[Run]) -> list[str]:
    """The names of the runs, or their paths where two are called alike."""
    short = [run.name for run in runs]
    return short if len({*short}) == len(short) else [str(run.path) for run in runs]


def _evaluated(run: Run, test: Sequence[str], reporter: Reporter) -> dict[str, Any]:
    """The run's scores on the test set: those it has, if they are of its best checkpoint; else made now."""
    title = Path(test[0]).name.split(".")[0] if test else "test"
    best = run.best(reporter.warn).path.name
    path = run.path / "eval" / f"{title}.json"
    if path.is_file():
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        decoding = configs.tree_of(config_of(run).decoding)
        if (scores["checkpoint"], scores.get("files"), scores["decoding"]) == (best, list(test), decoding):
            return scores
    reporter.say(f"evaluating {run.path}")
    return evaluate_run(run.path, test, title, (), reporter)


def _by_kind(names: Sequence[str], found: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "kind": rows[0]["kind"],
            "sentences": rows[0]["sentences"],
            "exact_match": {name: row["exact_match"] for name, row in zip(names, rows, strict=True)},
        }
        for rows in zip(*found, strict=True)
    ]


def _valid(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.rows("metrics.jsonl") if row.get("kind") == "valid"]


def _costs(run: Run, scores: dict[str, Any], goal: tuple[str, float]) -> dict[str, Any]:
    training = run.info().get("training", {})
    minutes, words = training.get("minutes"), training.get("words")
    there = next((row["seconds"] / 60 for row in _valid(run) if row[goal[0]] >= goal[1]), None)
    return {
        "parameters": training.get("parameters"),
        "minutes": minutes,
        "words_per_second": words / (60 * minutes) if words and minutes else None,
        "minutes_to_reach": there,
        "sentences_per_second": scores["sentences"] / scores["seconds"] if scores["seconds"] else None,
        "gigabytes": training.get("gigabytes"),
    }
