"""The benchmarks' options, and their figures as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from common import ALLOCATOR_SET, Json, Worker, base

T = TypeVar("T")
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass
class Row:
    """One system's rates, one for every piece of work, in the same order for all systems.

    `extra` holds further columns of the table, `details` what only the JSON tells.
    """

    system: str
    label: str
    rates: list[float] = field(default_factory=list)
    extra: Json = field(default_factory=dict)
    details: Json = field(default_factory=dict)


def reference(rows: Sequence[Row]) -> Row | None:
    """The row of seqloom that the others are compared with: the one with the allocator set if there are two."""
    own = [row for row in rows if base(row.system) == "seqloom"]
    return max(own, key=lambda row: row.system, default=None)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summaries(rows: Sequence[Row]) -> list[Json]:
    """What is reported of each row; the ratio is taken piece of work by piece of work before its median is."""
    own = reference(rows)
    found = []
    for row in rows:
        ratio = spread([a / b for a, b in zip(own.rates, row.rates, strict=True)]) if own else None
        found.append({**asdict(row), **spread(row.rates), "seqloom_to_system": ratio})
    return found


def deliver(title: str, unit: str, rows: Sequence[Row], settings: Json, json_path: str | None) -> None:
    """Print the table, and write everything as JSON if a path is given ("-": to standard output, no table)."""
    report = {"benchmark": title, "unit": unit, "settings": settings, "systems": summaries(rows)}
    text = json.dumps(report, indent=1) + "\n"
    if json_path == "-":
        sys.stdout.write(text)
        return
    show(report)
    if json_path:
        Path(json_path).write_text(text, encoding="utf-8")


def show(report: Json) -> None:
    """Print a report as a table, the settings below it."""
    from rich.console import Console
    from rich.table import Table

    extra = list(report["systems"][0]["extra"])
    table = Table(title=report["benchmark"], caption=f"{report['unit']}: median (min - max)")
    table.add_column("system", no_wrap=True)
    for name in (report["unit"], "seqloom / system", *extra):
        table.add_column(name, justify="right", no_wrap=True)
    for system in report["systems"]:
        ratio = system["seqloom_to_system"]
        digits = 0 if system["median"] >= 100 else 1
        cells = ["{median:,.{d}f} ({min:,.{d}f} - {max:,.{d}f})".format(d=digits, **system)]
        cells += [f"{ratio['median']:.2f} ({ratio['min']:.2f} - {ratio['max']:.2f})" if ratio else "-"]
        cells += [f"{system['extra'][name]:,}" for name in extra]
        table.add_row(system["label"], *cells)
    # A table cut to a narrow terminal or a log file would lose its figures.
    console = Console()
    console.width = max(console.width, 140)
    console.print(table)
    for name, value in report["settings"].items():
        print(f"{name}: {value}")


def track(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a bar on standard error that shows how far one is."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def versions(workers: Iterable[Worker]) -> str:
    """The versions that the workers named in their first answers; one that differs between them appears twice."""
    return ", ".join(
        sorted({f"{name} {text}" for worker in workers for name, text in worker.ready["versions"].items()})
    )


def machine(device: str = "cpu") -> Json:
    """The processor with its wide vector and matrix units, the GPU, and the interpreter, for the report's settings."""
    information: dict[str, str] = {}
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        for line in cpuinfo.read_text(encoding="utf-8").split("\n"):
            name, _, value = line.partition(":")
            information.setdefault(name.strip(), value.strip())
    units = [flag for flag in information.get("flags", "").split() if flag in UNITS]
    processor = information.get("model name") or platform.processor() or platform.machine()
    python = platform.python_version()
    found: Json = {"processor": processor, "units": " ".join(units), "cores": os.cpu_count(), "python": python}
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found


def parser(description: str | None, systems: Iterable[str], default: Sequence[str]) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = f"of {', '.join(systems)}, each also with {ALLOCATOR_SET}"
    options.add_argument("--systems", nargs="+", default=list(default), metavar="NAME", help=named)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each system")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="a smoke test: tiny work, figures without meaning")
    options.add_argument(
        "--json", metavar="FILE", help="also write everything as JSON; - for standard output, no table"
    )
    options.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    return options


def check_systems(options: argparse.ArgumentParser, names: Iterable[str], known: Iterable[str]) -> None:
    """Stop with a message if a name is not that of a known system."""
    known = set(known)
    for name in names:
        if base(name) not in known:
            options.error(f"unknown system {name!r}; known: {', '.join(sorted(known))}, each also with {ALLOCATOR_SET}")


def label(name: str, labels: dict[str, str]) -> str:
    """A system's name in words."""
    return labels[base(name)] + (", allocator set" if name.endswith(ALLOCATOR_SET) else "")
