"""Signals over time, with what a model attends to below."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from seqloom.inspection.charts import Curve, line_figure
from seqloom.inspection.inside.flow import rollout
from seqloom.inspection.page import Markup, element, join

CHANNELS = 6
"""The channels that are drawn: there are so many colours."""
_LEFT, _WIDTH, _ROW = 46, 404, 12  # where a chart has its curves, in pixels


def signal_attention(name: str, values: np.ndarray, weights: np.ndarray | None, labels: Sequence[str] = ()) -> Markup:
    """The first channels of a signal, and what its positions attend to on average.

    Args:
        name: of the signal.
        values: (T C); a missing value is NaN.
        weights: (layers heads S S), where S are the positions that a front makes of T; None = nothing attends.
        labels: of its T steps; () = they have none.
    """
    if weights is None:
        return signal_figure(name, "", values, labels=labels)
    rows = [*(layer.mean(0) for layer in weights.mean(1)), rollout(weights).mean(0)]
    names = [*(f"layer {i}" for i in range(1, len(rows))), "rollout"]
    note = "Below, what all positions attend to, on average: in each layer, and rolled out through all of them."
    return signal_figure(name, note, values, [*zip(names, rows, strict=True)], labels)


def signal_figure(
    name: str,
    note: str,
    values: np.ndarray,
    strips: Sequence[tuple[str, np.ndarray]] = (),
    labels: Sequence[str] = (),
) -> Markup:
    """The first channels of a signal, over the labels of its steps and named weights of its positions."""
    drawn = values[:, :CHANNELS].astype(np.float64)
    curves = [
        Curve(f"channel {i}", [(t, float(y)) for t, y in enumerate(row) if np.isfinite(y)])
        for i, row in enumerate(drawn.T, 1)
    ]
    low = min((y for c in curves for _, y in c.points), default=0.0)
    note = f"The first {CHANNELS} of {values.shape[1]} channels. " * (values.shape[1] > CHANNELS) + note
    rows = [*([_spans(labels)] if labels else []), *(_strip(weights, label) for label, weights in strips)]
    return join(line_figure(name, note or None, curves, lambda x: f"step {x:,.0f}", *rows, low=low))


def forecast_figure(name: str, seen: np.ndarray, came: np.ndarray, forecast: np.ndarray) -> Markup:
    """What was seen of a channel (T), what came after it (N) and what was predicted (N); NaN is missing."""
    parts = {"seen": (0, seen, "raw"), "came": (len(seen), came, "train"), "forecast": (len(seen), forecast, "valid")}
    curves = [
        Curve(title, [(float(at + t), float(y)) for t, y in enumerate(values) if np.isfinite(y)], look)
        for title, (at, values, look) in parts.items()
    ]
    low = min((y for c in curves for _, y in c.points), default=0.0)
    return join(line_figure(name, None, curves, lambda x: f"step {x - len(seen) + 1:,.0f} ahead", low=low))


def _spans(labels: Sequence[str]) -> Markup:
    """A bar for each run of equal labels (T), in the colour of its label, with its name where it fits; a legend."""
    colours = {label: i % 6 for i, label in enumerate(dict.fromkeys(labels))}
    wide, at, bars, said = _WIDTH / max(1, len(labels) - 1), 0, list[Markup](), list[str]()
    for label, run in groupby(labels):
        first, at = at, at + sum(1 for _ in run)
        begin, end = max(0.0, first - 0.5), min(at - 0.5, len(labels) - 1)
        left, width = _LEFT + begin * wide, (end - begin) * wide
        said.append(f"{first + 1} to {at} {label}")
        text = element("text", label, x=round(left, 2), y=9, font_size=9) if width > 6 * len(label) else None
        bar = element("rect", element("title", said[-1]), x=round(left, 2), y=12, width=round(width, 2), height=8)
        bars.append(element("g", bar, text, class_=f"span s{colours[label]}"))
    title = element("title", f"labels of steps: {'; '.join(said)}")
    drawn = element("svg", title, *bars, class_="chart", viewBox=f"0 0 {_LEFT + _WIDTH + 10} 22", role="img")
    keys = (element("span", label, class_=f"key s{colour}") for label, colour in colours.items())
    return join([drawn, element("p", *keys, class_="note")])


def _strip(weights: np.ndarray, label: str) -> Markup:
    """A cell for each position, darker for a larger weight."""
    if len(weights) > _WIDTH:  # no more cells than pixels
        weights = np.array([part.mean() for part in np.array_split(weights, _WIDTH)])
    shades, wide = weights / max(weights.max(), 1e-12), _WIDTH / len(weights)
    cells = [
        element("rect", x=round(_LEFT + i * wide, 2), y=0, width=round(wide, 2), height=_ROW, fill_opacity=f"{s:.2f}")
        for i, s in enumerate(shades)
    ]
    name = element("text", label, x=_LEFT - 6, y=_ROW - 2, text_anchor="end", font_size=9)
    box = {"class_": "chart", "viewBox": f"0 0 {_LEFT + _WIDTH + 10} {_ROW}", "role": "img"}
    return element("svg", element("title", f"attention: {label}"), name, element("g", *cells, class_="cells"), **box)
