"""Wrong values for every key of every config: a ConfigError or a config, never anything else."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterator
from dataclasses import MISSING
from itertools import chain
from typing import Any

import pytest

from seqloom.config import Arguments, build, load, read_overrides, read_tree, to_toml, type_name
from seqloom.config_help import Table, describe
from seqloom.errors import ConfigError, UsageError
from seqloom.limits import Bounds, hints_of, parted
from seqloom.tasks import TASKS, task_class, task_of

NESTED: list[Any] = []
for _ in range(100_000):
    NESTED = [NESTED]
TABLES: dict[str, Any] = {}
for _ in range(5_000):
    TABLES = {"kind": TABLES}

VALUES = {
    "minus": -1,
    "zero": 0,
    "huge": 1e308,
    "tiny": 1e-308,
    "70 bits": 2**70,
    "64 bits": 2**63,
    "beyond all floats": 10**400,
    "5,000 digits": int("9" * 3_000) ** 2,
    "nan": float("nan"),
    "inf": float("inf"),
    "true": True,
    "nothing": None,
    "no text": "",
    "NUL": "a\0b",
    "half a character": "\udcff",
    "long": "x" * 100_000,
    "list": ["x"],
    "mixed": [1, "x", None, {}],
    "empty list": [],
    "table": {"x": 1},
    "empty table": {},
    "list of a kind": {"kind": ["x"]},
    "deep list": NESTED,
    "deep table": TABLES,
    "typed": Arguments(["x"]),
    "typed digits": Arguments(["9" * 5_000]),
    "typed huge": Arguments(["1e20"]),
    "typed minus": Arguments(["-3"]),
    "typed NUL": Arguments(["a\0b"]),
    "typed nothing": Arguments([]),
    "typed several": Arguments(["1", "2", "3"]),
}


def tables(table: Table) -> Iterator[Table]:
    yield table
    for key in table.keys:
        for below in key.tables:
            yield from tables(below)


CLASSES = {table.cls: table for task in TASKS for table in tables(describe(task_class(task)))}


def needed(table: Table) -> dict[str, Any]:
    """The keys without which there is no config of the class."""
    values: dict[str, Any] = {}
    for key in table.keys:
        if key.default is MISSING:
            (own,) = key.tables[:1] or (None,)
            values[key.name] = ["file"] if own is None else {"kind": own.kind, **sound(own)}
            if typing.get_origin(key.hint) is dict:
                values[key.name] = {"name": values[key.name]}
    return values


def sound(table: Table) -> dict[str, Any]:
    """A tree that is a config of the class."""
    tree = needed(table)
    if "train" in {key.name for key in table.keys}:
        tree["train"] = ["file"]
    for key in table.keys:
        if key.name == "data" and key.tables and "data" not in tree:
            own = next((t for t in key.tables if t.kind not in ("none", "")), key.tables[0])
            tree["data"] = ({"kind": own.kind} if own.kind else {}) | sound(own)
    return tree


def built(cls: type, tree: dict[str, Any]) -> Any:
    try:
        return build(cls, tree)
    except ConfigError as error:
        return error


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_wrong_value_is_refused_or_taken_and_nothing_else(cls: type) -> None:
    table = CLASSES[cls]
    tree = sound(table)
    build(cls, tree)
    for key in table.keys:
        for name, value in VALUES.items():
            found = built(cls, {**tree, key.name: value})
            if isinstance(found, ConfigError):
                assert len(str(found)) < 3_000, name
                str(found).encode()
            else:
                to_toml(found).encode()


def numbers(hint: Any) -> Iterator[Any]:
    """The types of numbers that a type holds, with their bounds."""
    plain, bounds = parted(hint)
    if plain in (int, float):
        yield hint
    if bounds is None:
        yield from chain.from_iterable(numbers(part) for part in typing.get_args(hint))


KEYS = [
    pytest.param(cls, f.name, hint, id=f"{cls.__name__}.{f.name}")
    for cls in CLASSES
    for f in dataclasses.fields(cls)
    for hint in numbers(hints_of(cls)[f.name])
]


@pytest.mark.parametrize(("cls", "name", "hint"), KEYS)
def test_every_number_has_bounds_that_hold_for_files_options_and_calls(cls: type, name: str, hint: Any) -> None:
    kind, bounds = parted(hint)
    assert isinstance(bounds, Bounds)
    assert bounds.least < bounds.most < 2**63
    step = 1 if kind is int else 0.5
    tree = sound(CLASSES[cls])
    held = hints_of(cls)[name]
    for wrong in (kind(bounds.least - step), kind(bounds.most * 2)):
        whole = [wrong, wrong] if typing.get_origin(held) is tuple else wrong
        whole = {"bleu": wrong} if typing.get_origin(held) is dict else whole
        for value in (whole, Arguments([str(wrong)])):
            if not (isinstance(value, Arguments) and typing.get_origin(held) is dict):
                beyond = isinstance(wrong, int) and wrong >= 2**63 and value is whole
                told = "beyond 64 bits" if beyond else f"expected .*{bounds}"
                with pytest.raises(ConfigError, match=told):
                    build(cls, {**tree, name: value})
        if typing.get_origin(held) is not dict:
            made = build(cls, tree)
            with pytest.raises(ValueError, match=f"{name} must be {bounds}"):
                dataclasses.replace(made, **{name: tuple(whole) if isinstance(whole, list) else whole})


def test_bounds() -> None:
    closed, below = Bounds(1, 10_000), Bounds(0, 1, below=True)
    assert [closed.hold(value) for value in (0, 1, 10_000, 10_001, float("nan"))] == [False, True, True, False, False]
    assert [below.hold(value) for value in (-0.1, 0.0, 0.999, 1.0)] == [False, True, True, False]
    assert (str(closed), str(below)) == ("from 1 to 10,000", "from 0 to below 1")
    assert type_name(typing.Annotated[int, closed]) == "a whole number from 1 to 10,000"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed = " + "9" * 5_000, "cannot be read: Exceeds the limit"),
        ("seed = 0x" + "f" * 5_000, "is a whole number beyond 64 bits"),
        ("seed = 9223372036854775808", "is a whole number beyond 64 bits"),
        ("run = " + "[" * 3_000 + "]" * 3_000, "cannot be read: "),
        ("run = " + "[" * 40 + "]" * 40, "is nested more than 32 deep"),
        (".".join("a" * 3_000) + " = 1", "is nested more than 32 deep"),
        ("[" + ".".join("a" * 3_000) + "]", "is nested more than 32 deep"),
        ('run = "a\\u0000b"', "has a NUL character"),
        ('"a\\u0000b" = 1', "has a NUL character"),
    ],
    ids=["5,000 digits", "hexadecimal", "64 bits", "lists", "40 lists", "dots", "tables", "NUL", "NUL in a key"],
)
def test_files_with_values_that_no_config_holds(tmp_path, text, problem):
    path = tmp_path / "x.toml"
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=problem) as caught:
        read_tree(path)
    assert caught.value.where.startswith(str(path))
    with pytest.raises(ConfigError, match=problem):
        load(task_class("translate"), path)


@pytest.mark.parametrize(
    "typed", [["--" + ".".join("a" * 3_000), "1"], ["--run", "a\0b"], ["--run", "\udcff"], ["--a\0b", "1"]]
)
def test_options_that_no_config_holds(typed):
    with pytest.raises(ConfigError, match=r"nested more than 32 deep|NUL character or is not UTF-8"):
        read_overrides(typed)


@pytest.mark.parametrize("task", [["x"], {"x": 1}, 3, None, True])
def test_a_task_is_a_name(tmp_path, task):
    path = tmp_path / "x.toml"
    path.write_text("", encoding="utf-8")
    _, origin = read_tree(path)
    with pytest.raises(ConfigError, match="unknown task"):
        task_of({"task": task}, origin)


@pytest.mark.parametrize("task", ["translate", "language_model", "classify", "embed_words"])
@pytest.mark.parametrize("preset", [["x"], [["x"]], {"x": 1}, 3, True, Arguments(["a", "b"])])
def test_a_preset_is_a_name(task, preset):
    with pytest.raises(ConfigError, match=r"preset|unknown key"):
        build(task_class(task), sound(describe(task_class(task))) | {"model": {"preset": preset}})


def test_a_config_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "a.toml")
    for path in (tmp_path / "a.toml", "/dev/zero"):
        with pytest.raises(UsageError, match="this is not a regular file"):
            read_tree(path)
