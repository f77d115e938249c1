"""Training: from a config to a finished run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqloom import config as configs
from seqloom.errors import RunError, UsageError, counted
from seqloom.files import FROZEN, Json
from seqloom.models.assemblies import parameter_count
from seqloom.run import REPORT, Run
from seqloom.tasks import read_config
from seqloom.tasks.building import adaptation, begin, new_model, restore
from seqloom.tasks.resume import refuse_another
from seqloom.tasks.task import Prepared, RunConfig
from seqloom.training.checkpoint import Progress, frozen_weights, progress_at, save_frozen
from seqloom.training.fit import Plan, complete, fit
from seqloom.training.log import Reporter
from seqloom.training.precision import dtype_for, peak_bytes, pick_device, processor_flags, slow_here
from seqloom.workflows.estimate import estimate, paced, resumed


def train(config: str | Path | RunConfig, *overrides: str, reporter: Reporter | None = None) -> Run:
    """Trains the run that a config describes, or resumes it, and returns it.

    Args:
        config: a TOML file or a config object.
        overrides: config keys as on the command line, for a file: "--training.steps", "1000".
        reporter: prints progress; by default nothing is printed.
    """
    if isinstance(config, (str, Path)):
        config = read_config(config, overrides)
    elif overrides:
        raise UsageError("overrides are for a config file", cure="dataclasses.replace changes a config object")
    return train_run(config, reporter or Reporter(0))


def started(config: RunConfig, prepared: Prepared, reporter: Reporter) -> nn.Module:
    """The model at the start of a new training, on its device."""
    device = pick_device(config.training.device)
    model = new_model(config, prepared.assets, device)
    begin(config, model, prepared.assets, reporter)
    return model.to(device)


def train_run(config: RunConfig, reporter: Reporter, *, forecast: bool = False) -> Run:
    """Trains to the end and returns the run; resumes where an earlier call stopped.

    With `forecast` a new training begins with the minutes to expect.
    """
    path = Path(config.run or f"runs/{config.task}")
    run = Run(path)
    if run.begun or run.checkpoints():
        run = Run.open(path)
    with run.locked():
        _train(run, config, reporter, forecast)
    return run


def _train(run: Run, config: RunConfig, reporter: Reporter, forecast: bool) -> None:
    exists = run.begun
    if exists:
        _refuse_unfit(run, config)
    threads = config.training.threads or (int(run.info()["threads"]) if exists else 0) or os.cpu_count() or 1
    torch.set_num_threads(threads)
    reporter.say(f"reading the data of {run.path}")
    device = pick_device(config.training.device)
    prepared = config.prepare(reporter, run)
    if exists:
        saved = configs.load(type(config), run.path / "config.toml")
        config, begun = resumed(config, saved)
        refuse_another(run, begun, config, prepared.corpus)
    elif forecast or config.training.minutes:
        config = _measured(config, prepared, reporter)
    model, base = _model(run, config, prepared, device, reporter)
    model, frozen = model.to(device), frozen_weights(model)
    plan = prepared.plan(config, model)  # before anything is written: what it refuses must leave no run
    about = facts(config, prepared.corpus, threads) | {"steps": plan.training.steps, "device": device.type}
    about["type"] = _type(config, device, reporter)
    if exists:  # keys that may change keep the values of this call
        progress = progress_at(run.newest(lambda fault: None))
        _refuse_fewer_steps(run, progress, plan)
        if complete(progress, plan.training):
            if config.training != begun.training:
                reporter.warn("this training is complete: the new [training] is not used")
            config, about = replace(config, training=saved.training), {"corpus": prepared.corpus}
        else:
            _warn_of_changes(run, about, plan, progress, reporter)
            about["training"] = {}  # not finished any more
            (run.path / REPORT).unlink(missing_ok=True)  # it shows the state before; a finished training has a new one
        run.reopen_lines(reporter.warn)
        run.write_config(configs.to_toml(config))
        run.update_info(**about)
    else:
        files = [*prepared.assets.save(run.path), *save_frozen(run.path, model, frozen, base)]
        Run.create(run.path, configs.to_toml(config), about, files)
    frozen.clear()  # where training computes in another type, the model has copies
    every, learned = parameter_count(model), plan.learner.learned
    reporter.say(f"{prepared.sizes}; {every:,} parameters" + f", {learned:,} of them learned" * (learned < every))
    _record(run, fit(run, plan, reporter), model, learned)


def _type(config: RunConfig, device: torch.device, reporter: Reporter) -> str:
    """The name of the type that the training computes in."""
    dtype = dtype_for(config.training.precision, device)
    name = str(dtype).removeprefix("torch.")
    if slow_here(dtype, device):
        problem = f"this processor computes {name} in software, many times slower"
        reporter.warn(f"{problem}: set training.precision = 'fp32'")
    return name


def _refuse_unfit(run: Run, config: RunConfig) -> None:
    """What is damaged in the run, or does not suit the config, is refused before anything is replaced or trained."""
    run.refuse_lost()
    if (task := run.info()["task"]) != config.task:
        cure = "choose another directory with --run"
        raise RunError(f"is a run of the task {task!r}, not {config.task!r}", where=str(run.path), cure=cure)
    run.pointer("best")
    for name in run.info()["files"]:
        run.asset(name)


def _model(
    run: Run, config: RunConfig, prepared: Prepared, device: torch.device, reporter: Reporter
) -> tuple[nn.Module, Path | None]:
    """The model to train, with all weights that the newest checkpoint has not; and the file that it started from."""
    model = new_model(config, prepared.assets, device)
    if not run.checkpoints():
        return model, begin(config, model, prepared.assets, reporter)
    if run.asset(FROZEN) and (newest := run.newest(lambda fault: None)):
        restore(model, adaptation(config), newest.path)
    return model, None


def _refuse_fewer_steps(run: Run, progress: Progress, plan: Plan) -> None:
    if plan.training.steps < progress.step:
        problem = f"this training has taken {counted(progress.step, 'step')}; {plan.training.steps:,} are fewer"
        raise RunError(problem, where=str(run.path), cure="ask for as many or for more, or begin another with --run")


def _warn_of_changes(run: Run, now: Json, plan: Plan, progress: Progress, reporter: Reporter) -> None:
    """Warns where training goes on under other conditions, which the exact result depends on."""
    before, step = run.info(), progress.step
    if not step:
        return
    for key in ("threads", "device", "type", "versions", "processor"):
        if before.get(key) != now[key]:
            was, becomes = (json.dumps(value).replace('"', "") for value in (before.get(key), now[key]))
            reporter.warn(f"{key}: {becomes} instead of {was}: the result is not the same to the bit")
    old, new = (plan.lr * plan.schedule.factor(step, about["steps"], 0) for about in (before, now))
    if old != new:
        steps = f"{now['steps']:,} steps instead of {before['steps']:,}"
        reporter.warn(f"{steps}: the learning rate at step {step:,} is {new:.2e} instead of {old:.2e}")


def _measured(config: RunConfig, prepared: Prepared, reporter: Reporter) -> RunConfig:
    """The config with the steps that a budget of minutes allows, or as it is; reports what to expect."""
    reporter.say("timing a few steps")
    with torch.random.fork_rng():  # what is timed must not change what is trained
        expected = estimate(config, prepared, started(config, prepared, Reporter(0)))
    if not config.training.minutes:
        reporter.say(f"expected: {expected.minutes:.1f} minutes for {expected.steps:,} steps on this machine")
        return config
    reporter.say(
        f"{config.training.minutes:g} minutes allow {expected.steps:,} steps ({expected.epochs:.1f} epochs) here, "
        f"with an evaluation every {expected.evaluate_every:,}"
    )
    return paced(config, expected.steps, expected.evaluate_every)


def _record(run: Run, progress: Progress, model: nn.Module, learned: int) -> None:
    before = run.info().get("training", {})
    if before.get("steps") != progress.step:  # else nothing was trained now
        gigabytes = peak_bytes(next(model.parameters()).device) / 1e9
        facts = {"steps": progress.step, "minutes": progress.seconds / 60, "tokens": progress.tokens}
        facts |= {"parameters": parameter_count(model), "learned": learned}
        facts |= {"gigabytes": max(before.get("gigabytes", 0.0), gigabytes)}
        run.update_info(training=facts)
    run.count_lines()


def facts(config: RunConfig, corpus: Mapping[str, str], threads: int) -> dict[str, Any]:
    """The content of run.json for a new run."""
    import seqloom

    return {
        "task": config.task,
        "seed": config.seed,
        "threads": threads,
        "versions": {"seqloom": seqloom.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "processor": sorted(processor_flags()),
        "corpus": corpus,
    }
