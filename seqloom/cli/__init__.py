"""The command line, with one small file for each verb. Nothing here imports torch before it is needed."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from cyclopts import App, CycloptsError, Parameter

from seqloom import __version__
from seqloom.errors import SeqloomError

app = App(
    name="seqloom",
    version=__version__,
    help="Neural language models: train, evaluate, use and understand them.",
    default_parameter=Parameter(negative="", show_default=lambda value: str(value) if value else None),
)
_VERBS = (
    *("demo", "init", "config", "check", "train", "translate", "chat", "generate", "classify", "answer", "fill"),
    *("embed", "words", "report", "runs", "compare", "lineage", "microscope", "verify", "doctor", "export"),
    *("evaluate", "import_"),
)
_FILES = dict.fromkeys(("answer", "fill", "embed"), "classify")
for _verb in _VERBS:
    _function = getattr(import_module(f"seqloom.cli.{_FILES.get(_verb, _verb)}"), _verb)
    app.command(_function, name={"evaluate": "eval", "import_": "import"}.get(_verb, _verb))


def let_threads_yield() -> None:
    """Makes libgomp's threads spin only briefly while they wait for each other. The user's settings take precedence.

    When another program occupies a core, two threads that spin as long as by default lose more than half of their
    speed (docs/benchmarks.md, "Threads that wait"). libgomp reads the variable once, when torch is imported.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def main(typed: list[str] | None = None) -> None:
    """Runs a command. Exits with 0, 2 (wrong call), 3 (wrong data), 75 or 130 (stopped and saved)."""
    let_threads_yield()
    try:
        app(typed, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:
        sys.exit(2)  # cyclopts has printed what is wrong
    except SeqloomError as error:
        print(f"seqloom: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except OSError as error:
        print(f"seqloom: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        _drop_output()
        sys.exit(2)


def _drop_output() -> None:
    # Nobody reads the output any more, or the disk is full: Python must not fail again when it flushes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
