"""seqloom report."""

from __future__ import annotations

from seqloom.cli.common import Quiet


def report(run: str, /, *texts: str, quiet: Quiet = False) -> None:
    """Write report.html of a run anew; with the attention over the given texts, if any are."""
    from seqloom.run import Run
    from seqloom.training.log import Reporter
    from seqloom.workflows.report import write_report

    print(write_report(Run.open(run), Reporter(0 if quiet else 1), texts))
