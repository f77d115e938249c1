"""Tasks: one config class each, which binds data, model, objective, evaluation and use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqloom.config import Origin, Tree, read_tree
from seqloom.config import load as load_config
from seqloom.errors import ConfigError, RunError, command, nearest

if TYPE_CHECKING:
    from seqloom.run import Run
    from seqloom.tasks.task import RunConfig

TASKS = {
    "translate": "seq2seq.task:TranslateConfig",
    "language_model": "language_model.task:LanguageModelConfig",
    "forecast": "language_model.forecast:ForecastConfig",
    "classify": "encoder.classify:ClassifyConfig",
    "tag": "encoder.tag:TagConfig",
    "answer": "encoder.answer:AnswerConfig",
    "masked_words": "encoder.masked_words:MaskedWordsConfig",
    "encode": "encoder.embed:EncodeConfig",
    "reward": "encoder.reward:RewardConfig",
    "prefer": "preference.prefer:PreferConfig",
    "prefer_translations": "preference.prefer:PreferTranslationsConfig",
    "reinforce": "reinforcement.task:ReinforceConfig",
    "reinforce_translations": "reinforcement.task:ReinforceTranslationsConfig",
    "multimodal": "multimodal.task:MultimodalTask",
    "embed_words": "word_vectors.task:EmbedWordsConfig",
}
"""The config class of each task (see task.py for its methods), imported when it is needed."""


def task_class(name: str) -> type[Any]:
    """The config class of a task. Raises RunError for one that this version does not have."""
    if name not in TASKS:
        raise RunError(f"unknown task {name!r}", cure=nearest(name, TASKS))
    module, _, attribute = TASKS[name].partition(":")
    config: type[Any] = getattr(import_module(f"seqloom.tasks.{module}"), attribute)
    return config


def task_of(tree: Tree, origin: Origin) -> str:
    """The task of the tree of a config. Raises ConfigError for an unknown one."""
    task = tree.get("task", "translate")
    if not isinstance(task, str) or task not in TASKS:
        raise ConfigError(f"unknown task {task!r}", where=origin.where(("task",)), cure=nearest(str(task), TASKS))
    return task


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a TOML file with config keys of the command line; `run` defaults to runs/ and the file's name."""
    tree, origin = read_tree(path)
    task = task_of(tree, origin)
    if "members" in tree:
        raise ConfigError(
            "describes a ladder of members", where=str(path), cure=f"{command('lineage', path)}, or train --member NAME"
        )
    config: RunConfig = load_config(task_class(task), path, overrides)
    return config if config.run else replace(config, run=f"runs/{Path(path).stem}")


def load(path: str | Path | Run, adapters: Mapping[str, str | Path | Run] | None = None, **options: Any) -> Any:
    """The predictor of a run.

    Translation: `seqloom.load("runs/demo")(["a text"], beam=5)`; language model:
    `seqloom.load("runs/novels")("Once upon a time", temperature=0.7)`; signals:
    `seqloom.load("runs/forecast")(frames, steps=20)`; word vectors:
    `seqloom.load("runs/words").similar(["king"])`; labels of texts or words: `seqloom.load("runs/sst2")(["a text"])`;
    answers: `seqloom.load("runs/squad")([("a question", "a passage")])`; masked words:
    `seqloom.load("runs/bert")("Paris is the <mask> of France")`; rewards:
    `seqloom.load("runs/reward").score("a prompt", "an answer")`.

    With adapters, runs that started from this one or files of them, by name:
    `seqloom.load("runs/base", adapters={"legal": "runs/legal", "mail": "mail.safetensors"})(texts, adapter="legal")`;
    see `seqloom.tasks.switching.Adapters`.

    `options` are those of `seqloom.tasks.building.load_run`, and of the predictor.
    """
    from seqloom.tasks.building import open_predictor
    from seqloom.tasks.task import RunConfig

    if adapters is not None:
        from seqloom.tasks.switching import load_adapters

        options |= {"precision": "int8"} if options.pop("int8", False) else {}
        return load_adapters(path, adapters, **options)
    return open_predictor(path, RunConfig, **options)
