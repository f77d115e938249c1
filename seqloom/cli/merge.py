"""seqloom merge."""

from __future__ import annotations

from seqloom.cli.common import Quiet, make_reporter


def merge(run: str, out: str, /, *, quiet: Quiet = False) -> None:
    """Write an adapted run (LoRA, BitFit, last layers) as one whose weights have what it learned in them.

    Args:
        run: The adapted run; it stays as it is.
        out: The directory of the new run.
        quiet: Print only warnings and errors.
    """
    from seqloom.workflows.merge import merge_run

    merge_run(run, out, make_reporter(quiet))
