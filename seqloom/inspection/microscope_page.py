"""The page of `seqloom microscope`: how far back runs remember."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqloom.inspection.charts import Curve, heat_map, line_figure, number
from seqloom.inspection.page import Markup, Table, details, element, join, page, table

_PLOTS = {
    "encoder": ("encoder", "A source state with respect to the tokens before and after it; k = 0 is its own token."),
    "source": (
        "decoder over the source",
        "The decoder's output, averaged over t, with respect to the source token k before the last, as a share of the "
        "mean over all: flat where every token counts alike.",
    ),
    "target": ("decoder over its inputs", "The decoder's output with respect to the target tokens it has read."),
}
_NOTE = (
    "Each curve is the norm of the gradient k tokens back, divided by that at k = 0 (over the source: by the mean), in "
    "powers of ten: −1 is a tenth, −2 a hundredth. It ends where few sentences are as long, or no gradient is left. "
    "Half at, tenth at: the k from which it stays below a half, a tenth."
)
_STATES = (
    "The state of a layer (h; h and c of an LSTM) with respect to its state k steps before, with its inputs fixed: the "
    "product of the Jacobians in between. In powers of ten."
)
_ENTROPY = "Mean entropy of the attention weights in nats; 100 % = every visible position counts alike."
_GATES = "The mean over sentences and units by reading step; the shaded band holds the middle 80 %."
_SHARES = ("i", "f", "o", "r", "z")  # between 0 and 1


def render_microscope(result: Mapping[str, Any]) -> str:
    """The measurements as one HTML file that loads nothing."""
    note = element("p", f"{result['sentences']:,} validation sentences of each run", class_="note")
    return page("seqloom microscope", [element("h1", "How far back they remember"), note], microscope_parts(result))


def microscope_parts(result: Mapping[str, Any]) -> dict[str, Markup]:
    """The sections of the page, by title."""
    return {"Reach": join(_reach(result)), **{run["name"]: join(_run(run)) for run in result["runs"]}}


def _reach(result: Mapping[str, Any]) -> Iterator[Markup]:
    yield element("p", _NOTE, class_="note")
    for run in result["runs"]:
        if run["encoder"] is None:
            yield element("p", f"The encoder of {run['name']} has no order, and so no distances.", class_="note")
    plots = {key: {run["name"]: run[key] for run in result["runs"] if run[key] is not None} for key in _PLOTS}
    yield element("div", *(_reach_chart(*_PLOTS[key], reaches) for key, reaches in plots.items()), class_="charts")
    reach = reach_table(result)
    yield table(reach.columns, reach.rows)


def reach_table(result: Mapping[str, Any]) -> Table:
    """How far each gradient of each run reaches."""
    rows: list[tuple[object, ...]] = []
    for run in result["runs"]:
        for key, (title, _) in _PLOTS.items():
            heads = [s for a in run["attention"].values() if a["over"] == key for s in a["share"]]
            entropy = round(100 * sum(heads) / len(heads)) if heads else None
            if run[key] is None:
                rows.append((run["name"], title, "no order", "no order", None, None, entropy))
            else:
                rows.append((run["name"], title, *_reached(run[key]), entropy))
        states = run["states"].items()
        rows += [(run["name"], f"state of {_short(layer)}", *_reached(reach), None) for layer, reach in states]
    title = f"Share of the gradient left after k tokens, {result['sentences']} sentences"
    return Table(title, ["run", "gradient", "half at", "tenth at", "at 10", "at 20", "entropy, %"], rows)


def _short(layer: str) -> str:
    return layer.replace(".layers", "").replace(".blocks", "").replace(".stack", "")


def _reached(reach: Mapping[str, Any]) -> tuple[object, ...]:
    beyond = f"> {len(reach['share']) - 1}"
    first = (beyond if reach[name] is None else str(reach[name]) for name in ("half", "tenth"))
    return *first, *(None if reach[at] is None else number(reach[at]) for at in ("at_10", "at_20"))


def _reach_chart(title: str, note: str, reaches: Mapping[str, Mapping[str, Any]]) -> Markup:
    curves = [
        Curve(name, [(float(k), math.log10(share)) for k, share in enumerate(reach["share"]) if share > 0])
        for name, reach in reaches.items()
    ]
    description = "; ".join(f"{name}: below a half from {_reached(reach)[0]}" for name, reach in reaches.items())
    return _chart(title, note, description, curves, "k =", -1.0)


def _chart(title: str, note: str, description: str, curves: Sequence[Curve], axis: str, low: float = 0.0) -> Markup:
    title = title[0].upper() + title[1:]
    return join(line_figure(title, note, curves, lambda k: f"{axis} {k:.0f}", low=low, description=description))


def _run(run: Mapping[str, Any]) -> Iterator[Markup]:
    """States, gates and attention of one run; nothing where it has none."""
    states = {_short(layer): reach for layer, reach in run["states"].items()}
    charts = [_reach_chart("states", _STATES, states)] if states else []
    for layer, cell in run["gates"].items():
        curves = []
        for name in (name for name in cell["gates"] if name in _SHARES):
            steps = [(float(t), q) for t, q in enumerate(cell["gates"][name]["by_time"])]
            band = [(t, q["low"], q["high"]) for t, q in steps]
            curves.append(Curve(name, [(t, q["mean"]) for t, q in steps], band=band))
        description = "; ".join(f"{name}: mean {number(gate['mean'])}" for name, gate in cell["gates"].items())
        charts.append(_chart(f"gates of {_short(layer)}", _GATES, description, curves, "step"))
    if charts:
        yield element("div", *charts, class_="charts")
    rows = [
        [f"{_short(layer)} {name}", *(number(gate[key]) for key in ("mean", "low", "median", "high"))]
        for layer, cell in run["gates"].items()
        for name, gate in cell["gates"].items()
    ]
    if rows:
        yield table(["gate or cell", "mean", "10 %", "median", "90 %"], rows)
    for layer, cell in run["gates"].items():
        trace = cell["trace"]
        units, values = [f"unit {n}" for n in trace["units"]], np.asarray(trace["values"], dtype=np.float32)
        title = f"Gate {trace['gate']} of {layer}: the units that change most, one row each"
        picture = element("div", heat_map(title, units, trace["tokens"], values), class_="scroll")
        yield details(f"Gate {trace['gate']} of {_short(layer)} over the tokens of a sentence", picture)
    heads = {
        layer: [f"{n:.2f} ({100 * share:.0f} %)" for n, share in zip(entropy["nats"], entropy["share"], strict=True)]
        for layer, entropy in run["attention"].items()
    }
    if heads:
        columns = ["attention", *(f"head {i}" for i in range(1, 1 + max(map(len, heads.values()))))]
        yield element("p", _ENTROPY, class_="note")
        yield table(columns, [[_short(layer), *cells] for layer, cells in heads.items()])
