"""What runs have forgotten of the one that they started from."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom import measures
from seqloom.errors import SeqloomError
from seqloom.files import Json, short_digest
from seqloom.run import Run
from seqloom.tasks.building import load_run
from seqloom.tasks.task import RunConfig, config_of
from seqloom.training.log import Reporter
from seqloom.workflows.evaluate import basis, evaluated, saved


def forgetting(runs: Sequence[Run], names: Sequence[str], reporter: Reporter) -> Json | None:
    """The scores of the run that all of these started from, on its own test data: its own, and with their weights.

    The heads that they do not have are those of that run. Each is saved as an evaluation of its run. None where they
    started from different runs, or that one cannot be tested.
    """
    start, *others = {config_of(run, RunConfig).begins_with for run in runs}
    if others or not start:
        return None
    try:
        base = Run.open(start)
        systems = {base.name: evaluated(base, (), reporter)}
        for run, name in zip(runs, names, strict=True):
            systems[name] = _kept(base, run, reporter)
    except SeqloomError as error:
        reporter.say(f"what was forgotten of {start} is not measured: {error.problem}")
        return None
    scores = {name: measures.measured(row, headline=True) for name, row in systems.items()}
    rows = [{"name": name, "scores": row} for name, row in scores.items()]
    return {"start": str(base.path), "measures": [*scores[base.name]], "systems": rows}


def _kept(base: Run, run: Run, reporter: Reporter) -> Json:
    """The scores of `base` with the weights of `run`: the saved ones if nothing has changed since, else new ones."""
    config = config_of(base, RunConfig)
    title = f"{config.title}-of-{base.name}"
    on = basis(run, config, (), (), reporter)
    on["basis"] = short_digest([on["basis"], base.best(reporter.warn).digest()])
    scores = run.usable_evaluation(title, reporter.warn)
    if scores.get("basis") == on["basis"]:
        return scores
    reporter.say(f"evaluating {base.path} with the weights of {run.path}")
    loaded = load_run(base, RunConfig, precision=config.measured_in, say=reporter.warn, weights_of=run)
    return saved(run, title, config.score(loaded.predictor(), (), (), reporter), on, reporter)
