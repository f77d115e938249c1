"""seqloom demo."""

from __future__ import annotations

import os
import sys
from typing import Annotated

from seqloom.cli.common import Quiet, Verbose, bounded, make_reporter, print_table
from seqloom.errors import UsageError
from seqloom.limits import Minutes, NotNegative, Seed


def demo(
    *,
    source: str = "en",
    to: str = "de",
    run: str = "",
    seed: Annotated[int, bounded(Seed)] = 1,
    steps: Annotated[int, bounded(NotNegative)] = 0,
    minutes: Annotated[float, bounded(Minutes)] = 0.0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train, evaluate and use a small translation model in minutes, without data of your own.

    It translates everyday phrases of CLDR: dates, times, money, units, names of countries, spelled-out numbers.
    The same command again resumes.

    Args:
        source: The source language.
        to: The target language.
        run: The run directory; by default runs/demo, or runs/demo-SOURCE-TO.
        seed: The seed of everything random.
        steps: Training steps; by default as many as the demo needs.
        minutes: A time budget, instead of steps.
    """
    from seqloom.cli.evaluate import show_scores
    from seqloom.tasks.seq2seq.demo import demo_config
    from seqloom.workflows.evaluate import evaluate_run
    from seqloom.workflows.report import finish
    from seqloom.workflows.train import train_run

    if steps and minutes:
        raise UsageError("--steps and --minutes exclude each other", cure="use one of them")
    reporter = make_reporter(quiet, verbose)
    config = demo_config(source, to, run, seed, steps, minutes)

    trained = train_run(config, reporter, forecast=True)
    scores = evaluate_run(trained.path, (), "test", (), reporter)
    finish(trained, reporter)
    show_scores(scores)
    shown = scores["translations"][:: max(1, len(scores["translations"]) // 5)][:5]
    columns = ("source", "translation", "reference")
    print_table("five translations", columns, [[row[name] for name in columns] for row in shown])
    program = os.path.relpath(sys.argv[0]) if os.sep in sys.argv[0] else sys.argv[0]
    print(
        f"next:\n  {program} translate {trained.path} 'Monday, March 3, 2031'\n"
        f"  open {trained.path}/report.html in a browser: curves, scores and attention\n"
        f"  {program} init translate       a config for two text files of your own\n"
        f"  {program} demo --to it         another language"
    )
