"""Inside recurrent cells: their gates, and how far a state reaches into later ones.

torch's kernels do not return the gates, so a layer is computed again from its inputs and weights:

    LSTM  i, f, o = sigmoid(W x + U h + b), g = tanh(W x + U h + b), c' = f c + i g, h' = o tanh(c')
    GRU   r, z = sigmoid(W x + U h + b), n = tanh(W x + b + r (U h + b)), h' = (1 - z) n + z h
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seqloom.inspection.gradient_reach import Reach, squared_norms, steps_back
from seqloom.nn.recurrent import RecurrentLayer
from seqloom.shapes import Bool, Float, Tensor


@dataclass(frozen=True)
class Pass:
    """The inputs and outputs of a layer: x (B T I), the state carried in (B P D; None = zeros), h (B T D)."""

    layer: RecurrentLayer
    x: Tensor
    carry: Tensor | None
    h: Tensor


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Pass]]:
    """Records one pass of each recurrent layer by name, in its reading order; steps are joined."""
    passes: dict[str, Pass] = {}
    names = {layer: name for name, layer in model.named_modules() if isinstance(layer, RecurrentLayer)}

    def keep(layer: Any, inputs: Any, outputs: Any) -> None:
        before = inputs[1] if len(inputs) > 1 else None
        x, h, carry = inputs[0].detach(), outputs[0].detach(), None if before is None else before.detach()
        if (last := passes.get(names[layer])) is not None:  # a decoder that attends first goes step by step
            x, h, carry = torch.cat((last.x, x), 1), torch.cat((last.h, h), 1), last.carry
        passes[names[layer]] = Pass(layer, x, carry, h)

    with ExitStack() as hooks:
        for layer in names:
            hooks.enter_context(layer.register_forward_hook(keep))
        yield passes


def unrolled(one: Pass, nudge: Tensor | None = None) -> tuple[Float[Tensor, "B T P D"], dict[str, Tensor]]:
    """The state carried after each position, and the gates (B T D) by name; an RNN has none.

    `nudge` (B T P D) is added to the state after each position: zeros to differentiate with respect to.
    """
    cells: Any = one.layer.cells
    B, T, _ = one.x.shape
    wide = one.x @ cells.weight_ih_l0.T + cells.bias_ih_l0
    state = one.x.new_zeros(B, one.layer.parts, cells.hidden_size) if one.carry is None else one.carry
    states, traces = [], []
    for t in range(T):
        state, gates = _step(cells, wide[:, t], state)
        state = state if nudge is None else state + nudge[:, t]
        states.append(state)
        traces.append(gates)
    return torch.stack(states, 1), {name: torch.stack([g[name] for g in traces], 1) for name in traces[0]}


def _step(cells: Any, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    h = state[:, 0]
    inside = h @ cells.weight_hh_l0.T + cells.bias_hh_l0
    if isinstance(cells, nn.LSTM):
        i, f, g, o = (x + inside).chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * state[:, 1] + i * g
        return torch.stack((o * c.tanh(), c), 1), {"i": i, "f": f, "o": o, "g": g, "c": c}
    if isinstance(cells, nn.GRU):
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), inside.chunk(3, -1)
        r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
        n = (xn + r * hn).tanh()
        return ((1 - z) * n + z * h)[:, None], {"r": r, "z": z, "n": n}
    return (x + inside).tanh()[:, None], {}


def state_reach(one: Pass, mask: Bool[Tensor, "B T"], probes: int = 1) -> Reach:
    """|d z_t / d z_{t-k}| of the carried state z = h, or h and c of an LSTM, with the inputs held fixed.

    The cell is included because an LSTM's long memory does not pass through h.
    """
    B, T, _ = one.x.shape
    nudge = one.x.new_zeros(B, T, one.layer.parts, one.h.shape[-1], requires_grad=True)
    states, _ = unrolled(one, nudge)
    times, (squares,) = squared_norms(states.flatten(2), [nudge], probes)
    return Reach.of(squares, steps_back(times, mask))
