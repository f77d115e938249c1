"""The one place where the model of a run is built, initialized from another run, and loaded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqloom.adaptation.adapt import adapt, merge_adapters
from seqloom.adaptation.config import AdaptConfig, Full
from seqloom.config import Arguments, Tree, merge, read_tree
from seqloom.decoding.config import EngineName
from seqloom.errors import RunError, UsageError
from seqloom.files import FROZEN, WEIGHTS, Checkpoint
from seqloom.models.assemblies import CONFIGS, Model, Undrawn, make_model, unallocated, vocabulary_parameters
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.linear import pack
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, load_tokenizers, make_tokenizer
from seqloom.tasks.engine import fast_engine
from seqloom.tasks.memory import FREE, largest, refuse_shortage
from seqloom.tasks.task import GradientConfig, RunConfig, chosen_part, config_of
from seqloom.tasks.word_vectors.task import take_vectors
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import Stored, load_weights, saved_weights, shapes_in, start_weights
from seqloom.training.log import Reporter
from seqloom.training.optimizer import training_bytes
from seqloom.training.precision import Precision, dtype_for, in_8_bits, pick_device

C = TypeVar("C", bound=RunConfig)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Loaded(Generic[C]):
    """A run opened for use: its config, its model with the weights of the best checkpoint, its assets."""

    run: Run
    config: C
    model: Any
    assets: Assets

    def predictor(self, **options: Any) -> Any:
        """The run in use; the options are those of the task's predictor."""
        return self.config.predictor(self.model, self.assets, **options)


def load_run(
    path: str | Path | Run,
    kind: type[C],
    *,
    precision: Precision | Literal["int8"] = "auto",
    device: str = "auto",
    special_tokens: bool = False,
    say: Callable[[str], None] = lambda text: None,
    weights_of: Run | None = None,
    task: str = "",
) -> Loaded[C]:
    """A run for use.

    Args:
        path: the run, or its directory.
        kind: the config class it must have, or RunError; RunConfig = any.
        precision: what to compute in; "auto" = bfloat16 where it is fast; "int8" = float32, large matrices in 8 bits.
        device: "auto" = a GPU if there is one.
        special_tokens: whether texts are trusted: special tokens in them, like </s>, are read as such.
        say: reports the damaged checkpoints that were skipped.
        weights_of: a run that started from this one, whose weights are taken where there are such.
        task: which of several tasks; "" = all, or the only one of this class.
    """
    run = Run.open(path)
    config: Any = config_of(run, RunConfig)
    part = chosen_part(config, kind, task, str(run.path))
    assets = config.assets(run)
    where = pick_device("cpu" if device == "auto" and precision == "int8" else device)
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
        model = _for_use(lambda: config.build(assets), run)
        restore(model, adaptation(config), run.best(say).path)
    merge_adapters(model)
    if weights_of is not None:
        _take(model, weights_of, say)
    chosen = config.used_in if precision == "auto" else precision
    pack(usable(model, where, dtype_for(chosen, where)), int8=chosen == "int8")
    if part:
        model, assets = config.viewed(part, model, assets)
        config = config.parts[part]
    return Loaded(run, config, model, trusting(assets) if special_tokens else assets)


def usable(model: M, device: torch.device, dtype: torch.dtype) -> M:
    """A model, ready for use."""
    # A weight that asks for no gradient is multiplied by another kernel, with other last bits.
    return model.requires_grad_(True).to(device, dtype).eval()


def trusting(assets: Assets) -> Assets:
    """Assets that read special tokens in a text as such."""
    if assets.tokenizers is None:
        return assets
    source, target = assets.tokenizers
    parsing = target.parsing()
    return replace(assets, tokenizers=(parsing if source is target else source.parsing(), parsing))


def _for_use(make: Callable[[], M], run: Run) -> M:
    """The model of a run whose weights will be loaded. Raises ConfigError where they need more memory than is free."""
    with unallocated():
        model = make()
    refuse_shortage(model, lambda: (str(run.path), FREE))
    with Undrawn():  # its values are overwritten
        return make()


def open_predictor(
    path: str | Path | Run, kind: type[RunConfig], *, engine: EngineName = "torch", int8: bool = False, **options: Any
) -> Any:
    """The predictor of a run; for `engine` see `with_engine`; other options are those of `load_run`, and its own."""
    opening = {
        key: options.pop(key) for key in ("precision", "device", "special_tokens", "say", "task") if key in options
    }
    if int8:
        opening["precision"] = in_8_bits(opening.get("precision", "auto"))
    loaded = load_run(path, kind, **opening)
    return with_engine(loaded, loaded.predictor(**options), engine, int8, opening.get("say", warnings.warn))


def with_engine(loaded: Loaded[Any], predictor: Any, engine: EngineName, int8: bool, say: Callable[[str], None]) -> Any:
    """A predictor whose texts are decoded by this engine; see tasks/engine.py."""
    writes = hasattr(predictor, "fast")
    if engine == "torch" or (engine == "auto" and (int8 or not writes)):
        return predictor
    if not writes:
        raise UsageError("writes no text", where=str(loaded.run.path), cure=f"leave the engine {engine} out")

    def exact() -> Any:
        return load_run(loaded.run, RunConfig, precision="fp32", device="cpu").model

    predictor.fast = fast_engine(loaded.run, predictor, engine, exact, int8=int8, say=say)
    return predictor


def new_model(config: RunConfig, assets: Assets, device: torch.device) -> nn.Module:
    """The model of a new training on `device`, with initial weights, still in main memory.

    Raises ConfigError, before anything of its size is made, where the training needs more memory than is free.
    """
    refuse_too_large(config, assets, device)
    return config.build(assets)


def refuse_too_large(config: RunConfig, assets: Assets, device: torch.device) -> None:
    """Raises ConfigError where a training needs more memory than is free; nothing of the model's size is made."""
    with unallocated():
        model = config.build(assets)
        adapt(model, adaptation(config))
    optimizer, ema = getattr(config, "optimizer", None), config.training.ema
    refuse_shortage(model, lambda: largest(config, model), training_bytes(model, optimizer, ema), device)


def adaptation(config: RunConfig) -> AdaptConfig:
    """How much of the model of a run is learned."""
    return config.adapt if isinstance(config, GradientConfig) else Full()


def restore(model: nn.Module, config: AdaptConfig, checkpoint: Path) -> None:
    """Adapts a new model as that of a checkpoint is, and loads its weights."""
    learned = shapes_in(checkpoint / WEIGHTS)
    fresh = [name for name, _ in model.named_parameters() if name in learned]
    adapt(model, config, fresh, new_rows(learned))
    load_weights(checkpoint, model)


def new_rows(learned: Mapping[str, Sequence[int]]) -> int:
    """The number of new rows of tables among weights with these shapes."""
    return next((shape[0] for name, shape in learned.items() if name.endswith(".rows")), 0)


@contextmanager
def _start(run: Run, checkpoint: Checkpoint) -> Iterator[tuple[dict[str, Stored], Path | None]]:
    """The weights of a checkpoint to start from, adapters merged, and their file if they are what it holds."""
    if isinstance(adaptation(config_of(run, RunConfig)), Full):
        with saved_weights(checkpoint.path) as weights:
            yield weights, None if run.asset(FROZEN) else checkpoint.weights
        return
    model = load_run(run, RunConfig, precision="fp32", device="cpu").model
    yield {name: Stored(tuple(p.shape), p.detach) for name, p in model.named_parameters()}, None


@torch.no_grad()
def _take(model: nn.Module, run: Run, say: Callable[[str], None]) -> None:
    """Gives a model the weights of another of the same names and shapes; a table takes the rows that it has."""
    with _start(run, run.best(say)) as (weights, _):
        for name, parameter in model.named_parameters():
            if name in weights and (saved := weights[name].read()[: len(parameter)]).shape == parameter.shape:
                parameter.copy_(saved)


def begin(config: RunConfig, model: nn.Module, assets: Assets, reporter: Reporter) -> Path | None:
    """Gives a new model its initial values: the weights of another run, but for heads that differ, or word vectors.

    Tokens that the other run does not have begin as the mean of its tokens. From then on only that is learned which
    the config allows. Returns the file of the weights of the other run.

    Raises:
        RunError: no such run, or its weights do not fit.
    """
    if not config.begins_with:
        for table, embedder, tokenizer in config.tables(model, assets):
            take_vectors(table, embedder, tokenizer, reporter)
        return None
    run = Run.open(config.begins_with)
    vocab_size = _tokenizers(run)[1].vocab_size if assets.tokenizers is not None else 0
    added = max(0, assets.vocab_size - vocab_size)
    grown = dict.fromkeys(vocabulary_parameters(model), vocab_size) if added else {}
    best = run.best(reporter.warn)
    with _start(run, best) as (weights, file):
        weights = _placed(weights, model, reporter)
        differing = _differing(weights, model)
        try:
            start_weights(weights, model, str(best.path), grown=grown, fresh=differing)
        except RunError as error:
            cure = "leave out [model], which is then that of the run, or start from another one"
            raise RunError(error.problem, where=str(best.path), cure=cure) from None
    reporter.say(f"starting from {best.path}" + f"; {added} new tokens" * (added > 0))
    fresh = [name for name, _ in model.named_parameters() if name.startswith(differing)]
    if fresh:
        parts = [part for part in differing if any(name.startswith(part) for name in fresh)]
        reporter.say(f"newly initialized: {', '.join(parts)}")
    adapt(model, adaptation(config), fresh, added)
    return file


def _placed(weights: dict[str, Stored], model: nn.Module, reporter: Reporter) -> dict[str, Stored]:
    """The weights, with those of the places of patches interpolated to the number that the model has."""
    places, new = weights.get(_PLACES), dict(model.named_parameters()).get(_PLACES)
    if places is None or new is None or places.shape[0] == len(new) or places.shape[1] != new.shape[1]:
        return weights
    (before, first), (side, _) = _square(places.shape[0]), _square(len(new))
    reporter.say(f"the places of {before} x {before} patches interpolated to {side} x {side}")

    def read() -> Tensor:
        table = places.read().float()
        grid = table[first:].T.reshape(1, -1, before, before)
        grid = functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        return torch.cat((table[:first], grid.flatten(2)[0].T))

    return {**weights, _PLACES: Stored(tuple(new.shape), read)}


_PLACES = "embedder.places"


def _square(positions: int) -> tuple[int, int]:
    """The side of the square of patches among positions, and the positions before it."""
    side = math.isqrt(positions)
    return side, positions - side**2


def _differing(weights: Mapping[str, Stored], model: nn.Module) -> tuple[str, ...]:
    """The heads, pooling layers and match embeddings that only one of weights and model has, or in another shape."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    saved = {name: weight.shape for name, weight in weights.items()}
    differing: set[str] = set()
    for name in shapes.keys() | saved.keys():
        part = ".".join(name.split(".")[:2])
        grown = part == "heads.masked" and name in shapes and name in saved  # by new tokens
        if part.startswith(("heads.", "pooling.", "matches")) and shapes.get(name) != saved.get(name) and not grown:
            differing.add(part)
    return tuple(sorted(differing))


def on_start(tree: Mapping[str, Any], *kinds: str, tasks: Mapping[str, str] = MappingProxyType({})) -> Tree:
    """The tree of a config merged into the model of the run it starts from; the tokenizer is that run's.

    A preset of the model is dropped, because its sizes are not those of the run; one named on the command line, or a
    key of the tokenizer, raises UsageError. A run that no longer exists changes nothing: the config of a run that has
    begun is complete. Raises ValueError for a run whose model is of none of the `kinds`; `tasks` are those for others.
    """
    start = tree.get("start", "")
    start = start[0] if isinstance(start, Arguments) and start else start
    path = Path(str(start), "config.toml")
    if not start or not path.is_file():
        return dict(tree)
    base, _ = read_tree(path)
    other = base.get("model", {}).get("kind")
    if other not in (None, *kinds):
        hint = f"; for that one the task is '{tasks[other]}'" if other in tasks else ""
        problem = f"start must name a run whose model is of the kind {' or '.join(map(repr, kinds))}"
        raise ValueError(f"{problem}, not {other!r} as {start} is{hint}")
    tokenizer = tree.get("tokenizer", {})
    for key, value in tokenizer.items() if isinstance(tokenizer, Mapping) else ():
        if isinstance(value, Arguments):
            raise UsageError(f"the tokenizer is that of {start}", where=f"--tokenizer.{key}", cure="leave it out")
    changes = tree.get("model", {})
    if isinstance(changes, Mapping):
        if isinstance(changes.get("preset"), Arguments):
            raise UsageError(f"the model is that of {start}", where="--model.preset", cure="leave one of the two out")
        changes = {key: value for key, value in changes.items() if key != "preset"}
    return {**tree, "model": merge(base.get("model", {}), changes), "tokenizer": base.get("tokenizer", {})}


def kept_tokenizers(config: GradientConfig, run: Run | None) -> tuple[Tokenizer, Tokenizer] | None:
    """The tokenizers of a run that has begun, else of the run that its training starts from; None = there is none."""
    if run is not None and run.begun:
        return _tokenizers(run)
    return _tokenizers(Run.open(config.start)) if config.start else None


def tokenizer_for(config: Any, run: Run | None, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer of a run that has one, else of the run that training starts from, else one trained on texts."""
    kept = kept_tokenizers(config, run)
    return make_tokenizer(config.tokenizer, texts()) if kept is None else kept[0]


def _tokenizers(run: Run) -> tuple[Tokenizer, Tokenizer]:
    pair = load_tokenizers(run)
    if pair is None:
        raise RunError("reads no text, so it has no tokenizer", where=str(run.path), cure="name a run that reads text")
    return pair


def load_model(run: Run, reporter: Reporter) -> tuple[Model, dict[str, int], tuple[Tokenizer, Tokenizer] | None]:
    """The model of any run in float32, the number of outputs of each head, and the tokenizers."""
    config = config_of(run, RunConfig)
    tree: Any = getattr(config, "model", None)
    if getattr(tree, "kind", "") not in CONFIGS:
        raise UsageError("a model of this kind cannot be exported", where=str(run.path))
    pair, modality, does = load_tokenizers(run), getattr(getattr(tree, "embedder", None), "modality", "text"), ""
    if isinstance(tree, EncoderDecoderConfig) and tree.source.modality != "text":
        does = f"reads {tree.source.modality}s and writes text"
    elif modality == "signal":
        does = "continues signals" if isinstance(tree, DecoderOnlyConfig) else "reads signals"
    elif getattr(getattr(config, "data", None), "strands", "one") == "both":
        does = "reads both strands"
    elif pair is not None and pair[0].special is not None and pair[0].special.kmers:
        does = "reads words of k letters"
    if does:
        raise UsageError(f"{does}, as no format here does", where=str(run.path), cure="use it here")
    checkpoint = run.best(reporter.warn).path
    with saved_weights(checkpoint) as weights:
        heads = {
            name.split(".")[1]: weight.shape[0]
            for name, weight in weights.items()
            if name.startswith("heads.") and name.endswith((".linear.weight", ".project.0.weight"))
        }
    vocab_size = pair[1].vocab_size if pair is not None else 0
    if pair is not None and pair[0].vocab_size != vocab_size:
        raise UsageError("it has two vocabularies, which no published format has", where=str(run.path))
    if isinstance(tree, EncoderOnlyConfig):
        tree = tree.sized(load_facts(run).get("sizes", {}))
    model = _for_use(lambda: make_model(tree, vocab_size, heads), run)  # not packed, as it is written
    restore(model, adaptation(config), checkpoint)
    merge_adapters(model)
    return model.eval(), heads, pair
