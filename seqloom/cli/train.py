"""seqloom train."""

from __future__ import annotations

import shlex

from seqloom.cli.common import TRAINING_PRINTING, Overrides, TrainingPrinting, print_json
from seqloom.errors import command


def train(
    config: str, /, *overrides: Overrides, member: str = "", printing: TrainingPrinting = TRAINING_PRINTING
) -> None:
    """Train a model from a config; the same command again resumes.

    The run directory is --run DIR; by default it is runs/NAME for the config NAME.toml. Exits with 1 if the loss is no
    longer finite, with 130 (Ctrl-C) or 75 (SIGTERM) after saving.

    Args:
        config: The config file.
        member: Train one member of a ladder (see lineage); its run is DIR/MEMBER.
    """
    from seqloom.tasks import read_config
    from seqloom.workflows.lineage import read_members
    from seqloom.workflows.report import finish
    from seqloom.workflows.train import train_run

    reporter = printing.reporter
    chosen = read_members(config, overrides, member)[member] if member else read_config(config, overrides)
    run = train_run(chosen, reporter)
    summary = finish(run, reporter)
    if printing.json:
        print_json(summary)
        return
    reporter.say(f"{run.path}: {summary['steps']} steps in {summary['minutes']:.1f} minutes of training")
    uses = dict.fromkeys(("eval", chosen.used_by))
    report = shlex.join(["open", f"{run.path}/report.html"])
    reporter.say("next: " + "   ".join([*(command(verb, run.path) for verb in uses), report]))
