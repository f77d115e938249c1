"""seqloom forecast."""

from __future__ import annotations

from json import dumps
from typing import Annotated

from cyclopts import Parameter

from seqloom.cli.common import PRINTING, Printing, bounded
from seqloom.errors import UsageError, counted
from seqloom.limits import LengthOrZero

Files = Annotated[str, Parameter(help="Files of series, or single ones of them: new.csv, new.npz:7.")]


def forecast(
    run: str,
    /,
    *files: Files,
    steps: Annotated[int, bounded(LengthOrZero)] = 0,
    to: str = "",
    printing: Printing = PRINTING,
) -> None:
    """Continue signals: predict their next steps.

    A line is printed for each step: the signal, the number of the step, and the value of each channel, separated by
    tabs; with --json, a line for each signal.

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
    found = forecaster.forecast(rows, steps)
    if printing.json and not to:
        for row, values in zip(rows, found, strict=True):
            first = len(row.values) + 1
            print(dumps({"signal": row.where, "first": first, "values": values.tolist()}, ensure_ascii=False))
        return
    names = ["signal", "step", *(str(c) for c in range(1, forecaster.medium.channels + 1))]
    lines = [
        [row.where, str(len(row.values) + 1 + n), *(f"{value:.6g}" for value in frame)]
        for row, values in zip(rows, found, strict=True)
        for n, frame in enumerate(values)
    ]
    comma = "," if to.endswith(".csv") else "\t"
    text = "".join(f"{comma.join(line)}\n" for line in (names, *lines))
    if not to:
        print(text, end="")
        return
    with output_in(Path(to).parent, Path(to).name), writing(Path(to)):
        if to.endswith(".npz"):
            np.savez(to, signal=np.array([row.where for row in rows]), values=np.stack(found))
        else:
            write_text(Path(to), text)
    print(f"{to} written: {counted(len(rows), 'signal')}, {counted(len(found[0]), 'step')}")
