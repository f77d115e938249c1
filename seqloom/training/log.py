"""What users see of training: a live progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqloom.training.loop import Step

_EVERY = 5.0  # seconds between lines about preparations


class Reporter:
    """Reports steps, evaluations and events on standard error, which leaves standard output to results.

    Args:
        verbosity: 0 = only warnings, 1 = everything, 2 = a line for every step.
    """

    def __init__(self, verbosity: int = 1) -> None:
        self.verbosity = verbosity
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._last = 0.0
        self._tokens, self._seconds = 0, 0.0
        self._work, self._since, self._reported = "", 0.0, 0.0

    def begin(self, done: int, total: int, unit: str = "tokens") -> None:
        """Training starts, or resumes after `done` of `total` steps; its speed is in `unit` per second."""
        self._unit, self._total, self._begun, self._first = unit, total, time.monotonic(), done
        if self.verbosity and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{{task.fields[rate]}} {unit}/s  loss {{task.fields[loss]}}  left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("training", total=total, completed=done, rate="-", loss="-")
            self._bar.start()

    def step(self, step: Step) -> None:
        """A step was taken."""
        self._tokens, self._seconds = self._tokens + step.tokens, self._seconds + step.seconds
        now = time.monotonic()
        every = 0.5 if self._bar is not None else 10.0
        if not self.verbosity or (now - self._last < every and self.verbosity < 2 and step.number < self._total):
            return
        self._last = now
        rate = self._tokens / max(self._seconds, 1e-9)
        self._tokens, self._seconds = 0, 0.0
        if self._bar is not None:
            self._bar.update(self._task, completed=step.number, rate=f"{rate:,.0f}", loss=f"{step.nll:.3f}")
        else:
            left = (now - self._begun) / max(1, step.number - self._first) * (self._total - step.number)
            self.say(
                f"step {step.number}/{self._total}  loss {step.nll:.3f}  "
                + "".join(f"{name} {value:.3g}  " for name, value in step.scores.items())
                + f"lr {step.lr:.2e}  "
                f"{rate:,.0f} {self._unit}/s  left {left / 60:.1f} min"
            )

    def progress(self, work: str, share: float, done: int, unit: str = "tokens") -> None:
        """A preparation is done to `share`, or `done` units. Prints a line every few seconds."""
        now = time.monotonic()
        if work != self._work:
            self._work, self._since, self._reported = work, now, now
        elif now - self._reported > _EVERY and share > 0:
            self._reported, spent = now, now - self._since
            left = spent / share * (1 - share) / 60
            self.say(f"{work}: {share:.0%}, {done:,} {unit}, {done / spent:,.0f} {unit}/s  left {left:.1f} min")

    def evaluated(self, step: int, metrics: Mapping[str, float], best: bool) -> None:
        """The model was evaluated."""
        shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.say(f"step {step}: valid {shown}{'  (best)' if best else ''}")

    def say(self, text: str) -> None:
        """Prints a line, unless quiet."""
        if self.verbosity:
            self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Prints a warning, even when quiet."""
        self.console.print(f"warning: {text}", markup=False)

    def end(self) -> None:
        """Training has ended or is interrupted."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
