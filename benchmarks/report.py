"""The options that the benchmarks share, their timing loop, and their figures as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import common
from common import ALLOCATOR_SET, Json, Worker, base

T = TypeVar("T")
COLOURS = ("#5c656f", "#0072b2", "#bf4d08", "#007a58", "#a34a8a", "#7d6800")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#3c434b}.title{font-weight:600}.grid{stroke:#e2dfd8;fill:none}"
    ".line{fill:none;stroke:currentColor;stroke-width:2}"
) + "".join(f".s{i}{{color:{colour}}}" for i, colour in enumerate(COLOURS))
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass
class Row:
    """One system's rates, one for each piece of work, in the same order for all systems.

    `extra` holds further columns of the table, `details` what only the JSON has.
    """

    system: str
    label: str
    rates: list[float] = field(default_factory=list)
    extra: Json = field(default_factory=dict)
    details: Json = field(default_factory=dict)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summaries(rows: Sequence[Row]) -> list[Json]:
    """Each row with its median and spread, and the ratio of each of seqloom's rows to it.

    Ratios are taken for each piece of work, then their median.
    """
    result = []
    for row in rows:
        ratios = {
            ours.system: spread([a / b for a, b in zip(ours.rates, row.rates, strict=True)])
            for ours in rows
            if ours.system.startswith("seqloom")
        }
        result.append({**asdict(row), **spread(row.rates), "ratios": ratios})
    return result


def deliver(title: str, unit: str, rows: Sequence[Row], settings: Json, json_path: str | None) -> None:
    """Print the table, and write everything as JSON to `json_path` ("-": to standard output, without the table)."""
    report = {"benchmark": title, "unit": unit, "settings": settings, "systems": summaries(rows)}
    text = json.dumps(report, indent=1) + "\n"
    if json_path == "-":
        sys.stdout.write(text)
        return
    show(report)
    if json_path:
        Path(json_path).write_text(text, encoding="utf-8")


def show(report: Json) -> None:
    """Print a report as a table with the settings below it."""
    from rich.console import Console
    from rich.table import Table

    extra, ratios = (list(report["systems"][0][key]) for key in ("extra", "ratios"))
    table = Table(title=report["benchmark"], caption=f"{report['unit']}: median (min - max)")
    table.add_column("system", no_wrap=True)
    for name in (report["unit"], *(f"{ours} / system" for ours in ratios), *extra):
        table.add_column(name, justify="right", no_wrap=True)
    for system in report["systems"]:
        digits = 0 if system["median"] >= 100 else 1
        cells = ["{median:,.{d}f} ({min:,.{d}f} - {max:,.{d}f})".format(d=digits, **system)]
        cells += ["{median:.2f} ({min:.2f} - {max:.2f})".format(**ratio) for ratio in system["ratios"].values()]
        cells += [f"{system['extra'][name]:,}" for name in extra]
        table.add_row(system["label"], *cells)
    # A table cut to a narrow terminal or a log file would lose its figures.
    console = Console()
    console.width = max(console.width, 240)
    console.print(table)
    for name, value in report["settings"].items():
        print(f"{name}: {value}")


def picture(path: str, note: str, charts: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> None:
    """Write charts as one SVG file, two side by side, with one legend and a note below them.

    Args:
        charts: the curves of each chart by their names, by the title of the chart; those with one point are left out.
    """
    from seqloom.inspection.charts import Curve, line_figure
    from seqloom.inspection.page import Markup, element, join

    width, height, drawn = 480, 270, []
    charts = {title: curves for title, curves in charts.items() if any(len(points) > 1 for points in curves.values())}
    if not charts:
        common.stop(f"{path}: a curve needs two points")
    for i, (title, curves) in enumerate(charts.items()):
        x, y = width * (i % 2) + 10, height * (i // 2) + 20
        figure = join(line_figure(title, None, [Curve(*curve) for curve in curves.items()], lambda x: f"{x:,.0f}"))
        chart = re.sub(' data-hover="[^"]*"', "", figure[figure.index("<svg") : figure.index("</svg>") + 6])
        drawn += [element("text", title, x=x, y=y, class_="title")]
        drawn += [Markup(chart.replace("<svg", f'<svg x="{x}" y="{y + 10}" width="460" height="230"', 1))]
    wide, bottom = width * min(2, len(charts)), height * -(-len(charts) // 2) + 20
    for i, name in enumerate(next(iter(charts.values()))):
        x = 20 + 180 * i
        drawn += [element("path", class_=f"line s{i}", d=f"M{x} {bottom - 4}h20")]
        drawn += [element("text", name, x=x + 26, y=bottom)]
    lines = textwrap.wrap(note, wide // 7)
    drawn += [element("text", line, x=20, y=bottom + 20 + 16 * i) for i, line in enumerate(lines)]
    head = [element("style", Markup(STYLE)), element("rect", width="100%", height="100%", fill="#fff")]
    box = f"0 0 {wide} {bottom + 16 * len(lines) + 16}"
    svg = element("svg", *head, *drawn, xmlns="http://www.w3.org/2000/svg", viewBox=box)
    Path(path).write_text(svg + "\n", encoding="utf-8")


def track(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def versions(workers: Iterable[Worker]) -> str:
    """The versions from the workers' first answers; one that differs between workers appears twice."""
    return ", ".join(
        sorted({f"{name} {text}" for worker in workers for name, text in worker.ready["versions"].items()})
    )


def machine(device: str = "cpu") -> Json:
    """The processor with its vector and matrix units, the GPU, and the Python version."""
    information: dict[str, str] = {}
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        for line in cpuinfo.read_text(encoding="utf-8").split("\n"):
            name, _, value = line.partition(":")
            information.setdefault(name.strip(), value.strip())
    units = [flag for flag in information.get("flags", "").split() if flag in UNITS]
    processor = information.get("model name") or platform.processor() or platform.machine()
    python = platform.python_version()
    facts: Json = {"processor": processor, "units": " ".join(units), "cores": os.cpu_count(), "python": python}
    if device == "cuda":
        import torch

        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def parser(description: str | None, systems: Iterable[str], default: Sequence[str]) -> argparse.ArgumentParser:
    """The options that the benchmarks share."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = f"of {', '.join(systems)}, each also with {ALLOCATOR_SET}"
    options.add_argument(
        "--systems", nargs="+", default=list(default), metavar="NAME", help=names, type=partial(_system, systems)
    )
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each system")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="a smoke test: tiny work, meaningless figures")
    options.add_argument(
        "--json", metavar="FILE", help="also write everything as JSON; -: to standard output, no table"
    )
    options.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    return options


def _system(systems: Iterable[str], name: str) -> str:
    if base(name) not in systems:
        names = f"{', '.join(systems)}, each also with {ALLOCATOR_SET}"
        raise argparse.ArgumentTypeError(f"unknown {name!r}; known: {names}")
    return name


def label(name: str, labels: Mapping[str, str]) -> str:
    """A system's title for the table."""
    return labels[base(name)] + (", allocator set" if name.endswith(ALLOCATOR_SET) else "")


def seconds(worker: Worker, question: Json) -> float:
    """How long the worker takes over a question; an error in its answer ends the benchmark."""
    answer = common.resting_ask(worker, question)
    if "error" in answer:
        raise SystemExit(f"{worker.system}: {answer['error']}")
    taken: float = answer["seconds"]
    return taken


def take_turns(
    workers: Sequence[Worker], labels: Mapping[str, str], work: Sequence[tuple[Json, float]], warm_up: int, what: str
) -> list[Row]:
    """Give the workers each piece of work in turn, and rate them by its amount over their seconds.

    Args:
        work: questions, each with the amount of work in it.
        warm_up: how many of the first pieces are not timed.
        what: the title of the progress bar.
    """
    rows = [Row(worker.system, label(worker.system, labels)) for worker in workers]
    for i, (question, amount) in enumerate(track(work, what)):
        for worker, row in zip(workers, rows, strict=True):
            taken = seconds(worker, question)
            if i >= warm_up:
                row.rates.append(amount / taken)
    for worker, row in zip(workers, rows, strict=True):
        if "loss" in worker.latest:
            row.extra["last loss"] = round(worker.latest["loss"], 3)
        row.extra["parameters"] = worker.ready["parameters"]
    return rows


def run(
    title: str,
    unit: str,
    options: argparse.Namespace,
    first: Json,
    measure: Callable[[list[Worker]], list[Row]],
    settings: Json,
    pythons: Mapping[str, str] | None = None,
) -> None:
    """Start the chosen systems, measure them and deliver the figures.

    Args:
        first: the workers' first question, beside the threads and the seed.
        settings: what the report states of the work.
        pythons: the Python of each system that has an environment of its own.
    """

    def command(system: str) -> list[str | Path]:
        return [(pythons or {}).get(system, sys.executable), Path(sys.argv[0]).resolve(), "--worker", system]

    shared = {"threads": options.threads, "seed": options.seed}
    with ExitStack() as stack:
        workers = common.start(stack, options.systems, command, first | shared)
        rows = measure(workers)
        settings |= {**shared, "versions": versions(workers), **machine(first.get("device", "cpu"))}
    deliver(title, unit, rows, settings, options.json)
