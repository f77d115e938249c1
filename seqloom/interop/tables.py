"""The keys of a published config.json and of our configs, and the names of weights: one table for both directions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqloom.config import Tree
from seqloom.errors import ConfigError
from seqloom.files import Json


@dataclass(frozen=True)
class Field:
    """A value, with its keys in both configs.

    Args:
        theirs: their keys, separated by spaces; the first one present is read, all are written.
        ours: our keys, like "decoder.width", separated by spaces; reading sets all, writing takes the first.
        default: the value if theirs is missing or null: a constant, or a function of their config.
        names: their values and ours, where they differ; any other value is refused.
        offset: by how much their number is larger.
    """

    theirs: str
    ours: str
    default: Any = None
    names: Mapping[Any, Any] | None = None
    offset: int = 0

    def read(self, config: Json) -> Json:
        """Our keys and values."""
        values = [config[key] for key in self.theirs.split() if config.get(key) is not None]
        value = values[0] if values else self.default(config) if callable(self.default) else self.default
        key = self.theirs.split()[0]
        if value is None:
            raise ConfigError(f"has no {key!r}")
        if self.names is not None:
            if value not in self.names:
                raise ConfigError(f"{key} = {value!r} is not supported", cure=f"supported: {_listed(self.names)}")
            value = self.names[value]
        return dict.fromkeys(self.ours.split(), value - self.offset if self.offset else value)

    def write(self, tree: Tree) -> Json:
        """Their keys and values; none if no value of theirs means ours."""
        value = at(tree, self.ours.split()[0])
        if self.names is not None:
            value = next((theirs for theirs, ours in self.names.items() if ours == value), None)
        value = value + self.offset if self.offset and value is not None else value
        return {} if value is None else dict.fromkeys(self.theirs.split(), value)


@dataclass(frozen=True)
class Via:
    """Keys whose values differ in more than their names: theirs, and a function for each direction."""

    theirs: str
    read: Callable[[Json], Json]
    write: Callable[[Tree], Json]


@dataclass(frozen=True)
class ConfigMap:
    """How the two configs of a family correspond.

    Args:
        fields: the keys that differ between its models.
        fixed: our keys and values that all its models share.
        must: their keys that change the mathematics, with the supported values; the first is written.
    """

    fields: tuple[Field | Via, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    must: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def read(self, config: Json) -> Tree:
        """Our config tree. Raises ConfigError for a value that is not supported."""
        for key, allowed in self.must.items():
            if config.get(key) is not None and config[key] not in allowed:
                raise ConfigError(f"{key} = {config[key]!r} is not supported", cure=f"supported: {_listed(allowed)}")
        tree: Tree = {}
        for part in (dict(self.fixed), *(f.read(config) for f in self.fields)):
            for key, value in part.items():
                put(tree, key, value)
        return tree

    @property
    def used(self) -> set[str]:
        """Their keys that are read."""
        return {*self.must, *(key for f in self.fields for key in f.theirs.split())}

    def theirs(self, ours: str) -> str:
        """Their name of one of our keys; "" for one that is read by a function."""
        named = (f.theirs.split()[0] for f in self.fields if isinstance(f, Field) and ours in f.ours.split())
        return next(named, "")

    def write(self, tree: Tree) -> Json:
        """Their config. Some keys may get lost: to find out, the caller reads it back."""
        config: Json = {key: allowed[0] for key, allowed in self.must.items()}
        for f in self.fields:
            config |= f.write(tree)
        return config


def at(tree: Tree, key: str) -> Any:
    """The value under a key like "decoder.width", or None."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def put(tree: Tree, key: str, value: Any) -> None:
    """Sets the value under a key like "decoder.width"."""
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _listed(values: Any) -> str:
    return ", ".join(map(repr, values))


@dataclass(frozen=True)
class Form:
    """What determines the weights of a model: its config, and the number of labels of each head."""

    config: Any
    heads: Mapping[str, int]


@dataclass(frozen=True, init=False)
class Rule:
    """One of our parameters, and the published weights whose rows it stacks.

    Args:
        ours: its name, or its layer's; "{}" stands for the index of a block.
        theirs: the names of the published weights, its parts.
        transposed: whether their matrices are (inputs, outputs).
        ones: the number of leading dimensions of size 1 that theirs has.
        skipped: the number of leading rows of theirs that are unused.
        scales: the factor that turns each part into ours.
        when: whether the rule applies to a model; None = always.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    ones: int = 0
    skipped: int = 0
    scales: Callable[[Any], Sequence[float]] | None = None
    when: Callable[[Form], bool] | None = None

    def __init__(self, ours: str, *theirs: str, **more: Any) -> None:
        for name, value in {"ours": ours, "theirs": theirs, **more}.items():
            object.__setattr__(self, name, value)

    def read(self, parts: Sequence[Tensor], config: Any) -> Tensor:
        """Our parameter, from its parts."""
        scaled = [p if s == 1 else p * s for p, s in zip(parts, self.factors(config), strict=True)]
        whole = torch.cat(scaled) if len(scaled) > 1 else scaled[0]
        if self.transposed and whole.dim() == 2:
            whole = whole.t()
        return whole[(0,) * self.ones][self.skipped :] if self.ones or self.skipped else whole

    def write(self, ours: Tensor, config: Any) -> list[Tensor]:
        """The parts, from our parameter."""
        whole = ours.t() if self.transposed and ours.dim() == 2 else ours
        if self.skipped:
            whole = torch.cat((whole.new_zeros(self.skipped, *whole.shape[1:]), whole))
        parts = torch.split(whole, self._sizes(len(whole), config)) if len(self.theirs) > 1 else (whole,)
        if self.ones:
            parts = (whole[(None,) * self.ones],)
        return [p if s == 1 else p / s for p, s in zip(parts, self.factors(config), strict=True)]

    def factors(self, config: Any) -> Sequence[float]:
        """The factor that turns each part into ours."""
        return self.scales(config) if self.scales is not None else [1.0] * len(self.theirs)

    def _sizes(self, rows: int, config: Any) -> list[int]:
        if not self.ours.endswith(".qkv"):
            return [rows // len(self.theirs)] * len(self.theirs)
        sizes = getattr(config, self.ours.partition(".")[0]).sizes
        return [sizes.heads * sizes.features, *[sizes.kv_heads * sizes.features] * 2]


Bound = dict[str, tuple[Rule, list[str]]]


def bind(rules: Sequence[Rule], form: Form, names: Container[str]) -> Bound:
    """The rule of each of our parameters, and the names of its parts."""
    bound: Bound = {}
    for rule in rules:
        if rule.when is not None and not rule.when(form):
            continue
        blocks = getattr(form.config, rule.ours.partition(".")[0]).layers if "{}" in rule.ours else 1
        for i in range(blocks):
            for end in ("", ".weight", ".bias"):
                if (ours := rule.ours.format(i) + end) in names:
                    bound[ours] = rule, [part.format(i) + end for part in rule.theirs]
    return bound


def read_weights(bound: Bound, form: Form, tensor: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Our parameters from their weights, one by one."""
    for ours, (rule, parts) in bound.items():
        yield ours, rule.read([tensor(part).float() for part in parts], form.config)


def write_weights(bound: Bound, form: Form, tensor: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their weights from our parameters, one by one."""
    for ours, (rule, parts) in bound.items():
        yield from zip(parts, rule.write(tensor(ours), form.config), strict=True)
