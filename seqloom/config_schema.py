"""JSON schemas (draft-07) of configs, with which an editor completes and checks a TOML file."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING
from typing import Any, Literal, Union

from seqloom.config import Tree
from seqloom.config_help import Key, Table, describe
from seqloom.limits import parted

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema(task: str, cls: type) -> Tree:
    """The schema of a task's configs, and of ladders of them ([members.NAME]).

    A table without `kind` is valid if it is valid for any kind, because the kind may come from a preset, the run to
    start from or the config below a member. For the same reason, and because of the command line, no key is required.
    """
    definitions: Tree = {}
    root = _table(describe(cls), definitions, "config")
    # A member has the same keys, but no members of its own.
    members = {"type": "object", "description": "The members of a ladder, by name: see seqloom lineage."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"seqloom {task}",
        **root,
        "properties": {**root["properties"], "members": {**members, "additionalProperties": root}},
        "definitions": definitions,
    }


def schema_text(task: str, cls: type) -> str:
    """The schema as the text of a file."""
    return json.dumps(json_schema(task, cls), indent=1, ensure_ascii=False) + "\n"


def _table(table: Table, definitions: Tree, place: str) -> Tree:
    keys = {key.name: _key(key, definitions, f"{place}.{key.name}") for key in table.keys}
    return {
        "type": "object",
        "description": table.summary,
        "properties": {**({"kind": {"const": table.kind}} if table.kind else {}), **keys},
        "additionalProperties": False,
    }


def _key(key: Key, definitions: Tree, place: str) -> Tree:
    named = {"description": key.meaning} | ({} if key.tables or key.default is MISSING else {"default": key.default})
    if not key.tables:
        return named | _value(key.hint)
    references = []
    for table in key.tables:
        name = f"{place}.{table.kind or table.cls.__name__}"
        definitions[name] = _table(table, definitions, name)
        references.append({"$ref": f"#/definitions/{name}"})
    names = [table.kind for table in key.tables if table.kind]  # `norm = "rms"` is short for a table of that kind
    if type(None) in typing.get_args(key.hint):
        names.append("none")
    options: list[Tree] = [{"enum": names}] if names else []
    if len(references) == 1:
        one: Tree = {"oneOf": [*options, *references]}
    else:
        options += [{"allOf": [reference], "required": ["kind"]} for reference in references]
        one = {"oneOf": [*options, {"not": {"required": ["kind"]}, "anyOf": references}]}
    if typing.get_origin(key.hint) is dict:  # tables by name
        return named | {"type": "object", "additionalProperties": one}
    return named | one


def _value(hint: Any) -> Tree:
    hint, bounds = parted(hint)
    if bounds is not None:
        most = "exclusiveMaximum" if bounds.below else "maximum"
        return _value(hint) | {"minimum": bounds.least, most: bounds.most}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _value(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(args[1])}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_value(arg) for arg in args]}
    return {"const": "none"} if hint is type(None) else {"type": _TYPES[hint]}
