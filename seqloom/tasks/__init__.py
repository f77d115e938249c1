"""One file for each thing a user wants done; each binds data, model, objective, evaluation and use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqloom.config import Origin, Tree, read_tree
from seqloom.config import load as load_config
from seqloom.errors import ConfigError, RunError, UsageError, nearest
from seqloom.run import Run

if TYPE_CHECKING:
    from seqloom.models.word_vectors import WordVectors
    from seqloom.tasks.encoder.examples import Predictor
    from seqloom.tasks.encoder.masked_words import Filler
    from seqloom.tasks.language_model.predictor import Generator
    from seqloom.tasks.seq2seq.predictor import Translator
    from seqloom.tasks.task import RunConfig
    from seqloom.training.log import Reporter

TASKS = {
    "translate": {
        "config": "tasks.seq2seq.task:TranslateConfig",
        "train": "tasks.seq2seq.task:train_translation",
        "load": "tasks.seq2seq.task:load_translator",
        "evaluate": "workflows.evaluate:evaluate_run",
        "check": "workflows.check:check_translation",
        "look": "tasks.seq2seq.look:look_at_translations",
        "compare": "workflows.compare:translations",
    },
    "language_model": {
        "config": "tasks.language_model.task:LanguageModelConfig",
        "train": "tasks.language_model.task:train_language_model",
        "load": "tasks.language_model.task:load_generator",
        "evaluate": "tasks.language_model.task:evaluate_language_model",
        "check": "workflows.language_check:check_language_model",
        "look": "tasks.language_model.look:look_at_texts",
        "compare": "workflows.compare:scores_alone",
    },
    **{
        task: {
            "config": f"tasks.encoder.{task}:{config}",
            "train": "tasks.encoder.task:train_reader",
            "load": "tasks.encoder.examples:load_predictor",
            "evaluate": "tasks.encoder.examples:evaluate_examples",
            "check": "workflows.reading_check:check_reader",
            "look": "tasks.encoder.look:look_at_examples",
            "compare": "workflows.compare:scores_alone",
        }
        for task, config in (("classify", "ClassifyConfig"), ("tag", "TagConfig"), ("answer", "AnswerConfig"))
    },
    "masked_words": {
        "config": "tasks.encoder.masked_words:MaskedWordsConfig",
        "train": "tasks.encoder.task:train_reader",
        "load": "tasks.encoder.masked_words:load_filler",
        "evaluate": "tasks.encoder.masked_words:evaluate_masked_words",
        "check": "workflows.reading_check:check_reader",
        "look": "tasks.encoder.masked_words:look_at_masked_words",
        "compare": "workflows.compare:scores_alone",
    },
    "embed_words": {
        "config": "tasks.word_vectors.task:EmbedWordsConfig",
        "train": "tasks.word_vectors.task:train_words",
        "load": "tasks.word_vectors.task:load_words",
        "evaluate": "tasks.word_vectors.task:evaluate_words",
        "check": "workflows.word_check:check_words",
        "look": "tasks.word_vectors.look:look_at_words",
        "compare": "workflows.compare:scores_alone",
    },
    "encode": {"config": "tasks.encoder.encode:EncodeConfig", "load": "tasks.encoder.encode:load_encoder"},
}
"""What each task has for the verbs, by module and name."""


def part_of(task: str, name: str) -> Any:
    """What a task has for a verb, imported only now. Raises RunError for a task that this version does not know."""
    if task not in TASKS:
        raise RunError(f"of the unknown task {task!r}", cure=nearest(task, TASKS))
    if name not in TASKS[task]:
        raise UsageError(f"there is no {name!r} for runs of the task {task!r}")
    module, _, attribute = TASKS[task][name].partition(":")
    return getattr(import_module(f"seqloom.{module}"), attribute)


def part_for(run: Run, name: str) -> Any:
    """What the task of a run has for a verb."""
    return part_of(str(run.info().get("task")), name)


def task_of(tree: Tree, origin: Origin) -> str:
    """The task that the tree of a config is for. Raises ConfigError for an unknown one."""
    task = tree.get("task", "translate")
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}", where=origin.where(("task",)), cure=nearest(str(task), TASKS))
    return str(task)


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a TOML file with command-line words laid over it; its run defaults to runs/ and the file's name."""
    tree, origin = read_tree(path)
    task = task_of(tree, origin)
    if "members" in tree:
        raise ConfigError(
            "describes a ladder of members", where=str(path), cure=f"seqloom lineage {path}, or train --member NAME"
        )
    config: RunConfig = load_config(part_of(task, "config"), path, overrides)
    return config if config.run else replace(config, run=f"runs/{Path(path).stem}")


def train(config: str | Path | RunConfig, *overrides: str, reporter: Reporter | None = None) -> Run:
    """Trains what a config describes, or goes on with it, and returns the run.

    Args:
        config: a TOML file or a config object.
        overrides: words as on the command line, for a file: "--training.steps", "1000".
        reporter: where progress goes; by default nowhere.
    """
    from seqloom.training.log import Reporter

    if isinstance(config, (str, Path)):
        config = read_config(config, overrides)
    elif overrides:
        raise UsageError("overrides are for a config file", cure="dataclasses.replace changes a config object")
    return part_of(config.task, "train")(config, reporter or Reporter(0))  # type: ignore[no-any-return]


def load(path: str | Path, **options: object) -> Translator | Generator | WordVectors | Predictor | Filler:
    """The predictor of a run: of a translator `seqloom.load("runs/demo")(["a text"], beam=5)`, of a language model
    `seqloom.load("runs/novels")("Once upon a time", temperature=0.7)`, of word vectors
    `seqloom.load("runs/words").similar(["king"])`, of labels of texts or words `seqloom.load("runs/sst2")(["a text"])`,
    of answers `seqloom.load("runs/squad")([("a question", "a passage")])`, of masked words
    `seqloom.load("runs/bert")("Paris is the <mask> of France")`.

    `options` are those of `load_translator`, `load_generator`, `load_words` and `load_model`.
    """
    return part_for(Run.open(path), "load")(path, **options)  # type: ignore[no-any-return]
