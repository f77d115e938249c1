"""seqloom runs."""

from __future__ import annotations

from pathlib import Path

from seqloom.cli.common import AsJson, print_json, print_table


def runs(folder: str = "runs", /, *, json: AsJson = False) -> None:
    """List the runs in a folder: task, steps, best validation score, evaluations."""
    from seqloom.errors import UsageError
    from seqloom.run import runs as find

    if not Path(folder).is_dir():
        raise UsageError("no such folder", where=folder, cure="seqloom runs FOLDER; training makes runs/")
    rows = []
    for run in find(Path(folder)):
        info = run.info()
        best = {k: v for k, v in run.pointer("best").items() if k not in ("checkpoint", "step", "averaged")}
        metric, score = next(iter(best.items()), ("", None))  # of the checkpoint that is used
        score = -float(score) if metric == "loss" and score is not None else score  # kept as what is to be large
        tests = sorted(p.stem for p in (run.path / "eval").glob("*.json"))
        step = max((int(r.get("step", 0)) for r in run.rows("metrics.jsonl")), default=0)
        state = "finished" if "training" in info else "resumable"
        name = str(run.path.relative_to(folder))
        rows.append((name, str(info.get("task")), step, state, metric, score, ", ".join(tests)))
    columns = ("run", "task", "steps", "state", "metric", "best", "evaluated on")
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(folder, columns, rows)
