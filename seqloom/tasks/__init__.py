"""One file for each thing a user wants done; each binds data, model, objective, evaluation and use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqloom.config import load as load_config
from seqloom.config import read_tree
from seqloom.errors import ConfigError, UsageError, nearest
from seqloom.run import Run

if TYPE_CHECKING:
    from seqloom.tasks.translate import TranslateConfig
    from seqloom.tasks.translator import Translator
    from seqloom.training.log import Reporter

TASKS = ("translate",)


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TranslateConfig:
    """The config of a TOML file with command-line words laid over it; its run defaults to runs/ and the file's name."""
    from dataclasses import replace

    from seqloom.tasks.translate import TranslateConfig

    tree, origin = read_tree(path)
    task = tree.get("task", TASKS[0])
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}", where=origin.where(("task",)), cure=nearest(str(task), TASKS))
    if "members" in tree:
        raise ConfigError("describes a ladder of members", where=str(path), cure=f"seqloom lineage {path}")
    config = load_config(TranslateConfig, path, overrides)
    return config if config.run else replace(config, run=f"runs/{Path(path).stem}")


def train(config: str | Path | TranslateConfig, *overrides: str, reporter: Reporter | None = None) -> Run:
    """Trains what a config describes, or goes on with it, and returns the run.

    Args:
        config: a TOML file or a config object.
        overrides: words as on the command line, for a file: "--training.steps", "1000".
        reporter: where progress goes; by default nowhere.
    """
    from seqloom.tasks.translate import train_translation
    from seqloom.training.log import Reporter

    if isinstance(config, (str, Path)):
        config = read_config(config, overrides)
    elif overrides:
        raise UsageError("overrides are for a config file", cure="dataclasses.replace changes a config object")
    return train_translation(config, reporter or Reporter(0))


def load(path: str | Path, **options: object) -> Translator:
    """The predictor of a run: `seqloom.load("runs/demo")(["a text"], beam=5)`. `options` as in `load_translator`."""
    from seqloom.tasks.translate import load_translator

    return load_translator(path, **options)  # type: ignore[arg-type]
