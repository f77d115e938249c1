"""What the verbs of the command line share: the machine set up, a run opened, a run finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqloom import config as configs
from seqloom.decoding.search import DecodingConfig
from seqloom.errors import ConfigError
from seqloom.run import Run
from seqloom.tasks import part_for
from seqloom.tasks.look import write_report
from seqloom.tasks.translate import load_translator
from seqloom.tasks.translator import LongInput, Translator
from seqloom.training.log import Reporter
from seqloom.training.precision import keep_freed_memory

__all__ = ["decoding_config", "finish", "keep_freed_memory", "run_translator"]


def decoding_config(base: DecodingConfig, words: Sequence[str]) -> DecodingConfig:
    """A decoding config with words like `--decoding.beam 5` laid over it."""
    typed = configs.read_overrides(words)
    if wrong := next((key for key in typed if key != "decoding"), None):
        own = wrong in configs.tree_of(base)
        cure = f"did you mean '--decoding.{wrong}'?" if own else "--help lists the options; decoding has its own, too"
        raise ConfigError("unknown option", where=f"--{wrong}", cure=cure)
    return configs.build(_Decoding, configs.merge({"decoding": configs.tree_of(base)}, typed)).decoding


@dataclass(frozen=True)
class _Decoding:
    decoding: DecodingConfig


def run_translator(
    path: str, words: Sequence[str], reporter: Reporter, *, rows: int = 128, long_input: LongInput = "refuse"
) -> Translator:
    """The translator of a run with decoding options from the command line."""
    translator = load_translator(path, rows=rows, long_input=long_input, say=reporter.warn)
    translator.config = decoding_config(translator.config, words)
    return translator


def finish(run: Run, reporter: Reporter) -> dict[str, Any]:
    """Writes the report of a trained run; returns what is worth telling."""
    write_report(run, reporter)
    training = run.info()["training"]
    metric = configs.load(part_for(run, "config"), run.path / "config.toml").training.metric
    key, sign = {"loss": ("loss", -1), "latest": ("step", 1)}.get(metric, (metric, 1))
    valid = [row for row in run.rows("metrics.jsonl") if row["kind"] == "valid"]
    best = max(valid, key=lambda row: sign * row[key], default={})
    return {"run": str(run.path), **training, "best": best, "report": str(run.path / "report.html")}
