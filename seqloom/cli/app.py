"""The verbs of the command line, a small file for each. Nothing here imports torch before it is needed."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from cyclopts import App, CycloptsError, Parameter

from seqloom import __version__
from seqloom.cli.common import Output
from seqloom.errors import SeqloomError, UsageError
from seqloom.limits import NOT_TEXT

app = App(
    name="seqloom",
    version=__version__,
    help="Neural language models: train, evaluate, use and understand them.",
    console=Output(),
    default_parameter=Parameter(negative="", show_default=lambda value: str(value) if value else None),
)
_VERBS = (
    *("demo", "init", "config", "check", "train", "translate", "caption", "chat", "generate", "forecast"),
    *("classify", "answer", "fill", "embed", "words", "report", "runs", "compare", "lineage"),
    *("explain", "microscope", "serve", "verify", "doctor", "export", "evaluate", "import_", "merge"),
)
_FILES = {**dict.fromkeys(("answer", "fill", "embed"), "classify"), "caption": "translate"}
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


def run(typed: list[str]) -> None:
    """Runs a command.

    Exits with 0, 1 (training has diverged, a band or an answer differs), 2 (wrong call), 3 (wrong data), 75 or 130
    (stopped and saved) or 141 (the reader of the output has gone).
    """
    let_threads_yield()
    try:
        _check_streams()
        _check_words(typed)
        app(typed, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:
        sys.exit(2)  # cyclopts has printed what is wrong
    except SeqloomError as error:
        print(f"seqloom: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error) and "out of mem" not in str(error):
            raise
        print("seqloom: there is not enough memory\n  make the model, the batches or the beam smaller", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except OSError as error:
        print(f"seqloom: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        _drop_output()
        sys.exit(2)


def _check_streams() -> None:
    """Raises UsageError without standard output. The numbers of closed streams are filled: no file may get them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
    if sys.stdout is None:
        raise UsageError("there is no standard output", cure="redirect it to a file, or to /dev/null")


def _check_words(words: list[str]) -> None:
    for number, word in enumerate(words, start=1):
        if NOT_TEXT.search(word):
            raise UsageError("is not UTF-8", where=f"argument {number}", cure="give it in UTF-8")


def _drop_output() -> None:
    # Nobody reads the output any more, or the disk is full: Python must not fail again when it flushes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
