"""The command line: one small file for each verb. Nothing here imports torch before it is needed."""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError

from seqloom import __version__
from seqloom.cli.chat import chat
from seqloom.cli.check import check
from seqloom.cli.classify import answer, classify, embed, fill
from seqloom.cli.compare import compare
from seqloom.cli.config import config
from seqloom.cli.demo import demo
from seqloom.cli.doctor import doctor
from seqloom.cli.evaluate import evaluate
from seqloom.cli.export import export
from seqloom.cli.generate import generate
from seqloom.cli.import_ import import_
from seqloom.cli.init import init
from seqloom.cli.lineage import lineage
from seqloom.cli.microscope import microscope
from seqloom.cli.report import report
from seqloom.cli.runs import runs
from seqloom.cli.train import train
from seqloom.cli.translate import translate
from seqloom.cli.verify import verify
from seqloom.cli.words import words
from seqloom.errors import SeqloomError

app = App(name="seqloom", version=__version__, help="Neural language models: train, measure, use and understand them.")
_VERBS = (
    demo,
    init,
    config,
    check,
    train,
    translate,
    chat,
    generate,
    classify,
    answer,
    fill,
    embed,
    words,
    report,
    runs,
    compare,
    lineage,
    microscope,
    verify,
    doctor,
    export,
)
for verb in _VERBS:
    app.command(verb)
app.command(evaluate, name="eval")
app.command(import_, name="import")


def let_threads_yield() -> None:
    """Lets libgomp's threads wait for each other by turning round for a moment only; whoever has set it knows better.

    Beside a program that takes a core, two threads that spin as they do by default keep less than half of their
    speed (docs/benchmarks.md, "Threads that wait"). libgomp reads this once, when torch is imported.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def main(typed: list[str] | None = None) -> None:
    """Runs a command; exits with 0, 2 (the call), 3 (the data), 75 or 130 (stopped, saved)."""
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
    # Whoever reads our output has gone, or has no room; Python must not complain once more when it flushes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
