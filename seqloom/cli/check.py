"""seqloom check."""

from __future__ import annotations

from typing import Any

from seqloom.cli.common import AsJson, Overrides, Quiet, print_json, print_table, verbosity
from seqloom.errors import DataError


def check(config: str, /, *overrides: Overrides, quiet: Quiet = False, json: AsJson = False) -> None:
    """Say, before any training, what the data is, what is wrong with it, and what training will take.

    Exits with 3 if something is so wrong that training makes no sense.
    """
    from seqloom.tasks import read_config
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.check import check_config

    keep_freed_memory()
    chosen = read_config(config, overrides)
    result = check_config(chosen, Reporter(verbosity(quiet, False)))
    if json:
        print_json(result)
    else:
        _show(result)
    errors = [f for f in result["findings"] if f["severity"] == "error"]
    if errors:
        first = errors[0]
        raise DataError(f"{first['what']}: {first['detail']}", where=first["where"], cure=first["cure"])


_SHORT = {"distinct": "types", "unknown": "unk."}


def _show(result: dict[str, Any]) -> None:
    if rows := result["summary"]:
        columns = [c for c in rows[0] if c not in ("split", "side")]
        names = (" ".join(str(row[k]) for k in ("split", "side") if k in row) for row in rows)
        cells = [(name, *(row[c] for c in columns)) for name, row in zip(names, rows, strict=True)]
        print_table("the data", ("", *(_SHORT.get(c, c) for c in columns)), cells)
    for found in result["findings"]:
        print(f"{found['severity']}: {found['what']}: {found['detail']}\n  at {found['where']}\n  {found['cure']}")
    if not result["findings"]:
        print("nothing suspicious in the data")
    if expected := result.get("estimate"):
        lines = [
            ("parameters", f"{expected['parameters']:,}"),
            ("steps", f"{expected['steps']:,} ({expected['epochs']:.1f} epochs)"),
            *([("padding", f"{100 * expected['padding']:.1f} %")] if expected["padding"] else []),
            ("tokens a second", f"{expected['tokens_per_second']:,.0f}"),
            ("minutes", f"{expected['minutes']:.1f}"),
            ("memory", f"{expected['gigabytes']:.2f} GB"),
            ("disk", f"{expected['disk_gigabytes']:.2f} GB"),
        ]
        print_table("what training will take here", ("what", "expected"), lines)
