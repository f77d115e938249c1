"""The page that compares runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seqloom.inspection.charts import Curve, Steps, line_figure, number
from seqloom.inspection.page import Markup, element, join, page, table, texts
from seqloom.measures import MEASURES, count_of

_COLUMNS = {
    "parameters": "parameters",
    "learned": "learned parameters",
    "minutes": "minutes of training",
    "minutes_to_reach": "minutes to reach",
    "tokens_per_second": "training {unit}/s",
    "sentences_per_second": "using: {tested}/s",
    "gigabytes": "peak GB",
}


def render_comparison(result: Mapping[str, Any]) -> str:
    """The result of `seqloom compare` as one HTML file that loads nothing."""
    parts = _of_translations(result) if "by_frequency" in result else _of_scores(result)
    count = count_of(result)
    head = element(
        "header",
        element("h1", f"{len(result['systems'])} runs on {result['test']}"),
        element("p", f"{count[0]:,} {count[1]}", class_="note") if count else None,
    )
    sections = (element("section", element("h2", title), part) for title, part in parts.items() if part)
    return page(f"{result['test']} · seqloom comparison", element("main", head, *sections))


def _of_translations(result: Mapping[str, Any]) -> dict[str, Markup]:
    return {
        "Scores": join(_scores(result)),
        "By length": join((*_by_length(result["by_length"]), *_gains(result["gains"], result["systems"][0]["name"]))),
        "By kind": join(_by_kind(result["by_kind"])),
        "By word frequency": join(_by_frequency(result["by_frequency"])),
        "Phrases": join(_phrases(result["ngrams"], result["systems"][0]["name"])),
        "Sentences that differ most": join(_sentences(result["differ"])),
    }


def _of_scores(result: Mapping[str, Any]) -> dict[str, Markup]:
    return {"Scores": join(_plain_scores(result)), "Learning": join(_learning(result))}


def _cell(value: int | float | None, interval: float | None = None, key: str = "") -> str:
    if value is None:
        return "–"
    if interval is not None:
        return f"{value:.1f}\u00a0±\u00a0{interval:.1f}"
    return MEASURES[key].shown(value) if key else number(float(value))


def _costs(result: Mapping[str, Any]) -> dict[str, str]:
    """The cost columns that any of the runs has, with their titles."""
    count = count_of(result)
    tested = count[1] if count else "examples"
    measured = (key for key in _COLUMNS if any(row[key] is not None for row in result["systems"]))
    return {key: _COLUMNS[key].format(unit=result["unit"], tested=tested) for key in measured}


def _scores(result: Mapping[str, Any]) -> Iterator[Markup]:
    costs = _costs(result)
    rows = [
        [
            row["name"],
            _cell(row["bleu"], row["bleu_interval"]),
            "" if row["p"] is None else f"{row['p']:.3f}",
            _cell(row["chrf"], row["chrf_interval"]),
            f"{row['exact_match']:.1f}",
            *(_cell(row[key]) for key in costs),
        ]
        for row in result["systems"]
    ]
    note = (
        f"BLEU is sacreBLEU {result['tokenization']}, lowercased. ± is half a 95 % interval, p the probability of such "
        f"a difference from the first run by chance, both by paired bootstrap.{_reached(result)}"
    )
    yield element("p", note, class_="note")
    yield table(["", "BLEU", "p", "chrF", MEASURES["exact_match"].name, *costs.values()], rows)


def _reached(result: Mapping[str, Any]) -> str:
    if result["reached"] is None:
        return ""
    measure = MEASURES[result["metric"]]
    return f" To reach: {measure.name} {measure.shown(result['reached'])} on the validation data."


def _plain_scores(result: Mapping[str, Any]) -> Iterator[Markup]:
    keys = list(dict.fromkeys(key for row in result["systems"] for key in row["scores"]))
    costs = _costs(result)
    rows = [
        [
            row["name"],
            *(_cell(row["scores"].get(key), row["intervals"].get(key), key) for key in keys),
            *(_cell(row[key]) for key in costs),
        ]
        for row in result["systems"]
    ]
    half = "± is half a 95 % interval." if any(row["intervals"] for row in result["systems"]) else ""
    floor = f"Always predicting the most frequent label: {result['majority']:.1f} %." if "majority" in result else ""
    note = " ".join(filter(None, (half, floor, _reached(result).strip())))
    yield element("p", note, class_="note")
    yield element("div", table(["", *(MEASURES[k].name for k in keys), *costs.values()], rows), class_="wide")


def _learning(result: Mapping[str, Any]) -> Iterator[Markup]:
    metric = result["metric"]
    points = {
        row["name"]: [(v["seconds"] / 60, v[metric]) for v in row["valid"] if metric in v] for row in result["systems"]
    }
    curves = [Curve(name, line, f"s{i % 6}") for i, (name, line) in enumerate(points.items()) if line]
    if curves:
        steps = Steps(max(c.points[-1][0] for c in curves), lambda x: f"{x:.1f} minutes")
        title = f"{MEASURES[metric].title} on the validation data by minutes of training"
        yield from line_figure(title, None, curves, steps, 260, math.inf)


def _middle(row: Mapping[str, Any]) -> float:
    return float((row["from"] + row["below"] - 1) / 2 if row["below"] else row["from"] * 1.25)


def _class(row: Mapping[str, Any]) -> str:
    if row["below"] is None:
        return f"{row['from']}+"
    return f"{row['from']}–{row['below'] - 1}" if row["below"] - row["from"] > 1 else f"{row['from']}"


def _by_length(classes: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    names = [system["name"] for system in classes[0]["systems"]]
    curves = []
    for i, name in enumerate(names):
        scores = [(_middle(row), row["systems"][i]["bleu"], row["systems"][i]["bleu_interval"]) for row in classes]
        points = [(x, y) for x, y, _ in scores]
        band = [(x, y - half, y + half) for x, y, half in scores]
        curves.append(Curve(name, points, f"s{i % 6}", band))
    if len(classes) > 1:
        steps = Steps(_middle(classes[-1]), lambda x: f"{x:.0f} words")
        note = "BLEU by words of the source; the shaded band is the 95 % interval."
        yield from line_figure("BLEU by length of the source", note, curves, steps, 260)
    rows = [
        [_class(row), f"{row['sentences']}", *(_cell(s["bleu"], s["bleu_interval"]) for s in row["systems"])]
        for row in classes
    ]
    yield table(["words", "sentences", *names], rows)


def _gains(rows: Sequence[Mapping[str, Any]], first: str) -> Iterator[Markup]:
    if rows:
        yield element("p", f"BLEU above {first}, by words of the source.", class_="note")
        cells = [[row["name"], f"{row['short']:+.1f}", f"{row['long']:+.1f}"] for row in rows]
        yield table(["", "fewer than 10", "20 and more"], cells)


def _by_kind(rows: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    if rows:
        names = list(rows[0]["exact_match"])
        yield element("p", "Exact match in percent.", class_="note")
        cells = [[r["kind"], f"{r['sentences']}", *(f"{r['exact_match'][name]:.1f}" for name in names)] for r in rows]
        yield table(["kind", "sentences", *names], cells)


def _by_frequency(rows: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    if rows:
        names = list(rows[0]["f1"])
        yield element("p", "F1 of the words, by their frequency in the training data.", class_="note")
        cells = [[_class(r), f"{r['words']:,}", *(f"{r['f1'][name]:.1f}" for name in names)] for r in rows]
        yield table(["seen in training", "words of the references", *names], cells)


def _phrases(rows: Sequence[Mapping[str, Any]], first: str) -> Iterator[Markup]:
    for row in rows:
        yield element("h3", f"{row['name']} against {first}")
        grams = {
            f"{sign} often right": " · ".join(f"{gram} ({count:+d})" for gram, count in row[sign])
            for sign in ("more", "less")
        }
        yield texts({k: v for k, v in grams.items() if v})


def _sentences(rows: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    for row in rows:
        systems = {f"{name}, chrF {row['chrf'][name]:.0f}": text for name, text in row["translations"].items()}
        yield element("article", texts({"source": row["source"], "reference": row["reference"], **systems}))
