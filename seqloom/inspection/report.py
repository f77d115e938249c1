"""The report of a run: one HTML file that works offline, for the screen, a screen reader or print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seqloom import measures
from seqloom.config import flat
from seqloom.inspection.attention import Example, example_part
from seqloom.inspection.charts import Curve, line_figure, number, smooth
from seqloom.inspection.page import Markup, cell, details, element, figure, join, page, table, texts
from seqloom.inspection.scores import calibration_chart, detail_tables, length_chart
from seqloom.measures import COUNTS, MEASURES

Row = Mapping[str, Any]
_LOSSES = {
    "score": "The mean of the losses of the tasks, each of its own kind",
    "perplexity": "Nats a token",
    "matthews": "Nats an example",
    "exact_match": "Nats an example",
    "reward": "The loss of the policy: its sign and size mean little",
    "reward_chosen": "Nats a pair of answers",
    "accuracy": "Nats a word",
    "skill": "The squared error of the next frame, in units of the standard deviation",
    "pearson": "The squared difference, in units of the standard deviation",
}
"""The unit of the loss, by a score that only this kind of model has."""
_FEW = 2  # scores of an evaluation among the figures
_ATTENTION = (
    "Each row attends to the columns, and its weights sum to one. The strongest cell of a picture has the full "
    "colour; the small pictures of a layer share one scale. Point at a cell, or use the arrow keys, to read its "
    "weight. The weights are quantized to 1/255."
)


@dataclass(frozen=True)
class ReportData:
    """The contents of a report.

    Args:
        name: of the run.
        config: TOML text.
        info, metrics, samples: run.json, metrics.jsonl and samples.jsonl of the run.
        evaluations: the files of eval/, by name.
        examples: texts with their attention.
        parameters: the number of the model's parameters; 0 = unknown.
        unit: what a step learns from: tokens, examples, ...
        sections: further sections, by title.
    """

    name: str
    config: str
    info: Mapping[str, Any]
    metrics: Sequence[Row]
    samples: Sequence[Row]
    evaluations: Mapping[str, Row]
    examples: Sequence[Example]
    parameters: int = 0
    unit: str = "tokens"
    sections: Mapping[str, Markup] = field(default_factory=dict)


def render(data: ReportData) -> str:
    """The report as one HTML file that loads nothing. A section without data is left out."""
    valid = [r for r in data.metrics if r.get("kind") == "valid"]
    examples = [example_part(i, e) for i, e in enumerate(data.examples, 1)]
    parts = {
        "Training": join(training_part(data.metrics, data.unit)),
        "Scores": join(_scores(data.evaluations)),
        "Samples": join(samples_part(data.samples)),
        "Attention": join([element("p", _ATTENTION, class_="note"), *examples] if examples else []),
        **data.sections,
        "Environment": join(_environment(data)),
    }
    links = (element("a", title, href=f"#{title.lower()}") for title, part in parts.items() if part)
    figures, nav = _figures(data, valid), element("nav", *links, aria_label="Sections")
    head = element("h1", data.name), element("dl", *figures, class_="figures"), nav
    return page(f"{data.name} · seqloom report", head, parts)


def _value(row: Row, key: str) -> float | None:
    value = row.get(key)
    # NaN and infinity compare false.
    return float(value) if isinstance(value, int | float) and abs(value) < 1e100 else None


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    pairs = ((_value(r, "step"), _value(r, key)) for r in rows)
    return sorted({x: y for x, y in pairs if x is not None and y is not None}.items())


def _measured(row: Row, *, headline: bool = False) -> dict[str, float]:
    pairs = ((key, _value(row, key)) for key in measures.measured(row, headline=headline))
    return {key: value for key, value in pairs if value is not None}


def _plotted(valid: Sequence[Row]) -> list[str]:
    """The headline scores of the validations; the curve of the loss stands for perplexities."""
    keys = {key for row in valid for key in _measured(row, headline=True) if MEASURES[key].better == "more"}
    return [key for key in MEASURES if key in keys]


def _cell(row: Row, key: str) -> object:
    if (value := _value(row, key)) is None:
        return None
    return MEASURES[key].shown(value) if key in MEASURES else row[key]


def _figures(data: ReportData, valid: Sequence[Row]) -> Iterator[Markup]:
    figures = [
        (MEASURES[key].name, MEASURES[key].shown(value), name)
        for name, scores in data.evaluations.items()
        for key, value in list(_measured(scores, headline=True).items())[:_FEW]
    ]
    rows = [{"step": _value(row, "step") or 0.0, **_measured(row)} for row in valid]
    for key in (*_plotted(valid)[:_FEW], "loss"):
        if best := measures.best(rows, key):
            measure, step = MEASURES[key], best["step"]
            title = f"{'least' if measure.better == 'less' else 'best'} {measure.name}"
            figures.append((title, measure.shown(best[key]), f"validation, step {step:,.0f}"))
    last = data.metrics[-1] if data.metrics else {}
    trained = {**last, "steps": last.get("step"), "minutes": (_value(last, "seconds") or 0) / 60}
    training = data.info.get("training")
    trained |= training if isinstance(training, Mapping) else {}
    if data.parameters:
        figures.append(("parameters", number(data.parameters), f"{data.parameters:,}"))
    tokens = _value(trained, "tokens")
    if steps := _value(trained, "steps"):
        figures.append(("steps", f"{steps:,.0f}", f"{number(tokens)} {data.unit}" if tokens else ""))
    if minutes := _value(trained, "minutes"):
        figures.append(("training", f"{minutes:,.0f} min" if minutes >= 10 else f"{minutes:.1f} min", ""))
    if task := data.info.get("task"):
        figures.append(("task", str(task).replace("_", " "), ""))
    for label, shown, note in figures:
        yield element("div", element("dt", label), element("dd", element("b", shown), element("span", note)))


def training_part(metrics: Sequence[Row], unit: str) -> Iterator[Markup]:
    """The curves of a training, from metrics.jsonl; `unit` is what a step learns from."""
    train, valid = ([r for r in metrics if r.get("kind") == kind] for kind in ("train", "valid"))
    clock = dict(_points([*train, *valid], "seconds"))

    def when(step: float) -> str:
        return f"step {step:,.0f}" + (f" · {clock[step] / 60:,.1f} min" if step in clock else "")

    end = max([1.0, *(s for s, _ in _points([*train, *valid], "step"))])
    plain = _points(train, "nll")
    raw = plain or _points(train, "loss")
    losses = [
        Curve("each training batch", raw if len(raw) > 10 else [], "raw"),
        Curve("training", smooth(raw), "train"),
        Curve("validation", _points(valid, "loss"), "valid"),
    ]
    units = (unit for key, unit in _LOSSES.items() if _points(valid, key))
    note = next(units, "Nats a pair of words, with its negative samples")
    note += ", without label smoothing." if plain and _points(valid, "bleu") else "."
    yield from line_figure("Loss", note, losses, when, low=math.inf, end=end)
    for key in _plotted(valid):
        name = MEASURES[key].name
        curve = Curve(name, _points(valid, key), "valid")
        yield from line_figure(name, "On the validation data.", [curve], when, end=end)
    for title, key in (("Learning rate", "lr"), (f"{unit.capitalize()} a second", "tokens_per_second")):
        curve = Curve(title.lower(), _points(train, key), "train")
        yield from line_figure(title, None, [curve], when, height=110, end=end)
    keys = [k for k in MEASURES if _points(valid, k)]
    rows = [[when(s), *(_cell(r, k) for k in keys)] for r in valid if (s := _value(r, "step")) is not None]
    if rows and keys:
        columns = ["", *(MEASURES[k].name for k in keys)]
        yield details("The validations as a table", table(columns, rows), class_="data wide")


def _scores(evaluations: Mapping[str, Row]) -> Iterator[Markup]:
    each = {name: s for name, whole in evaluations.items() for name, s in _by_task(name, whole)}
    scored = {name: s for name, s in each.items() if any(_value(s, k) is not None for k in s)}
    if not scored:
        return
    extra = sorted({k for s in scored.values() for k in s if _value(s, k) is not None} - {*MEASURES, *COUNTS})
    keys = [k for k in (*MEASURES, *extra, *COUNTS) if any(_value(s, k) is not None for s in scored.values())]
    rows = [[name, *(_cell(s, k) for k in keys)] for name, s in scored.items()]
    columns = (MEASURES[k].name if k in MEASURES else k.replace("_", " ") for k in keys)
    yield element("div", table(["", *columns], rows), class_="wide")
    texts_of = [(name, k, text) for name, s in scored.items() for k, text in s.items() if "signature" in k]
    signed = [[name, key.replace("_", " "), element("code", text)] for name, key, text in texts_of]
    if signed:
        yield details("The signatures: what exactly was computed", table(["", "", ""], signed), class_="wide")
    for name, scores in scored.items():
        yield from _details(name, scores)


def _by_task(name: str, scores: Row) -> Iterator[tuple[str, Row]]:
    """The scores of a run; of several tasks, their mean and those of each task."""
    tasks: Mapping[str, Row] = scores.get("tasks", {})
    yield name, {key: value for key, value in scores.items() if key.partition(".")[0] not in tasks}
    yield from ((f"{name}: {task}", row) for task, row in tasks.items())


def _details(name: str, scores: Row) -> Iterator[Markup]:
    classes = [(row, bleu, None) for row in scores.get("by_length") or () if (bleu := _value(row, "bleu")) is not None]
    yield from length_chart(f"BLEU by source length: {name}", "Words of the source.", {"BLEU": classes})
    yield from calibration_chart(f"Confidence: {name}", scores)
    for part in detail_tables(scores):
        yield figure(f"{part.title}: {name}", part.note, table(part.columns, part.rows))


def samples_part(rows: Sequence[Row]) -> Iterator[Markup]:
    """The samples of a training, from samples.jsonl, each with how it developed."""
    # A row holds the inputs, then the output.
    outputs: dict[tuple[tuple[str, str], ...], dict[str, tuple[str, str]]] = {}
    for row in rows:
        sure = f" ({row['probability']})" if "probability" in row else ""
        apart = ("step", "probability")  # neither tells one input from another
        *inputs, (key, text) = [(k, str(v or "")) for k, v in row.items() if k not in apart] or [("", "")]
        output = key, text + sure
        outputs.setdefault(tuple(inputs), {})[f"step {cell(row.get('step'))}"] = output
    for inputs_of, by_step in outputs.items():
        last = list(by_step)[-1]
        shown, steps = dict([*inputs_of, by_step[last]]), {step: text for step, (_, text) in by_step.items()}
        versions = {t: s for s, t in reversed(steps.items())}  # each text by the first step that produced it
        earlier = {s: t for t, s in reversed(versions.items())}
        more = details(f"How it developed until {last}", texts(earlier)) if len(earlier) > 1 else None
        yield element("article", texts({k: t for k, t in shown.items() if t}), more)


def _environment(data: ReportData) -> Iterator[Markup]:
    if data.config:
        yield details("The config", element("pre", element("code", data.config)))
    rows = []
    for keys, entry in flat(data.info).items():
        text = ", ".join(map(str, entry)) if isinstance(entry, list) else entry
        rows.append([" ".join(keys), element("code", text)])
    if rows:
        yield details("Versions, processor, threads, digests", table(["", ""], rows))
