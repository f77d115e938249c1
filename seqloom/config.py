"""Configs: from TOML and command-line overrides to frozen dataclasses, and back.

A config is a tree of frozen dataclasses. Where a field is a union of dataclasses, the key `kind` selects one.
Errors about an unknown key, an unknown kind or a wrong type name the file, the line and the nearest valid name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from seqloom.errors import ConfigError, UsageError, nearest
from seqloom.limits import check_regular, hints_of, parted, unusable

T = TypeVar("T")
Tree = dict[str, Any]
Keys = tuple[str, ...]


class Arguments(list[str]):
    """The arguments typed after an option; the field they are for determines their type."""


@dataclass(frozen=True)
class Origin:
    """Where a tree came from, for error messages."""

    file: str = ""
    text: str = ""
    typed: frozenset[Keys] = frozenset()

    def where(self, keys: Keys) -> str:
        """The place of a key: "translate.toml:12 (model.encoder.layers)", or "--model.encoder.layers"."""
        dotted = ".".join(keys)
        if any(keys[: len(t)] == t for t in self.typed) or not self.file:
            return f"--{dotted}" if dotted else self.file
        line = _line(self.text, keys) or _line(self.text, keys[:-1])
        place = f"{self.file}:{line}" if line else self.file
        below = [f"--{'.'.join(t)}" for t in sorted(self.typed) if keys and t[: len(keys)] == keys]
        return " with ".join([f"{place} ({dotted})" if dotted else place, *below])


def _line(text: str, keys: Keys) -> int | None:
    table: Keys = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if match := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$", line):
            table = tuple(part.strip(" \"'") for part in match[1].split("."))
            if table == keys:
                return number
        elif match := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = table + tuple(part.strip(" \"'") for part in match[1].split("."))
            if here == keys or here == keys[: len(here)]:
                return number
    return None


def read_tree(path: str | Path) -> tuple[Tree, Origin]:
    """The tree of a TOML file. Raises ConfigError if the file is missing or not TOML."""
    try:
        check_regular(Path(path))
        text = Path(path).read_text(encoding="utf-8-sig")
        tree, origin = tomllib.loads(text), Origin(str(path), text)
    except FileNotFoundError:
        raise ConfigError("no such config file", where=str(path), cure="seqloom init TASK writes one") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"not UTF-8: byte 0x{error.object[error.start]:02x}"
        raise ConfigError(problem, where=f"{path}:{line}", cure="save the file as UTF-8") from None
    except OSError as error:
        cure = "name a .toml file in it" if Path(path).is_dir() else "check its path and its permissions"
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), cure=cure) from None
    except tomllib.TOMLDecodeError as error:
        line_number = re.search(r"at line (\d+)", str(error))
        place = f"{path}:{line_number[1]}" if line_number else str(path)
        raise ConfigError(f"not TOML: {error}", where=place, cure="see https://toml.io") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a NUL in the path; deep nesting
        raise ConfigError(f"cannot be read: {error}", where=str(path), cure="write smaller values") from None
    _check_usable(tree, origin)
    return tree, origin


def _check_usable(tree: Mapping[str, Any], origin: Origin) -> None:
    if fault := unusable(tree):
        keys, problem = fault
        raise ConfigError(problem, where=origin.where(keys) or "config", cure="write another value")


def read_overrides(arguments: Sequence[str]) -> Tree:
    """A tree from arguments like `--data.train a.en a.de --training.steps=100`.

    Raises UsageError for an argument before any option.
    """
    tree: Tree = {}
    values: Arguments | None = None
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            values = Arguments([value] if equals else [])
            node = tree
            *path, last = name.replace("-", "_").split(".")
            for key in path:
                node = node.setdefault(key, {})
                if isinstance(node, Arguments):
                    raise UsageError(f"--{key} is given a value and, by --{name}, a key", cure="give one of the two")
            if isinstance(node.get(last), dict):
                raise UsageError(f"--{name} is given a value and keys", cure="give one of the two")
            node[last] = values
        elif values is None:
            raise UsageError(f"unexpected argument {argument!r}", cure="config keys are given as --section.key VALUE")
        else:
            values.append(argument)
    _check_usable(tree, Origin(typed=frozenset([()])))
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` with the leaves of `over` laid over it; a table of another `kind` replaces the whole table."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            kinds = _kind(old), _kind(value)
            replaced = None not in kinds and kinds[0] != kinds[1]
            result[key] = dict(value) if replaced else merge(old, value)
        else:
            result[key] = value
    return result


def _kind(tree: Mapping[str, Any]) -> str | None:
    kind = tree.get("kind")
    return (" ".join(kind) if isinstance(kind, Arguments) else str(kind)) if kind else None


def load(cls: type[T], path: str | Path | None = None, overrides: Sequence[str] = ()) -> T:
    """A config from a TOML file with command-line overrides laid over it."""
    tree, origin = read_tree(path) if path is not None else ({}, Origin())
    typed = read_overrides(overrides)
    origin = dataclasses.replace(origin, typed=frozenset(flat(typed)))
    return build(cls, merge(tree, typed), origin)


def flat(tree: Mapping[str, Any], path: Keys = ()) -> dict[Keys, Any]:
    """The values of a tree that are no tables, by their keys."""
    values: dict[Keys, Any] = {}
    for key, value in tree.items():
        values |= flat(value, (*path, key)) if isinstance(value, Mapping) else {(*path, key): value}
    return values


def build(cls: type[T], tree: Mapping[str, Any], origin: Origin | None = None, keys: Keys = (), others: Any = ()) -> T:
    """An instance of the config class `cls` from a tree of plain values.

    A class may have a method `expand(tree) -> tree`, called first, which lays presets under the tree.
    It, or the first member of a union, may have `infer(tree, default) -> tree`, which adds what keys imply: a `kind`.
    A `ValueError` raised by `__post_init__` becomes a ConfigError with the place.
    `others`: the classes among which `cls` was chosen; an unknown key may be one of theirs.
    """
    origin = origin or Origin()
    if not keys:
        _check_usable(tree, origin)
    if (expand := getattr(cls, "expand", None)) is not None:
        try:
            tree = expand(tree)
        except (ValueError, OSError) as error:  # the latter from the run that the config starts from
            raise ConfigError(str(error), where=origin.where(keys)) from None
    hints, fields = hints_of(cls), {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "kind" and hasattr(cls, "kind"):
            continue
        if key not in fields:
            cure = nearest(key, fields)
            if having := [repr(c.kind) for c in others if key in hints_of(c)]:
                cure = f"{key} is a key of kind = {' or '.join(having)}; known here are: {', '.join(sorted(fields))}"
                cure = "kind is missing; " * ("kind" not in tree) + cure
            raise ConfigError(f"unknown key {key!r}", where=origin.where((*keys, key)), cure=cure)
        values[key] = _convert(hints[key], value, origin, (*keys, key), default_of(fields[key]))
    for name, f in fields.items():
        if name not in values and default_of(f) is dataclasses.MISSING:
            raise ConfigError("is missing", where=origin.where((*keys, name)), cure=f"add {name} = ...")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(str(error), where=origin.where(keys) or "config") from None


def over(
    hint: Any, base: Any, tree: Mapping[str, Any] | Arguments, origin: Origin | None = None, keys: Keys = ()
) -> Any:
    """A config of the type `hint`, a class or a union of classes: `base` with the tree laid over it."""
    return _convert(hint, tree, origin or Origin(), keys, base)


def default_of(f: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass field, or dataclasses.MISSING."""
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


def _convert(hint: Any, value: Any, origin: Origin, keys: Keys, default: Any = None) -> Any:
    choices = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    if type(None) in choices and value in ("none", Arguments(["none"])):
        return None
    if typing.get_origin(hint) is dict and isinstance(value, Mapping):
        return {k: _convert(typing.get_args(hint)[1], v, origin, (*keys, k)) for k, v in value.items()}
    classes = [c for c in choices if dataclasses.is_dataclass(c)]
    if classes and (isinstance(value, Mapping) or value is not None):
        return _member(classes, value, origin, keys, default)
    if isinstance(value, Arguments):
        value = _typed(value, choices, origin, keys)
    for choice in choices:
        converted = _plain(choice, value)
        if converted is not _NO:
            return converted
    if typing.get_origin(hint) is Literal:
        cure = nearest(str(value), map(str, typing.get_args(hint)))
    else:
        cure = f"for example: {keys[-1]} = {_example(choices)}"
    raise ConfigError(f"expected {type_name(hint)}, got {_plain_text(value)}", where=origin.where(keys), cure=cure)


def _member(classes: list[Any], value: Any, origin: Origin, keys: Keys, default: Any) -> Any:
    kinds = {c.kind: c for c in classes if hasattr(c, "kind")}
    if kinds and (isinstance(value, str) or (isinstance(value, Arguments) and len(value) == 1)):
        value = {"kind": value}  # `norm = "rms"` and `--model.encoder.norm rms` give only the kind
    if not isinstance(value, Mapping):
        cure = f"write [{'.'.join(keys)}] and its keys below, or --{'.'.join(keys)}.KEY VALUE"
        raise ConfigError(f"expected a table, got {_plain_text(value)}", where=origin.where(keys), cure=cure)
    if (infer := getattr(classes[0], "infer", None)) is not None:
        try:
            value = infer(value, default)
        except ConfigError as error:
            raise ConfigError(error.problem, where=origin.where(keys), cure=error.cure) from None
    kind = _kind(value)
    if kind is None:
        chosen = type(default) if type(default) in classes else classes[0]
    elif kind in kinds:
        chosen = kinds[kind]
    elif not kinds:
        raise ConfigError("unknown key 'kind'", where=origin.where((*keys, "kind")), cure="there is only one kind here")
    else:
        raise ConfigError(f"unknown kind {kind!r}", where=origin.where((*keys, "kind")), cure=nearest(str(kind), kinds))
    if (*keys, "kind") in origin.typed:  # the file's keys may be those of the kind that is replaced, as in `merge`
        known, every = ({f.name for c in group for f in dataclasses.fields(c)} for group in ([chosen], classes))
        typed = {t[len(keys)] for t in origin.typed if t[: len(keys)] == keys and len(t) > len(keys)}
        value = {key: item for key, item in value.items() if key not in every - known - typed}
    # The field's own default is laid under the tree, unless the class lays presets under it.
    base = tree_of(default) if type(default) is chosen and not hasattr(chosen, "expand") else {}
    base.pop("kind", None)  # what is missing is not there by default
    return build(chosen, merge(base, value), origin, keys, classes)


def _typed(arguments: Arguments, choices: tuple[Any, ...], origin: Origin, keys: Keys) -> Any:
    items = [typing.get_args(c)[0] for c in choices if typing.get_origin(c) is tuple]
    if items:
        return [_typed(Arguments([a]), (items[0],), origin, keys) for a in arguments]
    if not arguments and bool in choices:
        return True
    if len(arguments) != 1:
        cure = f"for example: --{'.'.join(keys)} {arguments[0] if arguments else _example(choices)}"
        cure += "; what is no value of an option stands before the options" * (len(arguments) > 1)
        raise ConfigError(f"expected one value, got {len(arguments)}", where=origin.where(keys), cure=cure)
    plain = [parted(choice)[0] for choice in choices]
    for number in (int, float):
        if number in plain:
            with contextlib.suppress(ValueError):
                return number(arguments[0])
    if bool in choices and arguments[0].lower() in ("true", "false"):
        return arguments[0].lower() == "true"
    return arguments[0]


_NO = object()


def _plain(choice: Any, value: Any) -> Any:
    choice, bounds = parted(choice)
    if bounds is not None:
        number = _plain(choice, value)
        return number if number is not _NO and bounds.hold(number) else _NO
    if typing.get_origin(choice) is Literal:
        return value if value in typing.get_args(choice) else _NO
    if typing.get_origin(choice) is tuple:
        item = typing.get_args(choice)[0]
        items = [_plain(item, v) for v in value] if isinstance(value, (list, tuple)) else [_NO]
        return _NO if any(v is _NO for v in items) else tuple(items)
    if choice is float and type(value) in (int, float):
        return float(value) if math.isfinite(value) else _NO
    if choice is type(None):
        return None if value is None else _NO
    return value if isinstance(choice, type) and type(value) is choice else _NO


def type_name(hint: Any) -> str:
    """The type of a field in plain English: "a whole number from 1 to 100", "a list of text"."""
    hint, bounds = parted(hint)
    if bounds is not None:
        return f"{type_name(hint)} {bounds}"
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_name(h) for h in typing.get_args(hint)))
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return f"a list of {type_name(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict or dataclasses.is_dataclass(hint):
        return "a table"
    names = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "NoneType": "none"}
    return names.get(getattr(hint, "__name__", ""), str(hint))


def _example(choices: tuple[Any, ...]) -> str:
    choice, bounds = parted(choices[0])
    if typing.get_origin(choice) is tuple:
        return f"[{_example(typing.get_args(choice)[:1])}]"
    if typing.get_origin(choice) is Literal:
        return f'"{typing.get_args(choice)[0]}"'
    example: Any = {int: 3, float: 0.5, bool: "true", str: '"text"'}.get(choice, "{}")
    if bounds is not None and not bounds.hold(example):
        example = bounds.least
    return f"{example:g}" if choice is float else str(example)


def _plain_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table"
    return repr(list(value) if isinstance(value, Arguments) else value)


def tree_of(config: Any) -> Tree:
    """The complete plain tree of a config, with the `kind` of every member of a union; "none" stands for None."""
    tree: Tree = {"kind": config.kind} if isinstance(getattr(config, "kind", None), str) else {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            tree[f.name] = tree_of(value)
        elif isinstance(value, Mapping):
            tree[f.name] = {k: tree_of(v) if dataclasses.is_dataclass(v) else v for k, v in value.items()}
        else:
            tree[f.name] = "none" if value is None else list(value) if isinstance(value, tuple) else value
    return tree


def to_toml(config: Any) -> str:
    """The config as TOML, from which `load` restores an equal config."""
    import tomli_w

    return tomli_w.dumps(tree_of(config))
