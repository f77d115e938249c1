"""Training that starts from the weights and the tokenizer of another run: fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from seqloom.config import Tree, Words, load, merge, read_tree
from seqloom.data.rows import Pairs
from seqloom.errors import RunError, UsageError
from seqloom.models.assemblies import Model, make_model
from seqloom.models.weights import of_words
from seqloom.run import Run, write_text
from seqloom.tasks import part_for
from seqloom.text.tokenizer import Tokenizer, TokenizerConfig, TokenizerFile, train_tokenizer
from seqloom.training.checkpoint import load_weights, start_weights
from seqloom.training.log import Reporter

Tokenizers = tuple[Tokenizer, Tokenizer] | None
_ASSEMBLIES = ("decoder-only", "encoder-decoder", "encoder-only")


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
        fresh: see `start_weights`: what a new task has of its own, or does without.

    Raises:
        RunError: no such run, or the weights do not fit.
    """
    run = Run.open(start)
    known = start_tokenizer(start).words
    best = run.best(reporter.warn)
    try:
        grown = dict.fromkeys(of_words(model), known)
        start_weights(best.path / "model.safetensors", model, grown=grown, fresh=fresh)
    except RunError as error:
        cure = "leave out [model], which is then that of the run, or start from another one"
        raise RunError(error.problem, where=str(best.path), cure=cure) from None
    reporter.say(f"starting from {best.path}" + f"; {words - known} new words" * (words > known))


def make_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of texts without a second side."""
    return _read_tokenizer(config.path) if isinstance(config, TokenizerFile) else train_tokenizer(config, texts)


def make_tokenizers(config: TokenizerConfig, train: Pairs) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of source and target; the same object where they are joint."""
    if isinstance(config, TokenizerFile):
        source = _read_tokenizer(config.path)
        return source, _read_tokenizer(config.target) if config.target else source
    if config.joint:
        both = train_tokenizer(config, [*train.sources, *train.targets])
        return both, both
    return train_tokenizer(config, train.sources), train_tokenizer(config, train.targets)


def _read_tokenizer(path: str) -> Tokenizer:
    return _load_tokenizer(path, "let tokenizer.path name a tokenizer.json, or train one with tokenizer.kind = 'bpe'")


def _load_tokenizer(path: str | Path, cure: str) -> Tokenizer:
    try:
        return Tokenizer.load(path)
    except UsageError as error:
        raise RunError(error.problem, where=error.where, cure=error.cure or cure) from None


def save_tokenizers(path: Path, source: Tokenizer, target: Tokenizer) -> None:
    """Writes tokenizer.json, and tokenizer.source.json where the source has one of its own."""
    write_text(path / "tokenizer.json", target.to_json())
    if source is not target:
        write_text(path / "tokenizer.source.json", source.to_json())


def load_tokenizers(run: Run) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of a run. Raises RunError if they are not those it was trained with."""
    cure = "put back the one that the run was written with"
    path, own = run.path / "tokenizer.json", run.path / "tokenizer.source.json"
    target = _load_tokenizer(path, cure)
    source = _load_tokenizer(own, cure) if own.is_file() else target
    if [source.digest(), target.digest()] != run.info()["tokenizer"]:
        raise RunError("is not the tokenizer this run was trained with", where=str(path), cure=cure)
    return source, target


def load_model(run: Run, reporter: Reporter) -> tuple[Model, Mapping[str, int], Tokenizers]:
    """The model of any run in float32, the labels of its heads, and its tokenizers."""
    config = load(part_for(run, "config"), run.path / "config.toml")
    tree: Any = getattr(config, "model", None)
    if getattr(tree, "kind", "") not in _ASSEMBLIES:
        raise UsageError("its model is none that can be exported", where=str(run.path))
    pair = load_tokenizers(run) if (run.path / "tokenizer.json").is_file() else None
    heads = _heads(run)
    words = pair[1].words if pair is not None else 0
    if pair is not None and pair[0].words != words:
        raise UsageError("it has two vocabularies, which no published form has", where=str(run.path))
    model = make_model(tree, words, heads)  # as it is, not packed for use
    load_weights(run.best(reporter.warn).path / "model.safetensors", model)
    return model.eval(), heads, pair


def _heads(run: Run) -> dict[str, int]:
    found: dict[str, int] = {}
    with safe_open(run.best(lambda text: None).path / "model.safetensors", "pt") as file:
        for name in list(file.keys()):
            if name.startswith("heads."):
                head, shape = name.split(".")[1], file.get_slice(name).get_shape()
                if name.endswith((".linear.weight", ".project.0.weight")):
                    found[head] = int(shape[0])
    return found
