"""Whether a recipe reaches the result it promises."""

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
    """For each metric in a recipe's `accept` table: the bound, the measured value, and whether it was reached.

    The bound is a maximum where less is better, as for minutes and perplexities, and else a minimum. A recipe with
    members is verified member by member.
    """
    tree, _ = read_tree(path)
    members: dict[str, RunConfig] = (
        {**read_members(str(path), overrides)} if "members" in tree else {"": read_config(path, overrides)}
    )
    if not any(config.accept for config in members.values()):
        raise ConfigError("has no [accept] table", where=str(path), cure='add one: [accept] and, say, "bleu = 30.0"')
    metrics = measures.directed()
    for config in members.values():
        if wrong := next((name for name in config.accept if name not in metrics), None):
            raise ConfigError(f"unknown metric {wrong!r}", where=f"accept.{wrong}", cure=nearest(wrong, metrics))
    return [row for name, config in members.items() for row in _verdicts(name, config, reporter)]


def _verdicts(member: str, config: RunConfig, reporter: Reporter) -> Iterator[dict[str, Any]]:
    run = train_run(config, reporter)
    scores = evaluate_run(run, (), "test", (), reporter) | {"minutes": run.info()["training"]["minutes"]}
    finish(run, reporter)
    for metric, bound in config.accept.items():
        value = scores.get(metric)
        reached = measures.reaches(metric, value, bound)
        yield {"member": member, "metric": metric, "accept": bound, "measured": value, "reached": reached}
