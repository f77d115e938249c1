"""Learning rate schedules: for each step, a factor on the optimizer's `lr`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from seqloom.limits import Bounded, NotNegative, Positive, Share


@dataclass(frozen=True)
class Noam(Bounded):
    """Rises linearly for `warmup` steps, then falls with 1 / sqrt(step) (Vaswani et al. 2017, eq. 3); 1 at the peak.

    Args:
        warmup: steps over which the learning rate rises linearly to its peak.
    """

    kind: ClassVar[str] = "noam"
    warmup: NotNegative = 4000

    def factor(self, step: int, steps: int, drops: int = 0) -> float:
        """The factor for `step`, counted from 1, of `steps`."""
        warmup = max(1, self.warmup)
        return min(step / warmup, math.sqrt(warmup / step))


@dataclass(frozen=True)
class Linear(Bounded):
    """Rises linearly for `warmup` steps, then falls linearly to `floor` at the last step.

    Args:
        warmup: steps over which the learning rate rises linearly to its peak.
        floor: the learning rate at the last step, as a share of the peak.
    """

    kind: ClassVar[str] = "linear"
    warmup: NotNegative = 1000
    floor: Share = 0.0

    def factor(self, step: int, steps: int, drops: int = 0) -> float:
        """The factor for `step`, counted from 1, of `steps`."""
        if step <= self.warmup:
            return step / self.warmup
        left = max(0.0, (steps - step) / max(1, steps - self.warmup))
        return self.floor + (1 - self.floor) * self._shape(left)

    def _shape(self, left: float) -> float:
        return left


@dataclass(frozen=True)
class Cosine(Linear):
    """Rises linearly for `warmup` steps, then falls along half a cosine to `floor` at the last step."""

    kind: ClassVar[str] = "cosine"

    def _shape(self, left: float) -> float:
        return (1 - math.cos(math.pi * left)) / 2


@dataclass(frozen=True)
class Plateau(Bounded):
    """Rises linearly, then is multiplied by `drop` after every `patience` evaluations without improvement.

    Args:
        warmup: steps over which the learning rate rises linearly to its peak.
        drop: the factor on the learning rate when the score has stopped improving.
        patience: evaluations without improvement from one drop of the learning rate to the next.
    """

    kind: ClassVar[str] = "plateau"
    warmup: NotNegative = 1000
    drop: Share = 0.5
    patience: Positive = 3

    def factor(self, step: int, steps: int, drops: int = 0) -> float:
        """The factor for `step`; `drops` = evaluations without improvement, over the whole run."""
        return min(1.0, step / max(1, self.warmup)) * self.drop ** (drops // self.patience)


Schedule = Noam | Cosine | Linear | Plateau
