"""Whether a recipe reaches the band it states."""

from __future__ import annotations

from typing import Any

from seqloom.errors import ConfigError, nearest
from seqloom.tasks.evaluate import evaluate_run
from seqloom.tasks.session import finish
from seqloom.tasks.translate import TranslateConfig, train_translation
from seqloom.training.log import Reporter

_KNOWN = ("bleu", "bleu_lowercased", "bleu_moses", "chrf", "exact_match", "minutes")


def verify_recipe(config: TranslateConfig, reporter: Reporter) -> list[dict[str, Any]]:
    """For each metric of `accept`: wanted, found, and whether it was reached; "minutes" is a maximum."""
    if not config.accept:
        raise ConfigError("has no [accept] table", where=config.run, cure='add one: [accept] and, say, "bleu = 30.0"')
    if wrong := next((name for name in config.accept if name not in _KNOWN), None):
        raise ConfigError(f"unknown metric {wrong!r}", where=f"accept.{wrong}", cure=nearest(wrong, _KNOWN))
    run = train_translation(config, reporter)
    found = {**evaluate_run(run.path, (), "test", (), reporter), "minutes": run.info()["training"]["minutes"]}
    finish(run, reporter)
    verdicts = []
    for metric, wanted in config.accept.items():
        value = found.get(metric)
        met = value is not None and (value <= wanted if metric == "minutes" else value >= wanted)
        verdicts.append({"metric": metric, "wanted": wanted, "found": value, "reached": met})
    return verdicts
