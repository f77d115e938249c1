"""The report of a run: curves, scores, samples, and attention over a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqloom import measures
from seqloom.errors import UsageError
from seqloom.files import write_sealed, write_text
from seqloom.inspection.report import ReportData, render
from seqloom.run import REPORT, Run
from seqloom.tasks.building import load_run
from seqloom.tasks.task import RunConfig, config_of
from seqloom.tasks.word_vectors.task import MAP_FILE, load_words
from seqloom.training.log import Reporter


def write_report(run: Run, reporter: Reporter, texts: Sequence[str] = ()) -> Path:
    """Writes report.html of a run. It shows attention over `texts`, by default over samples from validation."""
    samples = run.rows("samples.jsonl")
    loaded = load_run(run, RunConfig, precision="fp32", say=reporter.warn)
    seen = loaded.config.look(run, loaded.predictor(), texts, samples)
    data = ReportData(
        name=run.name,
        config=(run.path / "config.toml").read_text(encoding="utf-8"),
        info=run.info(),
        metrics=run.rows("metrics.jsonl"),
        samples=samples,
        evaluations=run.evaluations(reporter.warn),
        examples=seen.examples,
        parameters=seen.parameters,
        unit=loaded.config.unit,
        sections=seen.sections,
    )
    path = run.path / REPORT
    write_text(path, render(data))
    reporter.say(f"{path} written")
    return path


def finish(run: Run, reporter: Reporter) -> dict[str, Any]:
    """Writes the report of a trained run; returns a summary of the training."""
    write_report(run, reporter)
    training = run.info()["training"]
    metric = config_of(run, RunConfig).training.metric
    valid = [row for row in run.rows("metrics.jsonl") if row["kind"] == "valid"]
    best = measures.best(valid, metric) if metric in measures.MEASURES else next(reversed(valid), None)
    return {"run": str(run.path), **training, "best": best or {}, "report": str(run.path / REPORT)}


def map_words(path: str, words: Sequence[str], method: str) -> Path:
    """Draws a map of words (none = frequent ones) in the report of a run; returns the path of the report."""
    if Path(path).is_file():
        raise UsageError("a map is drawn in the report of a run", where=path, cure="name a run")
    run = Run.open(path)
    vectors = load_words(run)
    for word in words:
        vectors.unit(word)  # an unknown word raises before anything is written
    write_sealed(run.path / MAP_FILE, {"words": list(words), "method": method})
    return write_report(run, Reporter(0))
