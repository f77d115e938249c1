"""Help on configs: the keys of a config class with type, default and meaning, as text and as a page.

Everything comes from the classes themselves; the meanings of keys are in the `Args:` of their docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, NamedTuple

from seqloom.config import default_of, type_name
from seqloom.errors import UsageError, nearest
from seqloom.limits import hints_of

_WIDTH = 120


@dataclass(frozen=True)
class Key:
    """A key of a config.

    Args:
        name: its name in the table.
        hint: its type.
        default: the default value; dataclasses.MISSING if the key is required.
        meaning: one or two sentences.
        tables: the tables that its value may be.
    """

    name: str
    hint: Any
    default: Any
    meaning: str
    tables: tuple[Table, ...]

    @property
    def type(self) -> str:
        """Its type in plain English."""
        kinds = [table.kind for table in self.tables if table.kind]
        return type_name(self.hint) + (f" of kind {', '.join(kinds)}" if len(kinds) > 1 else "")


@dataclass(frozen=True)
class Table:
    """A config class.

    Args:
        cls: the class.
        kind: its kind in a union; "" = none.
        summary: a description.
        keys: the keys of the table, without `kind`.
    """

    cls: type
    kind: str
    summary: str
    keys: tuple[Key, ...]


def describe(cls: type, defaults: Any = None) -> Table:
    """The description of a config class; `defaults` is an instance whose values replace the defaults."""
    hints, meanings, kind = hints_of(cls), _meanings(cls), getattr(cls, "kind", "")
    keys = []
    for f in dataclasses.fields(cls):
        default = default_of(f) if defaults is None else getattr(defaults, f.name)
        # As in `build`: the field's own default is laid under its table, unless presets are.
        tables = tuple(
            describe(c, default if type(default) is c and not hasattr(c, "expand") else None)
            for c in (value_of(hints[f.name]), *typing.get_args(value_of(hints[f.name])))
            if isinstance(c, type) and dataclasses.is_dataclass(c)
        )
        keys.append(Key(f.name, hints[f.name], default, meanings.get(f.name, ""), tables))
    summary = (inspect.getdoc(cls) or "").partition("\nArgs:\n")[0].strip()
    return Table(cls, kind if isinstance(kind, str) else "", summary, tuple(keys))


def value_of(hint: Any) -> Any:
    """The type of the values of a table whose keys are names, as `tasks.NAME`; of another type, the type itself."""
    return typing.get_args(hint)[1] if typing.get_origin(hint) is dict else hint


def _meanings(cls: type) -> dict[str, str]:
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
        for names, text in re.findall(r"^ {4}(\w[\w, ]*):(.*(?:\n {5}.*)*)", section, re.MULTILINE):
            shared = f"{names}: " if "," in names else ""  # a meaning shared by several keys names them all
            meanings |= dict.fromkeys(names.split(", "), shared + " ".join(text.split()))
    return meanings


class Place(NamedTuple):
    """A key of a config, or one of its kinds, and its place.

    Args:
        path: the dotted path.
        of: the key, or the table of the kind.
        owner: the kind of the table that has the key; "" = none.
        value: its value in a given config; dataclasses.MISSING if the config does not have it.
    """

    path: str
    of: Key | Table
    owner: str
    value: Any


def look_up(root: Table, path: str, config: Any = MISSING) -> list[Place]:
    """The keys and kinds at a dotted path, such as model.encoder.positions.rotary; several if kinds share a key.

    The empty path is the root. If a config is given and its kinds have the key, those of other kinds are left out.
    Raises UsageError for an unknown key, with the nearest one.
    """
    places = [Place("", root, "", config)]
    for name in path.split(".") if path else ():
        below = [place for above in places for place in _below(above)]
        if not (places := [place for place in below if place.path.rpartition(".")[2] == name]):
            dotted = dict.fromkeys(place.path for place in _everywhere(root))
            same = [candidate for candidate in dotted if candidate.rpartition(".")[2] == path.rpartition(".")[2]]
            cure = f"did you mean {same[0]!r}?" if same else nearest(name, {p.path.rpartition(".")[2] for p in below})
            raise UsageError(f"unknown key {name!r}", where=path, cure=cure)
        actual = [place for place in places if place.value is not MISSING]
        places = actual or places
    return places


def _below(place: Place) -> Iterator[Place]:
    for table in place.of.tables if isinstance(place.of, Key) else (place.of,):
        value = place.value if type(place.value) is table.cls else MISSING
        start = f"{place.path}." if place.path else ""
        if isinstance(place.of, Key) and table.kind:
            yield Place(f"{start}{table.kind}", table, "", value)
        for key in table.keys:
            yield Place(f"{start}{key.name}", key, table.kind, getattr(value, key.name, MISSING))


def _everywhere(root: Table) -> Iterator[Place]:
    places = [Place("", root, "", MISSING)]
    while places:
        place = places.pop(0)
        below = list(_below(place))
        yield from below
        places += [each for each in below if isinstance(each.of, Key)]


def explain(place: Place) -> str:
    """Help on a key, a kind or a whole config, with everything below it."""
    if isinstance(place.of, Table):
        return "\n".join(_table_lines(place.of, f"{place.path}: " if place.path else "", "", place.value))
    owner = f" ({place.owner})" if place.owner else ""
    return "\n".join(_key_lines(place.of, f"{place.path}{owner}", "", place.value))


def help_on(cls: type, path: str = "", config: Any = MISSING) -> str:
    """Help on the keys or kinds at a path of a config class, see `look_up`; "" = on all keys."""
    return "\n".join(map(explain, look_up(describe(cls), path, config)))


def _key_lines(key: Key, name: str, margin: str, value: Any = MISSING) -> list[str]:
    facts = [f"{name}: {key.type}", *_default(key, "{}")]
    facts += [] if value is MISSING else [f"in the file {_shown(value) or 'as by default'}"]
    lines = _wrapped("; ".join(facts), margin, margin + "    ") + _wrapped(key.meaning, margin + "    ")
    for table in key.tables:
        head = f'kind = "{table.kind}": ' if len(key.tables) > 1 else ""
        lines += _table_lines(table, head, margin + "  ", value)
    return lines


def _table_lines(table: Table, head: str, margin: str, value: Any) -> list[str]:
    lines = [line for part in f"{head}{table.summary}".split("\n\n") for line in _wrapped(part, margin)]
    value = value if type(value) is table.cls else MISSING
    for key in table.keys:
        lines += _key_lines(key, key.name, margin + "  ", getattr(value, key.name, MISSING))
    return lines


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    rest = first if rest is None else rest
    options: Any = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, **options)


def _default(key: Key, form: str) -> list[str]:
    if key.default is MISSING:
        return ["required"]
    return [f"default {form.format(shown)}"] if (shown := _shown(key.default)) else []


def _shown(value: Any) -> str:
    """A value as TOML; of a table only its kind and what differs from its class's defaults, "" if that is nothing."""
    if not dataclasses.is_dataclass(value):
        return "none" if value is None else json.dumps(value, ensure_ascii=False)
    kind = getattr(value, "kind", None)
    items = {"kind": _shown(kind)} if isinstance(kind, str) else {}
    for f in dataclasses.fields(value):
        if (held := getattr(value, f.name)) != default_of(f):
            items[f.name] = _shown(held)
    return f"{{ {', '.join(f'{name} = {text}' for name, text in items.items())} }}" if items else ""


_INTRODUCTION = """\
# Configs

Every key of every config, with its type, default and meaning. `seqloom config --markdown` writes this page; \
`seqloom config translate training.steps` prints the same for one key of one task, and `seqloom config FILE` prints \
the complete config of a file.

A config is a TOML file; command-line options such as `--training.steps 1000` override it. Where a table may be of \
several kinds, its key `kind` selects one, and `schedule = "cosine"` is short for a table of that kind with all \
defaults. `"none"` stands for no value. A file may have tables `[members.NAME]`, each laid over the config: see \
`seqloom lineage`.
"""


def markdown(tasks: Mapping[str, type]) -> str:
    """The page about the configs of tasks: first the tasks, then each table once."""
    tables: dict[type, list[str]] = {}
    lines = _paragraphs(_INTRODUCTION)
    for task, cls in tasks.items():
        root = describe(cls)
        lines += ["", f"## {task}", "", *_section(root)]
        for place in _everywhere(root):
            for table in place.of.tables if isinstance(place.of, Key) else ():
                paths = tables.setdefault(table.cls, [])
                paths += [place.path] if place.path not in paths else []
    for cls in sorted(tables, key=lambda cls: cls.__name__):
        table = describe(cls)
        kind = f'`kind = "{table.kind}"`, of ' if table.kind else "Of "
        places = ", ".join(f"`{path}`" for path in sorted(tables[cls]))
        lines += ["", f"## {cls.__name__}", "", *_wrapped(f"{kind}{places}.", ""), "", *_section(table)]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    return "\n\n".join("\n".join(_wrapped(paragraph, "")) for paragraph in text.split("\n\n")).split("\n")


def _section(table: Table) -> list[str]:
    lines = _paragraphs(_escaped(table.summary))
    for i, key in enumerate(table.keys):
        links = [f"[{t.kind or t.cls.__name__}](#{t.cls.__name__.lower()})" for t in key.tables]
        kind = f"a table: {' or '.join(links)}" if links else key.type
        facts = "; ".join((kind, *_default(key, "`{}`")))
        lines += [""] * (i == 0) + _wrapped(f"- **{key.name}** ({facts}): {_escaped(key.meaning)}", "", "  ")
    return lines


def _escaped(text: str) -> str:
    """Text with every < escaped for Markdown, except between backticks."""
    return "`".join(part if i % 2 else part.replace("<", r"\<") for i, part in enumerate(text.split("`")))
