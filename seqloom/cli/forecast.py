"""seqloom forecast."""

from __future__ import annotations

from collections.abc import Sequence
from csv import writer
from io import StringIO
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import PRINTING, Printing, bounded
from seqloom.errors import UsageError, counted
from seqloom.limits import Bounds

if TYPE_CHECKING:
    from seqloom.data.rows import LabelledArray

Files = Annotated[str, Parameter(help="Files of series, or single ones of them: new.csv, new.npz:7.")]


def forecast(
    run: str,
    /,
    *files: Files,
    steps: Annotated[int, bounded(Annotated[int, Bounds(0, 100_000)])] = 0,
    to: str = "",
    printing: Printing = PRINTING,
) -> None:
    """Continue signals: predict their next steps.

    A line is printed for each step: the signal, the number of the step, and the value of each channel, separated by
    tabs; with --json, a line for each signal. Tables need the columns of the training data, in the same order.

    Args:
        run: The run directory.
        steps: The number of steps to predict; 0 = the horizon of the run.
        to: The file to write instead: .csv or .tsv for the same lines, or .npz with the arrays signal (N) and values
            (N, steps, channels).
    """
    from pathlib import Path

    import numpy as np

    from seqloom.files import output_in, write_text, writing
    from seqloom.tasks.building import open_predictor
    from seqloom.tasks.language_model.forecast import ForecastConfig

    if not files:
        raise UsageError("there are no signals", where="forecast", cure=f"name files: seqloom forecast {run} new.csv")
    if to and not to.endswith((".csv", ".tsv", ".npz")):
        raise UsageError("the name of the file must end in .csv, .tsv or .npz", where=to, cure="--to forecast.csv")
    forecaster = open_predictor(run, ForecastConfig, say=printing.reporter.warn)
    rows = [forecaster.medium.row(place) for place in forecaster.medium.named(files)]
    if printing.json and to:
        raise UsageError("JSON is printed, not written to a file", where="--to", cure="leave one of both out")
    printing.reporter.say(f"predicting {steps or forecaster.config.horizon:,} steps of {len(rows):,} signals")
    found = forecaster.forecast(rows, steps)
    if printing.json:
        for row, values in zip(rows, found, strict=True):
            first = len(row.values) + 1
            print(dumps({"signal": row.where, "first": first, "values": values.tolist()}, ensure_ascii=False))
        return
    text = _table(rows, found, forecaster.medium.names, "," if to.endswith(".csv") else "\t")
    if not to:
        print(text, end="")
        return
    with output_in(Path(to).parent, Path(to).name), writing(Path(to)):
        if to.endswith(".npz"):
            np.savez(to, signal=np.array([row.where for row in rows]), values=np.stack(found))
        else:
            write_text(Path(to), text)
    print(f"{to} written: {counted(len(rows), 'signal')}, {counted(len(found[0]), 'step')}")


def _table(rows: Sequence[LabelledArray], found: Sequence[Any], channels: Sequence[str], comma: str) -> str:
    text = StringIO()
    lines = writer(text, delimiter=comma, lineterminator="\n")
    lines.writerow(["signal", "step", *(channels or range(1, found[0].shape[1] + 1))])
    for row, values in zip(rows, found, strict=True):
        for step, frame in enumerate(values, len(row.values) + 1):
            lines.writerow([row.where, step, *(f"{value:.6g}" for value in frame)])
    return text.getvalue()
