"""How long a model trains, how often it is evaluated, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from seqloom.config import Arguments
from seqloom.errors import ConfigError, UsageError
from seqloom.limits import Bounded, Bounds, Minutes, NotNegative, Positive, ShareBelowOne
from seqloom.training.precision import Precision

Metric = Literal[
    "bleu",
    "cider",
    "exact_match",
    "loss",
    "latest",
    "accuracy",
    "f1",
    "matthews",
    "pearson",
    "spearman",
    "reward",
    "score",
    "skill",
]


@dataclass(frozen=True)
class TrainingConfig(Bounded):
    """How long to train, how often to evaluate, and on what device.

    Args:
        steps: optimizer steps.
        epochs: if above 0, the number of passes over the data, instead of `steps`.
        minutes: if above 0, a time budget, instead of `steps` and `epochs`: the speed is measured before training, and
            the steps that fit are written into the run's config, with evaluations and warm-up adjusted to them.
        evaluate_every: steps between evaluations on the validation data; each one saves a checkpoint.
        keep: the newest checkpoints that are kept, beside the best.
        log_every: steps between lines of metrics.jsonl.
        metric: the score of the best checkpoint and of early stopping; "latest" = the newest is the best.
        patience: evaluations without improvement before training stops; 0 = never stop early.
        ema: decay of an exponential moving average of the weights, which is then the model; 0 = none.
        average: at the end, the mean of the last or the best `average_count` checkpoints is tried, and used if better.
        average_count: the number of checkpoints that `average` combines.
        precision: "auto" = bfloat16 where the processor is fast in it.
        device: "auto" = a GPU if there is one.
        threads: processor threads; 0 = as many as there are. The number affects the exact result.
        tensorboard: whether to write TensorBoard files, too.
    """

    steps: Positive = 10_000
    epochs: Annotated[float, Bounds(0, 10**6)] = 0.0
    minutes: Minutes = 0.0
    evaluate_every: Positive = 500
    keep: Annotated[int, Bounds(2, 10**6)] = 2
    log_every: Positive = 20
    metric: Metric = "bleu"
    patience: NotNegative = 0
    ema: ShareBelowOne = 0.0
    average: Literal["none", "last", "best"] = "none"
    average_count: Annotated[int, Bounds(1, 1000)] = 5
    precision: Precision = "auto"
    device: str = "auto"
    threads: Annotated[int, Bounds(0, 1024)] = 0
    tensorboard: bool = False

    @staticmethod
    def infer(tree: Mapping[str, Any], default: Any) -> dict[str, Any]:
        """The tree, where a length of training on the command line replaces one of a file, and this a default."""
        lengths = ("steps", "epochs", "minutes")  # each counts only where those after it are 0
        typed = [key for key in lengths if isinstance(tree.get(key), Arguments)]
        if sum(tree[key] != ["0"] for key in typed) > 1:
            cure = f"give one of them: {' '.join((f'--training.{typed[-1]}', *tree[typed[-1]]))}"
            raise ConfigError(f"{' and '.join(typed)} exclude each other", cure=cure)
        named = typed or [key for key in lengths if key in tree]
        return {**tree, **{key: 0 for key in lengths[1:] if named and key not in named}}

    def check_metric(self, *metrics: Metric) -> None:
        """Raises ValueError unless the metric is one of these or "latest"."""
        if self.metric not in (*metrics, "latest"):
            allowed = " or ".join(map(repr, (*metrics, "latest")))
            problem = f"training.metric is {self.metric!r} and must be {allowed} here"
            raise ValueError(f"{problem}: --training.metric {metrics[0]}")

    def lasting(self, per_epoch: float | int) -> TrainingConfig:
        """The config with the steps that `epochs` amounts to, if an epoch has `per_epoch` steps."""
        counted = self.epochs and not self.minutes
        return self.taking(max(1, round(self.epochs * per_epoch)), self.evaluate_every) if counted else self

    def taking(self, steps: int, evaluate_every: int) -> TrainingConfig:
        """The config with the steps that its epochs or minutes are worth. Raises UsageError for more than allowed."""
        try:
            return replace(self, steps=steps, evaluate_every=evaluate_every)
        except ValueError as error:
            key = "minutes" if self.minutes else "epochs"
            problem = f"{getattr(self, key):g} {key} are {steps:,} steps: {error}"
            raise UsageError(problem, where=f"training.{key}", cure="train for less") from None

    def within_minutes(self, step: float, evaluation: float) -> TrainingConfig:
        """The config with the steps that fit into `minutes`, and at least five evaluations if they are quick.

        Args:
            step: seconds per step.
            evaluation: seconds per evaluation; if one fits, evaluations take at most a quarter of the budget.
        """
        budget = 60 * self.minutes
        every = max(1, min(self.evaluate_every, int(budget / step / 5)), math.ceil(4 * evaluation / step))
        apart = 1 + (self.average != "none")  # evaluations besides those every `every` steps
        steps = int((budget - apart * evaluation) / (step + evaluation / every))
        if steps < 1:
            spent = f"an evaluation takes {evaluation:.1f} s, a step {step:.2f} s"
            problem = f"{self.minutes:g} minutes are too few: {spent}"
            cure = "give more minutes, or validate on less data"
            raise UsageError(problem, where="training.minutes", cure=cure)
        return self.taking(steps, min(every, steps))
