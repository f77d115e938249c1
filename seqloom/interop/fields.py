"""Keys of a published config.json and of ours: one table for both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqloom.config import Tree
from seqloom.errors import ConfigError

Json = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """One value under several keys.

    Args:
        theirs: their keys, by spaces; the first that is there is read, all are written.
        ours: our keys, as "decoder.width", by spaces; all get the value, the first is written.
        default: where they have none, or null; a function of their config, or a value.
        names: their values and ours, where they differ; others are refused.
    """

    theirs: str
    ours: str
    default: Any = None
    names: Mapping[Any, Any] | None = None

    def read(self, config: Json) -> Json:
        """Our keys and values."""
        found = [config[key] for key in self.theirs.split() if config.get(key) is not None]
        value = found[0] if found else self.default(config) if callable(self.default) else self.default
        key = self.theirs.split()[0]
        if value is None:
            raise ConfigError(f"has no {key!r}")
        if self.names is not None:
            if value not in self.names:
                raise ConfigError(f"{key} = {value!r} is not supported", cure=f"known are: {_listed(self.names)}")
            value = self.names[value]
        return dict.fromkeys(self.ours.split(), value)

    def write(self, tree: Tree) -> Json:
        """Their keys and values; none where no value of theirs is ours."""
        value = at(tree, self.ours.split()[0])
        if self.names is not None:
            value = next((theirs for theirs, ours in self.names.items() if ours == value), None)
        return {} if value is None else dict.fromkeys(self.theirs.split(), value)


@dataclass(frozen=True)
class Via:
    """Keys whose values are not the same thing under another name: both ways by hand."""

    read: Callable[[Json], Json]
    write: Callable[[Tree], Json]


@dataclass(frozen=True)
class ConfigMap:
    """Both configs of one family.

    Args:
        fields: what differs from model to model.
        fixed: what of ours all of them have.
        must: their keys that change the mathematics, and the values we can do; the first is written.
    """

    fields: tuple[Field | Via, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    must: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def read(self, config: Json) -> Tree:
        """Our tree. Raises ConfigError for what we cannot do."""
        for key, allowed in self.must.items():
            if config.get(key) is not None and config[key] not in allowed:
                cure = f"only {_listed(allowed)} can be read"
                raise ConfigError(f"{key} = {config[key]!r} is not supported", cure=cure)
        tree: Tree = {}
        for part in (dict(self.fixed), *(f.read(config) for f in self.fields)):
            for key, value in part.items():
                put(tree, key, value)
        return tree

    def write(self, tree: Tree) -> Json:
        """Their config; what it cannot say is for the caller to find out, by reading it again."""
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
