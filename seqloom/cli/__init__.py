"""The command line. Nothing slow is imported here before an interrupt is heard."""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main(typed: list[str] | None = None) -> None:
    """Runs a command, by default what was typed; see `app.run` for the exit codes."""
    heard = None
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):  # outside the main thread, which alone hears signals
            # Not as an exception: some modules turn one into another while they are imported, or print it and go on.
            heard = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from seqloom.cli.app import run

    if heard:
        signal.signal(signal.SIGINT, heard)
    run(sys.argv[1:] if typed is None else typed)
