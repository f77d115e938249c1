"""The one place where the model of a run is made, started from another run, and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from seqloom.config import Arguments, Tree, merge, read_tree
from seqloom.errors import RunError, UsageError
from seqloom.models.assemblies import Model, make_model, vocabulary_parameters
from seqloom.nn.linear import pack
from seqloom.run import Run
from seqloom.tasks.assets import Assets, begun, load_tokenizers, make_tokenizer
from seqloom.tasks.task import RunConfig, config_of
from seqloom.tasks.word_vectors.starting import take_vectors
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import load_weights, saved_weights, start_weights
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision, dtype_for, pick_device

C = TypeVar("C", bound=RunConfig)
_ASSEMBLIES = ("decoder-only", "encoder-decoder", "encoder-only")


@dataclass(frozen=True)
class Loaded(Generic[C]):
    """A run opened for use: its config, its model with the weights of the best checkpoint, its assets."""

    run: Run
    config: C
    model: Any
    assets: Assets

    def predictor(self, **options: Any) -> Any:
        """What the run is for its user; the options are those of the task's predictor."""
        return self.config.predictor(self.model, self.assets, **options)


def load_run(
    path: str | Path,
    kind: type[C],
    *,
    precision: Precision = "auto",
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Loaded[C]:
    """A run for use.

    Args:
        path: the run directory.
        kind: the class of its config, for RunError where it is of another; RunConfig = any.
        precision: what to compute in; "auto" = bfloat16 where it is fast.
        device: "auto" = a GPU if there is one.
        say: is told which damaged checkpoints were passed over.
    """
    run = Run.open(path)
    config = config_of(run, kind)
    assets = config.assets(run)
    with torch.random.fork_rng(devices=[]):  # the weights drawn are not used, and a caller's random numbers are its own
        model = config.build(assets)
    load_weights(run.best(say).path, model)
    where = pick_device(device)
    model = model.to(where, dtype_for(precision, where)).eval()
    pack(model)
    return Loaded(run, config, model, assets)


def open_predictor(
    path: str | Path,
    kind: type[RunConfig],
    *,
    precision: Precision = "auto",
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Any:
    """The predictor of a run; the first arguments are those of `load_run`, the options those of the predictor."""
    return load_run(path, kind, precision=precision, device=device, say=say).predictor(**options)


def begin(config: RunConfig, model: nn.Module, assets: Assets, reporter: Reporter) -> None:
    """Gives a new model what it starts from: the weights of a run, but for heads that differ, or word vectors."""
    if start := config.begins_with:
        fresh = _differing(start, model)
        take_start(start, model, assets.vocab_size, reporter, fresh)
        if drawn := [name for name in fresh if any(n.startswith(name) for n, _ in model.named_parameters())]:
            reporter.say(f"drawn anew: {', '.join(drawn)}")
        return
    for table, embedder, tokenizer in config.tables(model, assets):
        take_vectors(table, embedder, tokenizer, reporter)


def _differing(start: str, model: nn.Module) -> tuple[str, ...]:
    """The heads, layers of the pooling and vectors of matches that a run's weights have not, or have otherwise."""
    checkpoint = Run.open(start).best(lambda text: None)
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    with saved_weights(checkpoint.path) as files:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
    found: dict[str, bool] = {}
    for name in own.keys() | saved.keys():
        part = ".".join(name.split(".")[:2])
        if part.startswith(("heads.", "pooling.", "matches")):
            grown = part == "heads.masked" and name in own and name in saved  # by new tokens
            found[part] = found.get(part, False) or (own.get(name) != saved.get(name) and not grown)
    return tuple(sorted(part for part, differs in found.items() if differs))


def on_start(tree: Mapping[str, Any]) -> Tree:
    """The tree of a config laid over the model of the run it starts from; the tokenizer is that run's.

    The model's preset is left out: it would bring sizes that are not those of the run. Raises UsageError for one that
    the command line names.
    A run that is no longer there changes nothing, because the config of a run that has begun is complete.
    """
    start = tree.get("start", "")
    start = start[0] if isinstance(start, Arguments) and start else start
    path = Path(str(start), "config.toml")
    if not start or not path.is_file():
        return dict(tree)
    base, _ = read_tree(path)
    own = tree.get("model", {})
    if isinstance(own, Mapping):
        if isinstance(own.get("preset"), Arguments):
            raise UsageError(f"the model is that of {start}", where="--model.preset", cure="leave one of the two out")
        own = {key: value for key, value in own.items() if key != "preset"}
    model = merge(base.get("model", {}), own)
    return {**tree, "model": model, "tokenizer": base.get("tokenizer", {})}


def start_tokenizer(start: str) -> Tokenizer:
    """The tokenizer of the run that is started from. Raises RunError where there is no such run."""
    return load_tokenizers(Run.open(start))[0]


def tokenizer_for(config: Any, run: Run | None, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """That of a run that has one, of the run that the config starts from, or one made of texts."""
    if run is not None and begun(run):
        return load_tokenizers(run)[0]
    return start_tokenizer(config.start) if config.start else make_tokenizer(config.tokenizer, texts())


def take_start(start: str, model: nn.Module, vocab_size: int, reporter: Reporter, fresh: tuple[str, ...] = ()) -> None:
    """Gives a model the weights of the best checkpoint of a run; words that the run had not begin as the mean.

    Args:
        start: the run.
        model: over a vocabulary of `vocab_size`, the run's first.
        vocab_size: V.
        reporter: is told.
        fresh: see `start_weights`: what a new task has of its own, or does without.

    Raises:
        RunError: no such run, or the weights do not fit.
    """
    run = Run.open(start)
    known = start_tokenizer(start).vocab_size
    best = run.best(reporter.warn)
    try:
        grown = dict.fromkeys(vocabulary_parameters(model), known)
        start_weights(best.path, model, grown=grown, fresh=fresh)
    except RunError as error:
        cure = "leave out [model], which is then that of the run, or start from another one"
        raise RunError(error.problem, where=str(best.path), cure=cure) from None
    reporter.say(f"starting from {best.path}" + f"; {vocab_size - known} new words" * (vocab_size > known))


def load_model(run: Run, reporter: Reporter) -> tuple[Model, Mapping[str, int], tuple[Tokenizer, Tokenizer] | None]:
    """The model of any run in float32, the labels of its heads, and its tokenizers."""
    config = config_of(run, RunConfig)
    tree: Any = getattr(config, "model", None)
    if getattr(tree, "kind", "") not in _ASSEMBLIES:
        raise UsageError("its model is none that can be exported", where=str(run.path))
    pair = load_tokenizers(run) if (run.path / "tokenizer.json").is_file() else None
    heads = _heads(run)
    vocab_size = pair[1].vocab_size if pair is not None else 0
    if pair is not None and pair[0].vocab_size != vocab_size:
        raise UsageError("it has two vocabularies, which no published form has", where=str(run.path))
    model = make_model(tree, vocab_size, heads)  # as it is, not packed for use
    load_weights(run.best(reporter.warn).path, model)
    return model.eval(), heads, pair


def _heads(run: Run) -> dict[str, int]:
    found: dict[str, int] = {}
    with saved_weights(run.best(lambda text: None).path) as files:
        for name, file in files.items():
            if name.startswith("heads."):
                head, shape = name.split(".")[1], file.get_slice(name).get_shape()
                if name.endswith((".linear.weight", ".project.0.weight")):
                    found[head] = int(shape[0])
    return found
