"""Training that starts from the weights and the tokenizer of another run: fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from seqloom.config import Tree, Words, merge, read_tree
from seqloom.errors import RunError, UsageError
from seqloom.run import Run
from seqloom.tasks.tokenizers import load_tokenizers
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import load_weights
from seqloom.training.log import Reporter


def on_start(tree: Mapping[str, Any]) -> Tree:
    """The tree of a config laid over the model of the run it starts from; the tokenizer is that run's.

    The model's preset is left out: it would bring sizes that are not those of the run. Raises UsageError for one that
    the command line names.
    A run that is no longer there changes nothing, because the config of a run that has begun is complete.
    """
    start = tree.get("start", "")
    start = start[0] if isinstance(start, Words) and start else start
    path = Path(str(start), "config.toml")
    if not start or not path.is_file():
        return dict(tree)
    base, _ = read_tree(path)
    own = tree.get("model", {})
    if isinstance(own, Mapping):
        if isinstance(own.get("preset"), Words):
            raise UsageError(f"the model is that of {start}", where="--model.preset", cure="leave one of the two out")
        own = {key: value for key, value in own.items() if key != "preset"}
    model = merge(base.get("model", {}), own)
    return {**tree, "model": model, "tokenizer": base.get("tokenizer", {})}


def start_tokenizer(start: str) -> Tokenizer:
    """The tokenizer of the run that is started from. Raises RunError where there is no such run."""
    return load_tokenizers(Run.open(start))[0]


def take_start(start: str, model: nn.Module, words: int, reporter: Reporter, fresh: tuple[str, ...] = ()) -> None:
    """Gives a model the weights of the best checkpoint of a run; words that the run had not begin as the mean.

    Args:
        start: the run.
        model: over a vocabulary of `words`, the run's first.
        words: V.
        reporter: is told.
        fresh: see `load_weights`: what a new task has of its own, or does without.

    Raises:
        RunError: no such run, or the weights do not fit.
    """
    run = Run.open(start)
    known = start_tokenizer(start).words
    best = run.best(reporter.warn)
    try:
        load_weights(best.path / "model.safetensors", model, words=(known, words), fresh=fresh)
    except RunError as error:
        cure = "leave out [model], which is then that of the run, or start from another one"
        raise RunError(error.problem, where=str(best.path), cure=cure) from None
    reporter.say(f"starting from {best.path}" + f"; {words - known} new words" * (words > known))
