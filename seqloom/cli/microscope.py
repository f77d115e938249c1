"""seqloom microscope."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Quiet, print_json, print_table, verbosity

Untrained = Annotated[bool, Parameter(negative="", help="Also measure each run with the weights it began with.")]


def microscope(
    *runs: str,
    to: str = "runs/microscope",
    sentences: int = 64,
    untrained: Untrained = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Measure how far back runs remember: the gradient of each state with respect to earlier words and states.

    Also the gates of recurrent cells and the entropy of attention. On some of the sentences each run was validated on.
    Writes microscope.html and microscope.json into --to.
    """
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory
    from seqloom.workflows.microscope import examine_runs

    keep_freed_memory()
    result = examine_runs(runs, to, Reporter(verbosity(quiet, False)), sentences, untrained)
    if json:
        print_json(result)
    else:
        show_memory(result)


def show_memory(result: dict[str, Any]) -> None:
    """The reach as a table."""
    from seqloom.inspection.microscope_page import COLUMNS, reach_rows

    print_table(
        f"Share of the gradient left after k words, {result['sentences']} sentences", COLUMNS, reach_rows(result)
    )
