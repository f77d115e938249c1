"""The one place that runs the training loop: logging, evaluation, checkpoints and stopping are plain ifs here."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import torch
from torch import nn

from seqloom.errors import MissingExtra, SeqloomError
from seqloom.run import Run
from seqloom.training.checkpoint import Progress, average_weights, load_checkpoint, save_checkpoint, save_weights
from seqloom.training.log import Reporter
from seqloom.training.loop import Step, train
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
from seqloom.training.precision import Precision, dtype_for
from seqloom.training.schedule import Plateau, Schedule


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how often, where.

    Args:
        steps: steps of the optimizer.
        evaluate_every: steps between evaluations on the validation data; each one saves a checkpoint.
        log_every: steps between lines of metrics.jsonl.
        metric: what "best" means, and what early stopping looks at.
        patience: evaluations without improvement before training stops; 0 = never.
        ema: decay of an exponential moving average of the weights, which is then what is used; 0 = none.
        average: at the end, the mean of the last or the best `average_count` checkpoints is tried, and used if better.
        precision: "auto" = bfloat16 where the processor has it fast.
        device: "auto" = a GPU if there is one.
        threads: processor threads; 0 = as many as there are. The count is part of the result.
        tensorboard: whether TensorBoard files are written, too.
    """

    steps: int = 10_000
    evaluate_every: int = 500
    log_every: int = 20
    metric: Literal["bleu", "loss"] = "bleu"
    patience: int = 0
    ema: float = 0.0
    average: Literal["none", "last", "best"] = "none"
    average_count: int = 5
    precision: Precision = "auto"
    device: str = "auto"
    threads: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.evaluate_every, self.log_every, self.average_count) < 1:
            raise ValueError("steps, evaluate_every, log_every and average_count must be at least 1")
        if not 0 <= self.ema < 1 or self.patience < 0 or self.threads < 0:
            raise ValueError("ema must be in [0, 1), patience and threads not negative")


class Interrupted(SeqloomError):  # noqa: N818 - not a fault
    """Training was asked to stop, and has saved its state."""

    def __init__(self, step: int, number: int) -> None:
        self.exit_code = 130 if number == signal.SIGINT else 75
        super().__init__(f"stopped and saved after step {step}", cure="start the same command again: it resumes")


@dataclass
class Plan:
    """What is trained, on what, and how.

    Args:
        model, objective, batches: for the loop.
        evaluate: (step) -> validation metrics of the model as it is; among them the one that `training.metric` names.
    """

    model: nn.Module
    objective: Callable[[Any, Any], Any]
    batches: Callable[[int], Any]
    evaluate: Callable[[int], dict[str, float]]
    optimizer: AdamW
    schedule: Schedule
    training: TrainingConfig
    accumulate: int = 1


def fit(run: Run, plan: Plan, reporter: Reporter) -> Progress:
    """Trains to the end, from the newest checkpoint if there is one.

    Raises Interrupted after SIGINT or SIGTERM, when the state has been saved.
    """
    device = next(plan.model.parameters()).device
    weights = FlatWeights(plan.model, dtype_for(plan.training.precision, device))
    optimizer = Optimizer(weights, plan.optimizer, plan.training.ema)
    progress = Progress()
    if (checkpoint := run.newest(reporter.warn)) is not None:
        progress = load_checkpoint(checkpoint, optimizer)
        run.forget_after(progress.step)
        if not progress.done:
            reporter.say(f"resuming after step {progress.step} of {plan.training.steps}")
    if progress.done and progress.step >= plan.training.steps:
        return progress
    session = _Session(run, plan, reporter, optimizer, progress)
    try:
        session.train()
    finally:
        reporter.end()
    return progress


class _Session:
    def __init__(self, run: Run, plan: Plan, reporter: Reporter, optimizer: Optimizer, progress: Progress) -> None:
        self.run, self.plan, self.reporter = run, plan, reporter
        self.optimizer, self.progress = optimizer, progress
        self.board = _tensorboard(run) if plan.training.tensorboard else None

    def train(self) -> None:
        config, progress = self.plan.training, self.progress
        progress.done = False
        self.reporter.begin(progress.step, config.steps)
        steps = train(
            self.plan.model,
            self.plan.objective,
            self.plan.batches,
            self.optimizer,
            self._rate,
            start=progress.step,
            accumulate=self.plan.accumulate,
        )
        with _signals() as received:
            while progress.step < config.steps and not self._out_of_patience():
                step = next(steps)
                self._count(step)
                if step.number % config.evaluate_every == 0 or step.number == config.steps:
                    self._evaluate()
                    self._save()
                if received:
                    if step.number % config.evaluate_every:
                        self._save()
                    raise Interrupted(step.number, received[0])
            self._finish()

    def _rate(self, step: int) -> float:
        schedule, steps = self.plan.schedule, self.plan.training.steps
        if isinstance(schedule, Plateau):
            return self.plan.optimizer.lr * schedule.factor(step, steps, self.progress.drops)
        return self.plan.optimizer.lr * schedule.factor(step, steps)

    def _out_of_patience(self) -> bool:
        patience = self.plan.training.patience
        return patience > 0 and self.progress.stale >= patience

    def _count(self, step: Step) -> None:
        progress = self.progress
        progress.step, progress.words = step.number, progress.words + step.words
        progress.seconds += step.seconds
        self.reporter.step(step)
        if step.number % self.plan.training.log_every == 0 or step.number == 1:
            row = {"loss": step.loss, "nll": step.nll, "norm": step.norm, "lr": step.lr}
            self._log("train", row | {"words_per_second": round(step.words / step.seconds, 1)})

    def _log(self, kind: str, row: dict[str, float]) -> None:
        progress = self.progress
        head = {"kind": kind, "step": progress.step, "words": progress.words, "seconds": round(progress.seconds, 3)}
        self.run.append("metrics.jsonl", head | row)
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(f"{kind}/{name}", value, progress.step)

    def _evaluate(self) -> None:
        progress, config = self.progress, self.plan.training
        metrics = self._metrics()
        score = -metrics["loss"] if config.metric == "loss" else metrics[config.metric]
        best = progress.best is None or score > progress.best
        if best:
            progress.best, progress.best_step, progress.stale = score, progress.step, 0
        else:
            progress.stale, progress.drops = progress.stale + 1, progress.drops + 1
        if config.average != "none":
            progress.scores.append((score, progress.step))
            if config.average == "best":
                progress.scores.sort(reverse=True)
                del progress.scores[config.average_count :]
            else:
                del progress.scores[: -config.average_count]
        self._log("valid", metrics)
        self.reporter.evaluated(progress.step, metrics, best)

    def _metrics(self) -> dict[str, float]:
        model, weights, ema = self.plan.model, self.optimizer.weights, self.optimizer.ema
        if ema is not None:
            weights.publish(ema)
        state = torch.get_rng_state()  # an evaluation must not change what comes after it
        model.eval()
        metrics = self.plan.evaluate(self.progress.step)
        torch.set_rng_state(state)
        if ema is not None:
            weights.publish()
        return metrics

    def _save(self) -> None:
        progress = self.progress
        checkpoint = save_checkpoint(self.run, self.optimizer, progress)
        if progress.best_step == progress.step and progress.best is not None:
            self.run.point("best", checkpoint, step=progress.step, **{self.plan.training.metric: progress.best})
        last_two = {c.step for c in self.run.checkpoints()[-2:]}
        self.run.keep_only(last_two | {progress.best_step} | {step for _, step in progress.scores})

    def _finish(self) -> None:
        progress, config = self.progress, self.plan.training
        progress.done = True
        if config.average != "none" and len(progress.scores) > 1:
            self._average()
        self._save()

    def _average(self) -> None:
        progress, config = self.progress, self.plan.training
        steps = [step for _, step in progress.scores]
        chosen = [c for c in self.run.checkpoints() if c.step in steps]
        mean = average_weights([c.path / "model.safetensors" for c in chosen])
        weights = self.optimizer.weights
        flat = torch.zeros_like(weights.master)
        for name, view in weights.views(flat).items():
            view.copy_(mean[name])
        weights.publish(flat)
        self.plan.model.eval()
        metrics = self.plan.evaluate(progress.step)
        score = -metrics["loss"] if config.metric == "loss" else metrics[config.metric]
        better = progress.best is None or score >= progress.best
        self.reporter.say(
            f"the mean of {len(chosen)} checkpoints: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items())
        )
        if better:
            checkpoint = self.run.save("average", lambda folder: save_weights(folder / "model.safetensors", mean))
            self.run.point("best", checkpoint, step=progress.step, **{config.metric: score}, averaged=steps)
            progress.best, progress.best_step = score, -1
        weights.publish()


def _tensorboard(run: Run) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise MissingExtra("training.tensorboard", "tensorboard") from None
    return SummaryWriter(str(run.path / "tensorboard"))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM; a second SIGINT quits at once. Outside the main thread nothing is caught."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
