"""The cost of a training, measured on a few real steps before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, TypeVar, cast

from torch import nn

from seqloom.errors import RunError
from seqloom.models.assemblies import parameter_count
from seqloom.tasks.task import Prepared, RunConfig, Trial
from seqloom.training.fit import Plan
from seqloom.training.loop import GradientLearner, Step
from seqloom.training.precision import KERNEL_BYTES, KERNELS, peak_bytes, resident_bytes

_WARM, _LEAST, _TIMED, _RATE = 4, 3, 8, 1e-5
_PATIENCE = 4.0  # seconds of warming up, and of steps that are timed, where steps are long

C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True)
class Estimate:
    """The cost of a training on this machine.

    Args:
        steps: steps of the optimizer.
        evaluate_every: steps between evaluations.
        epochs: passes over the training data.
        minutes: training and evaluations.
        gigabytes: peak memory.
        disk_gigabytes: the run directory at its largest.
        parameters: the parameters of the model.
        learned: those of them that are learned.
        tokens_per_second: target tokens.
        padding: the share of positions that are padding.
    """

    steps: int
    evaluate_every: int
    epochs: float
    minutes: float
    gigabytes: float
    disk_gigabytes: float
    parameters: int
    learned: int
    tokens_per_second: float
    padding: float


def estimate(config: RunConfig, prepared: Prepared, model: nn.Module) -> Estimate:
    """Takes a few steps and evaluates once, as training will.

    Where the task has a trial, its batches cover the whole range of sizes, with the largest.

    Args:
        config: the config of the run.
        prepared: its data.
        model: the model, on its device.
    """
    device = next(model.parameters()).device
    plan, trial, accumulate = prepared.plan(config, model), prepared.trial, 1
    if trial is None:
        taken = _first_steps(plan)
        began = time.perf_counter()
        plan.evaluate(0)
        seconds, evaluation, per_shape = fmean(s.seconds for s in taken), time.perf_counter() - began, 0.0
    else:
        assert isinstance(plan.learner, GradientLearner)
        accumulate = plan.learner.accumulate
        taken, per_shape = _chosen_batches(plan.learner, trial)
        seconds, evaluation = accumulate * fmean(s.seconds for s in taken), trial.evaluation(model)
    training = plan.training.within_minutes(seconds, evaluation) if plan.training.minutes else plan.training
    steps, kernels = training.steps, 0.0
    if trial is not None and device.type == "cpu":
        # A later shape shares about half of its kernels with earlier ones, as measured on the demo.
        shapes = max(0, trial.shapes(steps * accumulate) - len(taken))
        kernels = min(per_shape / 2 * shapes, KERNELS * KERNEL_BYTES)
    averaged = training.average != "none"
    evaluations = -(-steps // training.evaluate_every) + averaged
    parameters, learned = parameter_count(model), plan.learner.learned
    kept = 3 + averaged * training.average_count
    return Estimate(
        steps=steps,
        evaluate_every=training.evaluate_every,
        epochs=steps / plan.per_epoch,
        minutes=(steps * seconds + evaluations * evaluation) / 60,
        gigabytes=(peak_bytes(device) + kernels) / 1e9,
        disk_gigabytes=4 * (learned * plan.learner.copies * kept + parameters - learned) / 1e9,
        parameters=parameters,
        learned=learned,
        tokens_per_second=sum(s.tokens for s in taken) / sum(s.seconds for s in taken),
        padding=trial.padding if trial is not None else 0.0,
    )


def paced(config: C, steps: int, evaluate_every: int, warmup: int = -1) -> C:
    """A config with a budget of minutes and the steps that it allows; `warmup` -1 = a tenth of them.

    The warm-up of the config is kept where it is shorter.
    """
    chosen: Any = config
    training = config.training.taking(steps, evaluate_every)
    most = min(chosen.schedule.warmup, steps // 10 if warmup < 0 else warmup)
    return cast(C, replace(chosen, training=training, schedule=replace(chosen.schedule, warmup=most)))


def resumed(config: C, begun: C) -> tuple[C, C]:
    """The config of a run that goes on, and the one it was begun with, where both have a budget of minutes.

    What the budget was measured to be worth stays; a longer or shorter one is worth more or fewer steps in proportion.
    Raises RunError for a budget where the run was begun without one.
    """
    now, before = config.training, begun.training
    if now.minutes and not before.minutes:
        problem = f"was begun with {before.steps:,} steps and not with a budget of minutes"
        raise RunError(problem, where=config.run, cure="--training.steps N goes on with it; --run NEW begins another")
    if not now.minutes:
        return config, begun
    steps = max(1, round(before.steps * now.minutes / before.minutes))
    config = paced(config, steps, before.evaluate_every, cast(Any, begun).schedule.warmup)
    return config, replace(begun, training=replace(before, minutes=now.minutes))


def _first_steps(plan: Plan) -> list[Step]:
    steps, taken = plan.learner.steps(0, lambda n: _RATE), list[Step]()
    for _ in range(_WARM):
        if next(steps).seconds > _PATIENCE / _WARM:  # so long a step that warming up makes no difference
            break
    while len(taken) < _LEAST or (len(taken) < _TIMED and sum(s.seconds for s in taken) < _PATIENCE):
        taken.append(next(steps))
    return taken


def _chosen_batches(learner: GradientLearner, trial: Trial) -> tuple[list[Step], float]:
    """The steps on the trial's batches (on fewer where they are long), and the bytes of the kernels of each shape."""
    numbers = [*reversed(trial.numbers)]  # the largest first, so that later growth of memory is that of kernels
    learner.rehearse(numbers[:1])
    first = next(learner.steps(0, lambda n: _RATE))
    count = min(len(numbers), int(_PATIENCE / first.seconds))
    quick = count > _LEAST
    count = max(2, count)
    chosen = [numbers[round(i * (len(numbers) - 1) / (count - 1))] for i in range(count)][not quick :]
    # Twice where steps are quick: the first use of a shape compiles its kernels. Else the first step counts, too.
    learner.rehearse(chosen * (1 + quick))
    steps = learner.steps(0, lambda n: _RATE)
    before = resident_bytes()
    taken = [next(steps) for _ in chosen]
    per_shape = (resident_bytes() - before) / len(chosen)
    return [next(steps) for _ in chosen] if quick else [first, *taken], per_shape
