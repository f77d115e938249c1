"""seqloom check."""

from __future__ import annotations

from typing import Any

from seqloom.cli.common import PRINTING, Overrides, Printing, print_result, print_table
from seqloom.errors import DataError


def check(config: str, /, *overrides: Overrides, printing: Printing = PRINTING) -> None:
    """Check the data before training, and estimate the time, memory and disk space that training takes.

    Exits with 3 if the data has an error that makes training useless.

    Args:
        config: The config file.
    """
    from seqloom.tasks import read_config
    from seqloom.workflows.check import check_config

    reporter = printing.reporter
    result = check_config(read_config(config, overrides), reporter)
    error = next((finding for finding in result["findings"] if finding["severity"] == "error"), None)
    print_result(result, printing.json, lambda result: _show(result, error))
    if error:
        raise DataError(f"{error['what']}: {error['detail']}", where=error["where"], cure=error["cure"])


_SHORT = {"distinct": "types", "unknown": "unk."}


def _show(result: dict[str, Any], last: dict[str, Any] | None) -> None:
    """Prints all but the `last` finding, the error that the command ends with."""
    for task in dict.fromkeys(row.get("task", "") for row in result["summary"]):
        rows = [row for row in result["summary"] if row.get("task", "") == task]
        columns = [c for c in rows[0] if c not in ("task", "split", "side")]
        names = (" ".join(str(row[k]) for k in ("split", "side") if k in row) for row in rows)
        cells = [(name, *(row[c] for c in columns)) for name, row in zip(names, rows, strict=True)]
        print_table(f"data of {task}" if task else "data", ("", *(_SHORT.get(c, c) for c in columns)), cells)
    for finding in (finding for finding in result["findings"] if finding is not last):
        print(f"{finding['severity']}: {finding['what']}: {finding['detail']}")
        print(f"  at {finding['where']}\n  {finding['cure']}")
    if not result["findings"]:
        print("nothing suspicious in the data")
    if estimate := result.get("estimate"):
        lines = [
            ("parameters", f"{estimate['parameters']:,}"),
            *([("learned", f"{estimate['learned']:,}")] if estimate["learned"] < estimate["parameters"] else []),
            ("steps", f"{estimate['steps']:,} ({estimate['epochs']:.1f} epochs)"),
            *([("padding", f"{100 * estimate['padding']:.1f} %")] if estimate["padding"] else []),
            ("tokens/s", f"{estimate['tokens_per_second']:,.0f}"),
            ("minutes", f"{estimate['minutes']:.1f}"),
            ("memory", _size(estimate["gigabytes"])),
            ("disk", _size(estimate["disk_gigabytes"])),
        ]
        print_table("estimate for this machine", ("", "expected"), lines)


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.2f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2f} MB"
