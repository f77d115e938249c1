"""seqloom report."""

from __future__ import annotations

from seqloom.cli.common import Quiet, make_reporter


def report(run: str, /, *texts: str, quiet: Quiet = False) -> None:
    """Write the report of a run, report.html, again.

    Args:
        run: The run directory.
        texts: The texts whose attention is shown; by default some of the validation samples.
    """
    from seqloom.run import Run
    from seqloom.workflows.report import write_report

    print(write_report(Run.open(run), make_reporter(quiet), texts))
