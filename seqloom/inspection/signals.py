"""Signals over time, with what a model attends to below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqloom.inspection.charts import Curve, line_figure
from seqloom.inspection.inside.flow import rollout
from seqloom.inspection.page import Markup, element, join

_CHANNELS = 6  # drawn, as there are so many colours
_LEFT, _WIDTH, _ROW = 46, 404, 12  # where a chart has its curves, in pixels


def signal_attention(name: str, values: np.ndarray, weights: np.ndarray | None) -> Markup:
    """The first channels of a signal, and what its positions attend to on average.

    Args:
        name: of the signal.
        values: (T C); a missing value is NaN.
        weights: (layers heads S S), where S are the positions that a front makes of T; None = nothing attends.
    """
    if weights is None:
        return signal_figure(name, "", values)
    rows = [*(layer.mean(0) for layer in weights.mean(1)), rollout(weights).mean(0)]
    names = [*(f"layer {i}" for i in range(1, len(rows))), "rollout"]
    note = "Below, what all positions attend to, on average: in each layer, and rolled out through all of them."
    return signal_figure(name, note, values, [*zip(names, rows, strict=True)])


def signal_figure(name: str, note: str, values: np.ndarray, strips: Sequence[tuple[str, np.ndarray]] = ()) -> Markup:
    """The first channels of a signal, over named weights of its positions."""
    drawn = values[:, :_CHANNELS].astype(np.float64)
    curves = [
        Curve(f"channel {i}", [(t, float(y)) for t, y in enumerate(row) if np.isfinite(y)])
        for i, row in enumerate(drawn.T, 1)
    ]
    low = min((y for c in curves for _, y in c.points), default=0.0)
    note = f"The first {_CHANNELS} of {values.shape[1]} channels. " * (values.shape[1] > _CHANNELS) + note
    rows = [_strip(weights, label) for label, weights in strips]
    return join(line_figure(name, note or None, curves, lambda x: f"step {x:,.0f}", *rows, low=low))


def _strip(weights: np.ndarray, label: str) -> Markup:
    """A cell for each position, darker for a larger weight."""
    shades, wide = weights / max(weights.max(), 1e-12), _WIDTH / len(weights)
    cells = [
        element("rect", x=round(_LEFT + i * wide, 2), y=0, width=round(wide, 2), height=_ROW, fill_opacity=f"{s:.2f}")
        for i, s in enumerate(shades)
    ]
    name = element("text", label, x=_LEFT - 6, y=_ROW - 2, text_anchor="end", font_size=9)
    box = {"class_": "chart", "viewBox": f"0 0 {_LEFT + _WIDTH + 10} {_ROW}", "role": "img"}
    return element("svg", element("title", f"attention: {label}"), name, element("g", *cells, class_="cells"), **box)
