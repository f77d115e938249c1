"""seqloom runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seqloom.cli.common import AsJson, print_json, print_table
from seqloom.errors import RunError, UsageError
from seqloom.measures import MEASURES, measured

if TYPE_CHECKING:
    from seqloom.run import Run


def runs(folder: str = "runs", /, *, json: AsJson = False) -> None:
    """List runs with their task, steps, state, best validation score and evaluations.

    Args:
        folder: The folder to search.
    """
    from seqloom.run import Run
    from seqloom.run import runs as find

    if not Path(folder).is_dir():
        raise UsageError("no such folder", where=folder, cure="seqloom runs FOLDER; training makes runs/")
    rows = []
    for run in find(Path(folder)):
        name = str(run.path.relative_to(folder))
        try:
            rows.append((name, *_summary(Run.open(run.path))))
        except RunError as error:
            begun = run.begun or run.checkpoints()
            if begun:
                _warn(str(error))
            rows.append((name, "", 0, "damaged" if begun else "not begun", "", None, ""))
    columns = ("run", "task", "steps", "state", "metric", "best", "evaluated on")
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:  # metric and score share a column: names of a ladder's members are long, and a terminal has 80 characters
        shown = [(*row[:4], _score(row[4], row[5]), row[6]) for row in rows]
        print_table(folder, (*columns[:4], "best", "tests"), shown)


def _summary(run: Run) -> tuple[str, int, str, str, float | None, str]:
    info, pointer = run.info(), run.pointer("best")
    run.refuse_lost()
    if info.get("training") and not pointer:
        _warn(f"{run.path / 'best.json'}: is missing\n  start the same training again: it writes it")
    values = measured(pointer)
    metric, best = next(((key, value) for key, value in values.items() if value is not None), ("", None))
    steps = info.get("training", {}).get("steps") or max((c.step for c in run.checkpoints()), default=0)
    state = "finished" if info.get("training") else "resumable"
    return str(info.get("task")), int(steps), state, metric, best, ", ".join(run.evaluations(_warn))


def _warn(text: str) -> None:
    print(f"seqloom: {text}", file=sys.stderr)


def _score(metric: str, value: float | None) -> str | None:
    return f"{MEASURES[metric].title} {MEASURES[metric].shown(value)}" if value is not None else None
