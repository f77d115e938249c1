"""The comparison of runs: its tables, for the terminal and the page, and the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seqloom.inspection.charts import Curve, line_figure, number
from seqloom.inspection.page import Markup, Table, element, join, page, table, texts
from seqloom.inspection.scores import class_name, length_chart
from seqloom.measures import LEAST, MEASURES, count_of

_COSTS = {
    "parameters": "parameters",
    "learned": "learned",
    "minutes": "minutes",
    "minutes_to_reach": "to reach",
    "tokens_per_second": "training/s",
    "sentences_per_second": "in use/s",
    "gigabytes": "peak GB",
    "megabytes": "file MB",
}


def render_comparison(result: Mapping[str, Any]) -> str:
    """The result of `seqloom compare` as one HTML file that loads nothing."""
    parts = {
        part.title: join((part.note and element("p", part.note, class_="note"), table(part.columns, part.rows)))
        for part in comparison_tables(result)
    }
    parts["Curves"] = join(_curves(result))
    parts["Phrases"] = join(_phrases(result.get("ngrams", ()), result["systems"][0]["name"]))
    parts["Sentences that differ most"] = join(_sentences(result.get("differ", ())))
    head = element("h1", f"{len(result['systems'])} runs on {result['test']}")
    return page(f"{result['test']} · seqloom comparison", [head], parts)


def comparison_tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """Scores and costs; for translations also the scores of groups of sentences and of words."""
    yield _scores(result)
    yield _costs(result)
    if forgotten := result.get("forgetting"):
        rows = [
            [row["name"], *(_score(row["scores"], key) for key in forgotten["measures"])]
            for row in forgotten["systems"]
        ]
        title = f"What is kept of {forgotten['start']}: its task on its own test data, with the weights of each run"
        yield Table(title, ["", *(MEASURES[key].name for key in forgotten["measures"])], rows)
    if groups := result.get("by_length"):
        names = [system["name"] for system in groups[0]["systems"]]
        rows = [[class_name(r), r["sentences"], *(_score(s, "bleu") for s in r["systems"])] for r in groups]
        yield Table("BLEU by words of the source", ["words", "sentences", *names], rows)
    if gains := result.get("gains"):
        rows = [[row["name"], *(f"{row[part]:+.1f}" for part in ("short", "long"))] for row in gains]
        title = f"BLEU above {result['systems'][0]['name']} by words of the source"
        yield Table(title, ["", "fewer than 10", "20 and more"], rows)
    if kinds := result.get("by_kind"):
        rows = [[row["kind"], row["sentences"], *row["exact_match"].values()] for row in kinds]
        yield Table("Exact match by kind, %", ["kind", "sentences", *kinds[0]["exact_match"]], rows)
    if frequencies := result.get("by_frequency"):
        rows = [[class_name(row), row["words"], *row["f1"].values()] for row in frequencies]
        columns = ["seen in training", "words of the references", *frequencies[0]["f1"]]
        yield Table("By word frequency in the training data: F1, %", columns, rows)


def _scores(result: Mapping[str, Any]) -> Table:
    count = count_of(result)
    title = f"{result['test']}, {count[0]:,} {count[1]}" if count else str(result["test"])
    title += f", most frequent label {result['majority']:.1f} %" if "majority" in result else ""
    note = "± is half a 95 % interval."
    if any("difference" in row for row in result["systems"]):
        note += " against: the difference of the accuracies, in points, on the same examples (paired)."
    if "tokenization" in result:
        note = (
            f"BLEU is sacreBLEU {result['tokenization']}, lowercased. ± is half a 95 % interval, p the probability of "
            "such a difference from the first run by chance, both by paired bootstrap."
        )
    rows = [dict(row) for row in result["systems"]]
    for row in rows:
        row |= row.get("scores", {}) | {f"{key}_interval": half for key, half in row.get("intervals", {}).items()}
    if any(value is None for row in rows for key, value in row.items() if key.endswith("_interval")):
        title += f", fewer than the {LEAST} that intervals need"
    keys = [key for key in (*MEASURES, "difference", "p") if key not in _COSTS and any(key in row for row in rows)]
    others = {"difference": f"against {rows[0]['name']}"}
    names = (MEASURES[key].name if key in MEASURES else others.get(key, key) for key in keys)
    return Table(title, ["", *names], [[row["name"], *(_score(row, key) for key in keys)] for row in rows], note)


def _score(row: Mapping[str, Any], key: str) -> str | None:
    value, half = row.get(key), row.get(f"{key}_interval")
    if value is None:
        return None
    if half is not None:
        return f"{value:{'+' if key == 'difference' else ''}.1f}±{half:.1f}"
    return MEASURES[key].shown(value) if key in MEASURES else f"{value:{'+.1f' if key == 'difference' else '.3f'}}"


def _costs(result: Mapping[str, Any]) -> Table:
    tested = (count_of(result) or (0, "examples"))[1]
    title = f"Costs: minutes, {result['unit']} of training and {tested} in use per second"
    if result["reached"] is not None:
        measure = MEASURES[result["metric"]]
        title += f"; to reach: {measure.name} {measure.shown(result['reached'])} on the validation data"
    keys = [key for key in _COSTS if any(row[key] is not None for row in result["systems"])]
    rows = [[row["name"], *(row[key] and number(row[key]) for key in keys)] for row in result["systems"]]
    return Table(title, ["", *(_COSTS[key] for key in keys)], rows)


def _curves(result: Mapping[str, Any]) -> Iterator[Markup]:
    systems, metric, groups = result["systems"], result["metric"], result.get("by_length", ())
    curves = [
        Curve(row["name"], [(v["seconds"] / 60, v[metric]) for v in row.get("valid", ()) if metric in v])
        for row in systems
    ]
    data = "the validation data" if result["same_valid"] else "validation data, or tokens, of its own"
    title = f"{MEASURES[metric].title} on {data} by minutes of training"
    yield from line_figure(title, None, curves, lambda x: f"{x:.1f} minutes", height=260, low=math.inf)
    note = "BLEU by words of the source; the shaded band is the 95 % interval."
    lines = {
        system["name"]: [(row, row["systems"][i]["bleu"], row["systems"][i]["bleu_interval"]) for row in groups]
        for i, system in enumerate(systems)
    }
    yield from length_chart("BLEU by length of the source", note, lines)


def _phrases(rows: Sequence[Mapping[str, Any]], first: str) -> Iterator[Markup]:
    for row in rows:
        yield element("h3", f"{row['name']} against {first}")
        grams = {sign: " · ".join(f"{gram} ({count:+d})" for gram, count in row[sign]) for sign in ("more", "less")}
        yield texts({f"{sign} often right": text for sign, text in grams.items() if text})


def _sentences(rows: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    for row in rows:
        systems = {f"{name}, chrF {row['chrf'][name]:.0f}": text for name, text in row["translations"].items()}
        yield element("article", texts({"source": row["source"], "reference": row["reference"], **systems}))
