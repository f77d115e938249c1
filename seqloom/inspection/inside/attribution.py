"""How much each position of the input counts for an output, from gradients with respect to its embedding.

    gradient x input       x . dF/dx                                            (Denil et al. 2014)
    integrated gradients   (x - b) . mean of dF/dx on the way from b to x       (Sundararajan et al. 2017)

F is a log-probability; or the difference of two outputs' ("why this token and not that one": Yin and Neubig 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from seqloom.errors import UsageError, counted
from seqloom.inspection.inside.inspected import Inspected
from seqloom.shapes import Float, Tensor

Question = Callable[[Float[Tensor, "R N V"]], Float[Tensor, " R"]]
Points = Mapping[str, Float[Tensor, "R T D"]]
_NODES = 8  # of each piece of the way


@dataclass(frozen=True)
class _Piece:
    """A part of the way from the base (0) to the input (1): its share of the values, and how far they are off."""

    low: float
    high: float
    sums: Mapping[str, Tensor]
    change: float
    error: float


@dataclass(frozen=True)
class Attribution:
    """What each position counts.

    Args:
        values: (T) by side; the positions are those of what is embedded, before any front.
        change: F(x) - F(b), the sum of integrated gradients if there are steps enough; 0 of gradients alone.
    """

    values: Mapping[str, Float[Tensor, " T"]]
    change: float = 0.0

    @property
    def error(self) -> float:
        """How far the sum of the values is from the change."""
        return float(sum(each.sum() for each in self.values.values())) - self.change


def why(inspected: Inspected, position: int = -1, output: int | None = None, instead: int | None = None) -> Question:
    """F: the log-probability of an output at a position, by default the one asked; or its lead over another one's.

    Raises UsageError for a position or an output that there is not.
    """
    N, V = inspected.scores.shape
    chosen = int(inspected.asked[position]) if output is None and -N <= position < N else output
    if not -N <= position < N or not all(0 <= i < V for i in (chosen, instead) if i is not None):
        problem = f"there is no output {chosen}, {instead} at position {position}"
        raise UsageError(problem, cure=f"there are {counted(N, 'position')} of {V:,} outputs")

    def question(scores: Tensor) -> Tensor:
        at = scores[:, position].float()
        return at.log_softmax(-1)[:, chosen] if instead is None else at[:, chosen] - at[:, instead]

    return question


def gradient_times_input(inspected: Inspected, question: Question, sides: Sequence[str] = ()) -> Attribution:
    """Gradient times input, for some sides or all."""
    x = embedded(inspected, sides)
    _, gradients = _gradients(inspected, x, question)
    return Attribution({side: (gradients[side] * x[side]).sum((0, 2)).float().cpu() for side in x})


def integrated_gradients(
    inspected: Inspected,
    question: Question,
    sides: Sequence[str] = (),
    *,
    base: Points | None = None,
    tolerance: float = 0.01,
    most: int = 640,
) -> Attribution:
    """Integrated gradients from a base (by default zeros), for some sides or all.

    The way is halved where it is steep, until the values sum to the change but for `tolerance` times it (at least 1),
    or until there are `most` gradients. Norms make gradients steep where an embedding is small.
    """
    x = embedded(inspected, sides)
    b = {side: torch.zeros_like(v) for side, v in x.items()} if base is None else base
    pieces = [_piece(inspected, question, b, x, 0.0, 1.0)]
    change, made = pieces[0].change, 1
    while made * _NODES < most and sum(each.error for each in pieces) > tolerance * max(1.0, abs(change)):
        worst = max(pieces, key=lambda each: each.error)
        middle = (worst.low + worst.high) / 2
        pieces.remove(worst)
        pieces += [_piece(inspected, question, b, x, *ends) for ends in ((worst.low, middle), (middle, worst.high))]
        made += 2
    return Attribution({side: torch.stack([each.sums[side] for each in pieces]).sum(0).cpu() for side in x}, change)


def _piece(inspected: Inspected, question: Question, b: Points, x: Points, low: float, high: float) -> _Piece:
    first = next(iter(x.values()))
    nodes, weights = (torch.from_numpy(part).to(first.device) for part in np.polynomial.legendre.leggauss(_NODES))
    at = nn.functional.pad((low + high + (high - low) * nodes) / 2, (1, 1))
    at[0], at[-1] = low, high
    share = at.to(torch.promote_types(first.dtype, torch.float32))[:, None, None]
    points = {side: torch.lerp(b[side].to(share), x[side].to(share), share).to(x[side]) for side in x}
    values, gradients = _gradients(inspected, points, question)
    scale = ((high - low) / 2 * weights).to(share)[:, None, None]
    sums = {side: ((x[side] - b[side])[0] * (scale * gradients[side][1:-1]).sum(0)).sum(-1) for side in x}
    change = float(values[-1] - values[0])
    return _Piece(low, high, sums, change, abs(sum(float(each.sum()) for each in sums.values()) - change))


def embedded(inspected: Inspected, sides: Sequence[str] = ()) -> dict[str, Float[Tensor, "1 T D"]]:
    """What each side's embedder makes of the input. Raises UsageError for a side that there is not."""
    if wrong := next((side for side in sides if side not in inspected.embedders), None):
        raise UsageError(f"nothing is embedded for {wrong!r}", cure=f"sides: {', '.join(inspected.embedders)}")
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.no_grad():
        for side in sides or inspected.embedders:

            def keep(_: Any, __: Any, x: Tensor, side: str = side) -> None:
                found[side] = x

            hooks.enter_context(inspected.embedders[side].register_forward_hook(keep))
        inspected.run(1)
    return found


@contextmanager
def _replaced(inspected: Inspected, points: Points) -> Iterator[None]:
    """A context in which the embedders return the given points."""
    with ExitStack() as hooks:
        for side, x in points.items():
            hooks.enter_context(inspected.embedders[side].register_forward_hook(lambda *_, x=x: x))
        yield


def _gradients(inspected: Inspected, points: Points, question: Question) -> tuple[Tensor, dict[str, Tensor]]:
    """F at each of R points, and its gradients with respect to them."""
    x = {side: each.detach().requires_grad_() for side, each in points.items()}
    # cuDNN's recurrent kernels refuse a backward pass in evaluation mode.
    with torch.enable_grad(), _replaced(inspected, x), torch.backends.cudnn.flags(enabled=False):
        values = question(inspected.run(len(next(iter(x.values())))))
        gradients = torch.autograd.grad(values.sum(), [*x.values()])
    return values.detach(), dict(zip(x, gradients, strict=True))
