"""Runs the training loop; logging, evaluation, checkpoints and stopping are plain ifs here."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from seqloom.errors import DivergedError, SeqloomError, optional
from seqloom.files import Checkpoint
from seqloom.measures import rank
from seqloom.run import Run
from seqloom.training.checkpoint import Progress, average_weights, progress_at, save_checkpoint
from seqloom.training.config import TrainingConfig
from seqloom.training.log import Reporter
from seqloom.training.loop import Learner, Step
from seqloom.training.precision import FreedMemory
from seqloom.training.schedule import Schedule

Measured = tuple[dict[str, float], list[dict[str, Any]]]


class Interrupted(SeqloomError):  # noqa: N818 - not a fault
    """Training was interrupted and has saved its state."""

    def __init__(self, step: int, number: int) -> None:
        self.exit_code = 130 if number == signal.SIGINT else 75
        super().__init__(f"stopped and saved after step {step}", cure="start the same command again: it resumes")


@dataclass
class Plan:
    """What to train, and how.

    Args:
        learner: takes the steps.
        evaluate: (step) -> validation metrics, with `training.metric` and any loss; and rows for samples.jsonl.
        lr: the peak learning rate.
        unit: the unit of the training speed shown.
        per_epoch: steps per epoch.
    """

    learner: Learner
    evaluate: Callable[[int], Measured]
    lr: float
    schedule: Schedule
    training: TrainingConfig
    unit: str = "tokens"
    per_epoch: float = 0.0


def fit(run: Run, plan: Plan, reporter: Reporter) -> Progress:
    """Trains to the end, resuming from the newest checkpoint if there is one.

    Raises Interrupted after SIGINT or SIGTERM, once the state is saved.
    """
    checkpoint = run.newest(reporter.warn)
    progress = progress_at(checkpoint)
    if checkpoint is not None:
        plan.learner.load(checkpoint.path)
        if not progress.done:
            reporter.say(f"resuming after step {progress.step} of {plan.training.steps}")
    run.forget_after(progress.step)
    session = _Session(run, plan, reporter, progress)
    if complete(progress, plan.training):
        session.point()
        return progress
    try:
        session.train()
    finally:
        session.close()
    return progress


def complete(progress: Progress, training: TrainingConfig) -> bool:
    """Whether a training was finished, and this config asks for no more steps."""
    return progress.done and _over(progress, training)


def _over(progress: Progress, training: TrainingConfig) -> bool:
    """Whether all steps were taken, or the score has stopped improving."""
    return progress.step >= training.steps or 0 < training.patience <= progress.stale


class _Session:
    def __init__(self, run: Run, plan: Plan, reporter: Reporter, progress: Progress) -> None:
        self.run, self.plan, self.reporter, self.progress = run, plan, reporter, progress
        self.board: Any = None
        self.signals, self.memory = _Signals(), FreedMemory()

    def close(self) -> None:
        self.reporter.end()
        if self.board is not None:
            self.board.close()

    def train(self) -> None:
        config, progress = self.plan.training, self.progress
        progress.done = False
        if config.tensorboard:
            writer = optional("torch.utils.tensorboard.writer", "training.tensorboard", "tensorboard")
            self.board = writer.SummaryWriter(str(self.run.path / "tensorboard"), purge_step=progress.step + 1)
        self.reporter.begin(progress.step, config.steps, self.plan.unit)
        steps = self.plan.learner.steps(progress.step, self._rate)
        with self.signals.caught():
            try:
                while progress.due or not _over(progress, config):
                    if not progress.due:
                        self._count(next(steps))
                        progress.due = progress.step % config.evaluate_every == 0 or progress.step == config.steps
                    if progress.due and not self.signals.received:
                        self._evaluate()
                        progress.due = False
                        self._save()
                    elif self.signals.received:
                        self._save()
                    self._raise_interrupt()
                self._finish()
            except _Abandoned:
                self._save()
            self._raise_interrupt()

    def _raise_interrupt(self) -> None:
        if self.signals.received:
            raise Interrupted(self.progress.step, self.signals.received[0])

    def _rate(self, step: int) -> float:
        return self.plan.lr * self.plan.schedule.factor(step, self.plan.training.steps, self.progress.drops)

    def _count(self, step: Step) -> None:
        progress = self.progress
        progress.step, progress.tokens = step.number, progress.tokens + step.tokens
        progress.seconds += step.seconds
        self.reporter.step(step)
        self.memory.after_step()
        if step.number % self.plan.training.log_every == 0 or step.number == 1:
            row = {"loss": step.loss, "nll": step.nll, "norm": step.norm, "lr": step.lr}
            row |= step.scores
            self._log("train", row | {"tokens_per_second": round(step.tokens / step.seconds, 1)})

    def _log(self, kind: str, row: dict[str, float]) -> None:
        progress = self.progress
        head = {"kind": kind, "step": progress.step, "tokens": progress.tokens, "seconds": round(progress.seconds, 3)}
        self.run.append("metrics.jsonl", head | row)
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(f"{kind}/{name}", value, progress.step)

    def _evaluate(self) -> None:
        progress, config = self.progress, self.plan.training
        metrics, samples = self._metrics()
        score = self._score(metrics)
        better = progress.best is None or score > progress.best
        loss, least = metrics.get("loss"), progress.best_loss
        less = loss is not None and least is not None and loss < least
        best = better or (score == progress.best and less)  # the loss decides between equal scores
        if best:
            progress.best, progress.best_step, progress.best_loss = score, progress.step, loss
        if better:
            progress.stale = 0
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
        self.run.append("samples.jsonl", *samples)
        self.reporter.evaluated(progress.step, metrics, best)

    def _metrics(self, weights: dict[str, Tensor] | None = None) -> Measured:
        state = torch.get_rng_state()  # an evaluation must not change the steps after it
        try:
            with self.plan.learner.measured(weights), self.signals.abandoning():
                return self.plan.evaluate(self.progress.step)
        finally:
            torch.set_rng_state(state)

    def _score(self, metrics: dict[str, float]) -> float:
        name = self.plan.training.metric
        score = float(self.progress.step) if name == "latest" else rank(name, metrics[name])
        if not math.isfinite(metrics.get("loss", 0.0)) or not math.isfinite(score):
            raise DivergedError(
                f"validation gives {metrics} after step {self.progress.step}; nothing was saved",
                cure="lower optimizer.lr or lengthen schedule.warmup; the last checkpoint is from before this step",
            )
        return score

    def _save(self) -> None:
        progress = self.progress
        saved = save_checkpoint(self.run, progress, self.plan.learner.save)
        self.run.point("latest", saved, step=progress.step)
        if progress.best_step >= 0:
            self._point(self.run.checkpoint_at(progress.best_step))
        newest = {c.step for c in self.run.checkpoints()[-self.plan.training.keep :]}
        self.run.keep_only(newest | {progress.best_step} | {step for _, step in progress.scores})

    def point(self) -> None:
        """Writes best.json where it is missing, and its checkpoint is there."""
        best = self.run.checkpoint_at(self.progress.best_step)
        if self.run.pointed("best") is None and best.path.is_dir():
            self._point(best)

    def _point(self, best: Checkpoint, **more: Any) -> None:
        progress, metric = self.progress, self.plan.training.metric
        if progress.best is not None:
            value = progress.best if metric == "latest" else rank(metric, progress.best)
            step = progress.best_step if progress.best_step >= 0 else progress.step
            self.run.point("best", best, step=step, **{metric: value}, **more)

    def _finish(self) -> None:
        progress, config = self.progress, self.plan.training
        if config.average != "none":
            steps = {step for _, step in progress.scores}
            chosen = [c for c in self.run.checkpoints() if c.step in steps and c.fault(weights=True) is None]
            if len(chosen) > 1:
                self._average(chosen)
        progress.done = True
        self._save()

    def _average(self, chosen: list[Checkpoint]) -> None:
        progress = self.progress
        mean = average_weights([c.path for c in chosen])
        metrics, _ = self._metrics(mean)
        score = self._score(metrics)
        better = progress.best is None or score >= progress.best
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.reporter.say(f"the mean of {len(chosen)} checkpoints: {shown}")
        if better:
            checkpoint = self.run.save("average", lambda folder: self.plan.learner.write(folder, mean))
            progress.best, progress.best_step = score, -1
            self._point(checkpoint, averaged=[c.step for c in chosen])


class _Abandoned(BaseException):
    """An evaluation was abandoned because of a signal."""


@dataclass
class _Signals:
    """Collects SIGINT and SIGTERM; a second SIGINT quits at once. Outside the main thread nothing is caught."""

    received: list[int] = field(default_factory=list)
    abandon: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received.append(number)
        if self.abandon:
            self.abandon = False
            raise _Abandoned

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """A context that a signal abandons, because it takes longer than a step."""
        self.abandon = True
        try:
            yield
        finally:
            self.abandon = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        try:
            before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
