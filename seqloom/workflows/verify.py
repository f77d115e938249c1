"""Whether a recipe reaches the band it states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seqloom import measures
from seqloom.config import read_tree
from seqloom.errors import ConfigError, nearest
from seqloom.tasks import read_config
from seqloom.tasks.task import RunConfig
from seqloom.training.log import Reporter
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.lineage import read_members
from seqloom.workflows.report import finish
from seqloom.workflows.train import train_run


def verify_recipe(path: str | Path, overrides: Sequence[str], reporter: Reporter) -> list[dict[str, Any]]:
    """For each metric of a recipe's `accept`: wanted, found, and whether it was reached.

    Of what is the better the less of it there is, such as minutes and perplexities, it is the most there may be.

    A recipe with members is verified member by member.
    """
    tree, _ = read_tree(path)
    members: dict[str, RunConfig] = (
        {**read_members(str(path), overrides)} if "members" in tree else {"": read_config(path, overrides)}
    )
    if not any(config.accept for config in members.values()):
        raise ConfigError("has no [accept] table", where=str(path), cure='add one: [accept] and, say, "bleu = 30.0"')
    known = measures.directed()
    for config in members.values():
        if wrong := next((name for name in config.accept if name not in known), None):
            raise ConfigError(f"unknown metric {wrong!r}", where=f"accept.{wrong}", cure=nearest(wrong, known))
    return [row for name, config in members.items() for row in _verdicts(name, config, reporter)]


def _verdicts(member: str, config: RunConfig, reporter: Reporter) -> Iterator[dict[str, Any]]:
    run = train_run(config, reporter)
    scores = evaluate_run(run.path, (), "test", (), reporter)
    found = {**scores, "minutes": run.info()["training"]["minutes"]}
    finish(run, reporter)
    for metric, wanted in config.accept.items():
        value = found.get(metric)
        met = measures.reaches(metric, value, wanted)
        yield {"member": member, "metric": metric, "wanted": wanted, "found": value, "reached": met}
