"""What a training will take: measured on a few real steps, before it begins."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from torch import nn

from seqloom.models.assemblies import parameter_count
from seqloom.tasks.task import Prepared, RunConfig, Trial
from seqloom.training.fit import Plan
from seqloom.training.learner import GradientLearner
from seqloom.training.loop import Step
from seqloom.training.precision import KERNEL_BYTES, KERNELS, peak_bytes, resident_bytes

_WARM, _TIMED, _RATE = 4, 8, 1e-5


@dataclass(frozen=True)
class Estimate:
    """What a training will take on this machine.

    Args:
        steps: of the optimizer.
        epochs: how often each sentence is seen.
        minutes: of training and evaluations.
        gigabytes: the most memory at a time.
        disk_gigabytes: the run directory at its largest.
        parameters: numbers learned.
        tokens_per_second: target tokens.
        padding: share of positions that are padding.
    """

    steps: int
    epochs: float
    minutes: float
    gigabytes: float
    disk_gigabytes: float
    parameters: int
    tokens_per_second: float
    padding: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def estimate(config: RunConfig, prepared: Prepared, model: nn.Module) -> Estimate:
    """Takes a few steps and evaluates once, as training will.

    Where the task has a trial, the steps are on batches from the whole range of sizes, the largest among them.

    Args:
        config: of the task.
        prepared: its data.
        model: on its device.
    """
    device = next(model.parameters()).device
    plan, trial = prepared.plan(model), prepared.trial
    steps = plan.training.steps
    if trial is None:
        taken = _first_steps(plan)
        began = time.perf_counter()
        plan.evaluate(0)
        seconds, evaluation, kernels = fmean(s.seconds for s in taken), time.perf_counter() - began, 0.0
    else:
        assert isinstance(plan.learner, GradientLearner)
        batches_a_step = plan.learner.accumulate
        taken, per_shape = _chosen_batches(plan.learner, trial)
        seconds, evaluation = batches_a_step * fmean(s.seconds for s in taken), trial.evaluation(model)
        # A later shape shares about half of its kernels with earlier ones, as measured on the demo.
        shapes = max(0, trial.shapes(steps * batches_a_step) - len(taken))
        kernels = min(per_shape / 2 * shapes, KERNELS * KERNEL_BYTES) if device.type == "cpu" else 0.0
    evaluations = -(-steps // plan.training.evaluate_every) + (plan.training.average != "none")
    parameters = parameter_count(model)
    kept = 3 + (plan.training.average_count if plan.training.average != "none" else 0)
    return Estimate(
        steps=steps,
        epochs=steps / plan.per_epoch,
        minutes=(steps * seconds + evaluations * evaluation) / 60,
        gigabytes=(peak_bytes(device) + kernels) / 1e9,
        disk_gigabytes=4 * parameters * plan.learner.copies * kept / 1e9,
        parameters=parameters,
        tokens_per_second=sum(s.tokens for s in taken) / sum(s.seconds for s in taken),
        padding=trial.padding if trial is not None else 0.0,
    )


def _first_steps(plan: Plan) -> list[Step]:
    steps, taken = plan.learner.steps(0, lambda n: _RATE), list[Step]()
    for _ in range(_WARM):
        next(steps)
    while len(taken) < _TIMED:
        taken.append(next(steps))
    return taken


def _chosen_batches(learner: GradientLearner, trial: Trial) -> tuple[list[Step], float]:
    """The steps on the trial's batches, and the bytes that each shape's kernels take."""
    count = len(trial.numbers)
    # Twice: a shape met for the first time costs the compilation of its kernels. The largest first, for the memory.
    learner.rehearse([*reversed(trial.numbers), *trial.numbers])
    steps = learner.steps(0, lambda n: _RATE)
    next(steps)
    before = resident_bytes()
    for _ in range(count - 1):
        next(steps)
    per_shape = (resident_bytes() - before) / (count - 1)
    return [next(steps) for _ in range(count)], per_shape
