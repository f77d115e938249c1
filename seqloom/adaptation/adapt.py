"""The one place where a model is prepared to learn only a part of itself, and where that part is merged into it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from seqloom.adaptation.config import AdaptConfig, BitFit, Full, LastLayers, LoRA
from seqloom.adaptation.lora import LowRank, NewRows
from seqloom.errors import UsageError, nearest
from seqloom.models.assemblies import vocabulary_parameters
from seqloom.nn.effective import change, changes_of
from seqloom.nn.linear import matrices
from seqloom.nn.norms import NORMS

_STACKS = ("blocks", "layers")
_ENDS = ("norm", "pooling", "heads", "head")


def adapt(model: nn.Module, config: AdaptConfig, fresh: Collection[str] = (), rows: int = 0) -> None:
    """Freezes the parameters of a model, but for those that the config lets it learn; `Full` changes nothing.

    Args:
        model: the model, with the weights it starts from.
        config: the way of adapting it.
        fresh: names of parameters that are learned in any case: those that the base does not have.
        rows: the number of new rows of its tables of tokens.

    Raises:
        UsageError: a pattern matches no layer, there are fewer layers, smaller matrices, or there is nothing to learn.
    """
    if isinstance(config, Full):
        return
    chosen = _chosen(model, config)
    learned = chosen | {*fresh}
    targets = _targets(model, config) if isinstance(config, LoRA) else {}
    tables = {*vocabulary_parameters(model)}
    if not (chosen or targets):
        problem = f"adapt.kind = '{config.kind}' leaves nothing to learn: the model has no biases"
        raise UsageError(problem, cure="choose another kind, or norms = true")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learned)
    if isinstance(config, LoRA):
        for name, stacked in targets.items():
            _change(model, name, LowRank(model.get_parameter(name), stacked, config))
    for name in sorted(tables - learned if rows else ()):
        if model.get_parameter(name).ndim > 1:
            _change(model, name, NewRows(model.get_parameter(name), rows))


def _chosen(model: nn.Module, config: AdaptConfig) -> set[str]:
    """The names of the parameters that are learned as they are."""
    match config:
        case LastLayers():
            return _last(model, config.layers)
        case BitFit():
            kinds = {
                f"{module}.{name}".lstrip("."): name.startswith("bias") or (config.norms and isinstance(layer, NORMS))
                for module, layer in model.named_modules()
                for name, _ in layer.named_parameters(recurse=False)
            }
            return {name for name, chosen in kinds.items() if chosen}
    return set()


def _last(model: nn.Module, count: int) -> set[str]:
    stacks = {
        stack: len(layers)
        for stack, layers in model.named_modules()
        if isinstance(layers, nn.ModuleList) and stack.split(".")[-1] in _STACKS
    }
    if stacks and count > (most := max(stacks.values())):
        problem = f"the model has {most} layers, fewer than adapt.layers = {count}"
        raise UsageError(problem, cure="choose fewer, or adapt.kind = 'full'")
    prefixes = [f"{stack}.{number}." for stack, layers in stacks.items() for number in range(layers)[-count:]]
    inside = [name for name, layers in model.named_modules() if isinstance(layers, nn.ModuleList)]
    tables = {*vocabulary_parameters(model)}
    names = [name for name, _ in model.named_parameters() if name not in tables]
    ends = {
        name
        for name in names
        if {*_ENDS} & {*name.split(".")} and not any(name.startswith(f"{stack}.") for stack in inside)
    }
    return ends | {name for name in names if name.startswith(tuple(prefixes))}


def _targets(model: nn.Module, config: LoRA) -> dict[str, tuple[int, ...]]:
    """The weights that get an adapter, each with the rows of the matrices stacked in it."""
    usual = matrices(model)
    others = {
        name: (len(parameter),)
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and name.split(".")[-1] == "weight" and name not in usual
    }
    chosen: dict[str, tuple[int, ...]] = {}
    for pattern in config.targets:
        matched = {n: rows for n, rows in (usual | others).items() if _matches(n, pattern)}
        if not matched:
            layers = {_layer(name) for name in usual | others}
            ends = {layer.split(".")[-1] for layer in layers}
            problem = f"adapt.targets: {pattern!r} matches no layer of the model"
            cure = nearest(pattern, layers | ends)
            raise UsageError(problem, cure=cure if "?" in cure else nearest(pattern, ends))
        chosen |= matched
    chosen = chosen if config.targets else usual
    sizes = [min(max(rows), model.get_parameter(name)[0].numel()) for name, rows in chosen.items()]
    if sizes and config.rank > max(sizes):
        problem = f"adapt.rank = {config.rank}, but no matrix has a rank above {max(sizes)}"
        raise UsageError(problem, cure="choose a lower one, or adapt.kind = 'full'")
    return chosen


def _layer(name: str) -> str:
    return name.removesuffix(".weight")


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(n, p) for n in (name, _layer(name)) for p in (pattern, f"*.{pattern}"))


def _change(model: nn.Module, name: str, by: nn.Module) -> None:
    """Changes a parameter in each layer that has it."""
    parameter = model.get_parameter(name)
    for layer in model.modules():
        for key, value in layer.named_parameters(recurse=False):
            if value is parameter:
                change(layer, key, by)


def set_beside(model: nn.Module) -> None:
    """Computes the adapters of low rank of linear layers beside their weights, which then need no merged copies.

    Left to `merge_adapters` are those of weights that another layer or another change has, too.
    """
    each = [(layer, *item) for layer in model.modules() for item in changes_of(layer).items()]
    mergeable = [(layer, n, [s for s in steps if isinstance(s, LowRank | NewRows)]) for layer, n, steps in each]
    merged = {s for layer, _, steps in mergeable if len(steps) > 1 or not hasattr(layer, "beside") for s in steps}
    for layer, name, steps in mergeable:
        if steps and isinstance(adapter := steps[0], LowRank) and adapter not in merged:
            layer.beside = {None: adapter.eval()}
            changes = changes_of(layer)
            changes[name] = nn.Sequential(*(step for step in changes[name] if step is not adapter))


def merge_adapters(model: nn.Module) -> Callable[[], None]:
    """Puts the changed weights of an adapted model in the place of its own; calling the result takes them out again.

    What the model computes stays the same to the bit, but for the dropout of the adapters.
    """
    own: dict[nn.Parameter, Tensor] = {}
    new: dict[nn.Parameter, Tensor] = {}
    before: list[tuple[Any, str, nn.Module]] = []
    for layer in model.modules():
        changes = changes_of(layer)
        for name, steps in [*changes.items()]:
            adapters = [step for step in steps if isinstance(step, LowRank | NewRows)]
            parameter = layer.get_parameter(name)
            if not adapters:
                continue
            if parameter not in new:
                weight = parameter.detach()
                for adapter in adapters:
                    weight = adapter.eval()(weight).detach()
                own[parameter], new[parameter] = parameter.data, weight
            before.append((changes, name, steps))
            changes[name] = nn.Sequential(*(step for step in steps if step not in adapters))
    for parameter, weight in new.items():
        parameter.data = weight

    def undo() -> None:
        for parameter, weight in own.items():
            parameter.data = weight
        for changes, name, steps in before:
            changes[name] = steps

    return undo
