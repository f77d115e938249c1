"""The keys of a published config.json and of our configs, one table for both directions; and those of other files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqloom.config import Tree
from seqloom.errors import ConfigError
from seqloom.interop.weights import some

Json = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A value, with its keys in both configs.

    Args:
        theirs: their keys, separated by spaces; the first one present is read, all are written.
        ours: our keys, like "decoder.width", separated by spaces; reading sets all, writing takes the first.
        default: the value if theirs is missing or null: a constant, or a function of their config.
        names: their values and ours, where they differ; any other value is refused.
    """

    theirs: str
    ours: str
    default: Any = None
    names: Mapping[Any, Any] | None = None

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
        return dict.fromkeys(self.ours.split(), value)

    def write(self, tree: Tree) -> Json:
        """Their keys and values; none if no value of theirs means ours."""
        value = at(tree, self.ours.split()[0])
        if self.names is not None:
            value = next((theirs for theirs, ours in self.names.items() if ours == value), None)
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


@dataclass(frozen=True)
class Fields:
    """The fields of a file that is only read.

    Args:
        fields: by separate words, what is used, and what changes no result, or only training.
        must: values that are the same as none; any other one is refused.
        noted: values that are the same as none; any other one is warned of.
    """

    fields: str
    must: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    noted: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def check(self, path: Path, values: Json, more: Iterable[str] = ()) -> list[str]:
        """Warnings of fields without effect; `more` are further fields that are used. Raises ConfigError."""
        for key, allowed in self.must.items():
            if values.get(key) is not None and values[key] not in allowed:
                problem = f"{key} = {str(values[key])[:80]} is not supported"
                raise ConfigError(problem, where=str(path), cure="use a checkpoint without it")
        names = {*self.fields.split(), *self.must, *more}
        ignored = [
            f"{key} = {str(value)[:40]}"
            for key, value in values.items()
            if key not in names and not key.startswith("_") and value not in (None, *self.noted.get(key, ()))
        ]
        return [f"{path}: without effect here: {some(ignored)}"] if ignored else []


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
