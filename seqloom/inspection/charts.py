"""Charts as SVG: curves, scatter plots and heat maps, each with a title and a text description."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seqloom.inspection.page import Markup, element, figure

_WIDTH, _LEFT, _RIGHT = 460, 46, 10
_TOP, _BOTTOM = 8.0, 26.0
_POINTS = 240  # drawn of a curve: about one for two pixels
_CELL = 20  # pixels of a heat map's cell


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Args:
        name: what it shows.
        points: (step, value) by rising step, all finite.
        look: "train", "valid", or "raw" for a faint line without values on hover; "" = the next of six colours.
        band: (step, low, high) of a shaded band around it.
    """

    name: str
    points: Sequence[tuple[float, float]]
    look: str = ""
    band: Sequence[tuple[float, float, float]] = ()


def number(value: int | float) -> str:
    """A value as a label: about four digits."""
    if abs(value) >= 100_000:
        return f"{value / 1e6:.3g} M" if abs(value) >= 1e6 else f"{value / 1e3:.3g} k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of each value and its neighbours: 4 % of the curve on either side, at most 100.

    The window shrinks on both sides towards the ends, so that a steep curve is not shifted.
    """
    values, last = [y for _, y in points], len(points) - 1
    most = min(100, max(1, last // 25))
    sides = [min(most, i, last - i) for i in range(len(points))]
    return [(points[i][0], sum(values[i - k : i + k + 1]) / (2 * k + 1)) for i, k in enumerate(sides)]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Two or more round values around [low, high], 1, 2 or 5 times a power of ten apart."""
    apart, scale = (high - low) / most, max(abs(low), abs(high))
    scale = scale if scale > 1e-100 else 1.0
    if apart <= 1e-3 * scale:  # nearly constant: labels of four digits would repeat
        apart = scale
    power = 10.0 ** math.floor(math.log10(apart))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= 0.999 * apart)
    first = math.floor(low / step)
    return [i * step for i in range(first, max(math.ceil(high / step), first + 1) + 1)]


def line_figure(
    title: str,
    note: str | None,
    curves: Sequence[Curve],
    label: Callable[[float], str],
    *below: Markup,
    height: int = 230,
    low: float = 0.0,
    end: float = 0.0,
    description: str = "",
) -> Iterator[Markup]:
    """Curves over steps, with a caption, a legend and a text description; nothing if no curve has two points.

    Args:
        title, note: the caption.
        curves: the curves.
        label: the label of a step.
        below: what stands below them.
        height: in pixels.
        low: where the axis of values starts, or at the least value if that is lower.
        end: where the axis of steps ends; 0 = at the last step.
        description: for those who do not see the curves; "" = their ends and extremes.
    """
    curves = [replace(c, look=c.look or f"s{i % 6}") for i, c in enumerate(curves) if c.points]
    if not any(len(c.points) > 1 for c in curves):
        return
    description = description or " ".join(_described(c, label) for c in curves if c.look != "raw")
    legend = [element("span", c.name, class_=f"key {c.look}") for c in curves] if len(curves) > 1 else []
    end = end or max(x for c in curves for x, _ in c.points)
    values = [y for c in curves for _, y in c.points] + [y for c in curves for _, *ends in c.band for y in ends]
    marks = ticks(min(low, *values), max(values), 5 if height > 150 else 2)
    base = height - _BOTTOM

    def across(x: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * x / end, 1)

    def up(y: float) -> float:
        return round(base - (base - _TOP) * (y - marks[0]) / (marks[-1] - marks[0]), 1)

    drawn = [element("path", class_="grid", d=f"M{_LEFT} {up(m)}H{_WIDTH - _RIGHT}") for m in marks]
    drawn += [element("text", number(m), x=_LEFT - 6, y=up(m) + 4, text_anchor="end") for m in marks]
    for x in (x for x in ticks(0.0, end) if x <= end):
        anchor = "end" if across(x) > _WIDTH - 30 else "middle"
        drawn.append(element("text", f"{x:,.0f}", x=across(x), y=height - 8, text_anchor=anchor))
    for c in (c for c in curves if c.band):
        edge = [(across(x), up(high)) for x, _, high in c.band] + [(across(x), up(low)) for x, low, _ in c.band[::-1]]
        drawn.append(element("g", element("path", d=f"{_line(edge)}Z", class_="band"), class_=c.look))
    drawn += [_curve([(across(x), up(y)) for x, y in _thin(c.points)], c.look) for c in curves]
    stops = [
        [across(x), label(x), [[up(y), f"{c.name} {number(y)}", c.look] for c, y in values]]
        for x, values in _stops(curves)
    ]
    hover = json.dumps(stops, separators=(",", ":"))
    chart = _svg((_WIDTH, height), title, description, *drawn, class_="chart", data_hover=hover)
    yield figure(title, note, chart, element("output"), *below, keys=legend)


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _described(curve: Curve, when: Callable[[float], str]) -> str:
    values = [number(y) for _, y in sorted(curve.points, key=lambda p: p[1])]
    (first, start), (last, end) = curve.points[0], curve.points[-1]
    ends = f"{number(start)} at {when(first)}, {number(end)} at {when(last)}"
    return f"{curve.name}: {ends}; least {values[0]}, most {values[-1]}."


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return points[:: -max(1, math.ceil(len(points) / _POINTS))][::-1]


def _stops(curves: Sequence[Curve]) -> list[tuple[float, list[tuple[Curve, float]]]]:
    read = [(c, dict(c.points)) for c in curves if c.look != "raw"]
    steps = sorted({x for c, _ in read for x, _ in _thin(c.points)})
    return [(x, [(c, values[x]) for c, values in read if x in values]) for x in steps]


def _curve(points: Sequence[tuple[float, float]], look: str) -> Markup:
    path = element("path", d=_line(points), class_="line")
    dots = points if len(points) == 1 or (look == "valid" and len(points) <= 40) else ()
    return element("g", path, *(element("circle", cx=x, cy=y, r=2.5) for x, y in dots), class_=look)


def scatter(title: str, description: str, labels: Sequence[str], at: NDArray[np.float64]) -> Markup:
    """A dot for each label at (x, y), scaled to fit; a label that would cover another shows only when its dot is
    pointed at.
    """
    width, height = 2 * _WIDTH, 640
    drawn, taken = list[Markup](), list[tuple[float, float, float]]()
    low, spread = at.min(0), np.maximum(np.ptp(at, axis=0), 1e-9)
    places = (at - low) / spread * [width - 120, height - 40] + [15, 20]
    for label, (x, y) in zip(labels, places.round(1).tolist(), strict=True):
        dot = element("circle", element("title", label), cx=x, cy=y, r=2.5)
        wide = 6 + 0.85 * _wide(label)
        free = all(abs(y - other) > 11 or x > end or x + wide < start for start, end, other in taken)
        taken += [(x, x + wide, y)] if free else []
        drawn.append(element("g", dot, element("text", _short(label), x=x + 4, y=y + 4) if free else None))
    return _svg((width, height), title, description, *drawn, class_="chart")


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], weights: NDArray[np.float32] | None) -> Markup:
    """A cell for each row and column token, darker for a larger weight (T S); None = no cells yet."""
    left, top = 8 + max(map(_wide, rows)), 10 + round(0.71 * max(map(_wide, columns)))
    across, down = _CELL * len(columns), _CELL * len(rows)
    drawn = [
        element("text", _short(t), x=left - 6, y=top + _CELL * i + 14, text_anchor="end", class_="row", data_token=t)
        for i, t in enumerate(rows)
    ]
    for j, token in enumerate(columns):
        place = f"translate({left + _CELL * j + 12} {top - 5}) rotate(-45)"
        drawn.append(element("text", _short(token), transform=place, class_="column", data_token=token))
    place = f"translate({left} {top})"
    drawn.append(element("rect", class_="frame", transform=place, width=across, height=down))
    drawn.append(element("g", *_cells(weights), class_="cells", transform=place))
    size = left + across + max(2, top - _CELL // 2), top + down + 2
    return _svg(size, title, "", *drawn, class_="heat", width=size[0], height=size[1])


def _cells(weights: NDArray[np.float32] | None) -> list[Markup]:
    if weights is None:
        return []
    shades: dict[int, str] = {}
    scaled = np.rint(100 * weights / (weights.max() or 1.0)).astype(int)
    for i, row in enumerate(scaled.tolist()):
        for j, shade in enumerate(row):
            shades[shade] = shades.get(shade, "") + f"M{_CELL * j} {_CELL * i}h19v19h-19z"
    return [element("path", fill_opacity=shade / 100, d=d) for shade, d in sorted(shades.items()) if shade]


def _short(token: str) -> str:
    return token if len(token) <= 16 else token[:15] + "…"


def _wide(token: str) -> int:
    """The approximate width in pixels; wide East Asian letters count for almost two."""
    return 8 + sum(12 if unicodedata.east_asian_width(c) in "WF" else 7 for c in _short(token))


def _svg(size: tuple[int, int], title: str, description: str, *content: Markup, **attributes: object) -> Markup:
    labels = element("title", title), element("desc", description)
    return element("svg", *labels, *content, viewBox=f"0 0 {size[0]} {size[1]}", role="img", **attributes)
