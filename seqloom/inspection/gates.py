"""Inside recurrent cells: their gates, and how far a state reaches into later ones.

torch's kernels do not return the gates, so a layer is computed again from its inputs and weights:

    LSTM  i, f, o = sigmoid(W x + U h + b), g = tanh(W x + U h + b), c' = f c + i g, h' = o tanh(c')
    GRU   r, z = sigmoid(W x + U h + b), n = tanh(W x + b + r (U h + b)), h' = (1 - z) n + z h
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seqloom.inspection.gradient_reach import Reach, squared_norms, steps_back
from seqloom.nn.recurrent import Pass
from seqloom.shapes import Bool, Float, Tensor


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
