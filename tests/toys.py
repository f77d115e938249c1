"""A training that takes milliseconds: a small regression with dropout, whose validation scores are played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from seqloom.files import Checkpoint, digest_of
from seqloom.run import Run
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Measured, Plan, fit
from seqloom.training.log import Reporter
from seqloom.training.loop import GradientLearner, Step
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Plateau, Schedule


@dataclass(frozen=True)
class ToyBatch:
    x: Tensor
    y: Tensor
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class ToyLoss:
    value: Tensor
    nll: float
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


def toy_batch(number: int) -> ToyBatch:
    """Batch `number`: 1 to 5 examples of three numbers and their sum."""
    x = torch.randn(1 + number * 7 % 5, 3, generator=torch.Generator().manual_seed(number))
    return ToyBatch(x, x.sum(1, keepdim=True), tuple(range(10 * number, 10 * number + len(x))))


def toy_objective(model: nn.Module, batch: ToyBatch) -> ToyLoss:
    value = ((model(batch.x.to(next(model.parameters()).dtype)) - batch.y).float() ** 2).sum()
    return ToyLoss(value, float(value.detach()))


def toy_model() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.25), nn.Tanh(), nn.Linear(8, 1))


class Listener(Reporter):
    """Keeps what it is told, and calls `after` with the number of each step."""

    def __init__(self, after: Callable[[int], object] | None = None) -> None:
        super().__init__(0)
        self.after, self.said, self.warnings = after, list[str](), list[str]()

    def step(self, step: Step) -> None:
        if self.after is not None:
            self.after(step.number)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Toy:
    """A run directory and a training for it; every `fit` builds model and plan anew, as another process would."""

    def __init__(self, path: Path) -> None:
        self.run = Run.create(path, "", {})
        self.scores: Mapping[int, float] | Callable[[int], float] = {}
        self.objective = toy_objective
        self.schedule: Schedule = Plateau(warmup=0, patience=2)
        self.options: dict[str, object] = {"steps": 8, "evaluate_every": 2, "log_every": 1, "precision": "fp32"}
        self.accumulate = 1
        self.seen: list[dict[str, Tensor]] = []
        self.make = toy_model
        self.model = toy_model()

    def _evaluate(self, step: int) -> Measured:
        torch.rand(3)  # an evaluation may draw numbers
        self.seen.append({n: p.detach().float().clone() for n, p in self.model.named_parameters()})
        score = self.scores(step) if callable(self.scores) else self.scores.get(step, 0.0)
        return {"loss": 100.0 - score, "bleu": score}, [{"step": step, "sample": score}]

    def fit(self, reporter: Reporter | None = None, **options: object) -> Listener:
        """Trains, or goes on; returns what was said."""
        listener = reporter if isinstance(reporter, Listener) else Listener()
        self.model = self.make()
        training = TrainingConfig(**(self.options | options))
        optimizer = AdamW(lr=0.02, weight_decay=0.1)
        learner = GradientLearner(
            self.model, self.objective, toy_batch, optimizer, self.accumulate, training.ema, training.precision
        )
        plan = Plan(learner, self._evaluate, optimizer.lr, self.schedule, training)
        fit(self.run, plan, listener)
        return listener

    @property
    def steps(self) -> list[int]:
        return [c.step for c in self.run.checkpoints()]

    def checkpoint(self, step: int) -> Checkpoint:
        return next(c for c in self.run.checkpoints() if c.step == step)

    def metrics(self) -> list[dict[str, object]]:
        """The lines of metrics.jsonl without the times."""
        times = ("seconds", "tokens_per_second")
        return [{k: v for k, v in row.items() if k not in times} for row in self.run.rows("metrics.jsonl")]

    def bits(self, step: int = 8) -> tuple[bytes, ...]:
        """All that a checkpoint holds, but for the seconds it took."""
        path = self.checkpoint(step).path
        state = {k: v for k, v in self.checkpoint(step).state().items() if k != "seconds"}
        names = ("model.safetensors", "optimizer.safetensors")
        return (*((path / name).read_bytes() for name in names), repr(state).encode())


def damage(path: Path) -> None:
    """Changes the last byte of a file, which no reader of safetensors notices."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def left_behind(path: str) -> tuple[object, ...]:
    """All of a run that must be the same, however often it was stopped."""
    run = Run.open(path)
    newest = run.newest(pytest.fail)
    assert newest is not None
    times = ("seconds", "tokens_per_second")
    rows = [{k: v for k, v in row.items() if k not in times} for row in run.rows("metrics.jsonl")]
    digests = [digest_of(newest.path / f"{name}.safetensors") for name in ("model", "optimizer")]
    words = next(p for name in ("tokenizer.json", "vocabulary.tsv", "labels.json") if (p := run.path / name).is_file())
    return newest.step, digests, rows, run.rows("samples.jsonl"), words.read_text()
