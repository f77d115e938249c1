"""What is said of configs: by seqloom config, its page and its schemas."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytest
from jsonschema import Draft7Validator

from seqloom.cli.init import Template
from seqloom.config import load, to_toml
from seqloom.config_help import Table, describe, help_on, look_up, markdown
from seqloom.config_schema import json_schema
from seqloom.errors import UsageError
from seqloom.models.presets import CAPTIONS, LANGUAGE, MOVEMENTS, READING, TRANSLATION
from seqloom.tasks import TASKS, task_class

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
TEMPLATES = sorted((ROOT / "seqloom" / "cli" / "templates").glob("*.toml"))


@dataclass(frozen=True)
class Wool:
    """From sheep.

    Args:
        size, share: the diameter; the part that is wool,
            which may be all of it.
    """

    kind: ClassVar[str] = "wool"
    size: int = 3
    share: float = 1.0


@dataclass(frozen=True)
class Silk:
    """From moths: `a < b`, x < y.

    They eat leaves.

    Args:
        name: of the moth.
        size: the diameter.
    """

    kind: ClassVar[str] = "silk"
    name: str
    size: int = 2


@dataclass(frozen=True)
class Loom:
    """A machine.

    Args:
        thread: what is woven.
        note: what a person wrote.
        mode: how fast.
        sizes: in metres.
        accept: by name.
    """

    thread: Wool | Silk = field(default_factory=lambda: Silk("mulberry", 5))
    note: str | None = None
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[float, ...] = (1.0, 2.0)
    accept: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Jacquard(Loom):
    """A machine with cards.

    Args:
        note: what the cards say.
    """


def tables(table: Table) -> Iterator[Table]:
    yield table
    for key in table.keys:
        for below in key.tables:
            yield from tables(below)


def test_a_class_is_described_from_its_fields_and_docstrings():
    thread, note, mode, sizes, accept = describe(Loom).keys
    assert (note.type, note.default, note.meaning) == ("text or none", None, "what a person wrote.")
    assert (mode.type, sizes.type, accept.type) == ("one of 'fast', 'slow'", "a list of a number", "a table")
    assert thread.type == "a table of kind wool, silk"
    wool, silk = thread.tables
    assert silk.summary == "From moths: `a < b`, x < y.\n\nThey eat leaves."
    # The field's default stands under its own kind only.
    assert [(key.name, key.default) for key in silk.keys] == [("name", "mulberry"), ("size", 5)]
    assert [key.default for key in wool.keys] == [3, 1.0]
    both = "size, share: the diameter; the part that is wool, which may be all of it."
    assert {key.meaning for key in wool.keys} == {both}


def test_a_class_says_what_its_keys_mean_where_it_differs_from_its_base():
    meanings = {key.name: key.meaning for key in describe(Jacquard).keys}
    assert (meanings["note"], meanings["mode"]) == ("what the cards say.", "how fast.")


def test_keys_are_found_by_their_path_through_kinds_or_past_them():
    root = describe(Loom)
    assert [(place.owner, place.value) for place in look_up(root, "thread.size")] == [
        ("wool", MISSING), ("silk", MISSING)
    ]  # fmt: skip
    assert [place.owner for place in look_up(root, "thread.wool.size")] == ["wool"]
    held = Loom(Wool(7))
    assert [(place.owner, place.value) for place in look_up(root, "thread.size", held)] == [("wool", 7)]
    assert [(place.owner, place.value) for place in look_up(root, "thread.name", held)] == [("silk", MISSING)]


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("thraed", "did you mean 'thread'?"),
        ("share", "did you mean 'thread.share'?"),
        ("thread.wol", "did you mean 'wool'?"),
        ("thread.wool.name", "did you mean 'thread.name'?"),
        ("mode.fast", "known are: "),
        ("thread.", "known are: name, share, silk, size, wool"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest(path, cure):
    with pytest.raises(UsageError) as caught:
        look_up(describe(Loom), path)
    assert caught.value.where == path
    assert caught.value.cure == cure


def test_help_names_type_default_value_and_all_that_is_below():
    assert help_on(Loom, "mode", Loom(mode="slow")).split("\n") == [
        "mode: one of 'fast', 'slow'; default \"fast\"; in the file \"slow\"", "    how fast."
    ]  # fmt: skip
    assert help_on(Loom, "thread").split("\n") == [
        'thread: a table of kind wool, silk; default { kind = "silk", name = "mulberry", size = 5 }',
        "    what is woven.",
        '  kind = "wool": From sheep.',
        "    size: a whole number; default 3",
        "        size, share: the diameter; the part that is wool, which may be all of it.",
        "    share: a number; default 1.0",
        "        size, share: the diameter; the part that is wool, which may be all of it.",
        '  kind = "silk": From moths: `a < b`, x < y.',
        "  They eat leaves.",
        '    name: text; default "mulberry"',
        "        of the moth.",
        "    size: a whole number; default 5",
        "        the diameter.",
    ]
    assert help_on(Silk, "name").startswith("name (silk): text; required\n")


@pytest.mark.parametrize(
    ("task", "presets"),
    [("translate", TRANSLATION | CAPTIONS | MOVEMENTS), ("language_model", LANGUAGE), ("classify", READING)],
)
def test_help_and_schema_name_every_preset(task, presets):
    assert "one of '', " + ", ".join(map(repr, presets)) in " ".join(help_on(task_class(task), "model.preset").split())
    definitions = json_schema(task, task_class(task))["definitions"].values()
    named = [tree["properties"]["preset"]["enum"] for tree in definitions if "preset" in tree["properties"]]
    assert ["", *presets] in named


@pytest.mark.parametrize("task", TASKS)
def test_every_key_of_every_config_has_a_meaning(task):
    missing = [
        f"{t.cls.__name__}.{k.name}" for t in tables(describe(task_class(task))) for k in t.keys if not k.meaning
    ]
    assert missing == []


def test_the_names_of_all_tables_differ_so_that_links_to_them_are_right():
    classes = {t.cls for task in TASKS for t in tables(describe(task_class(task)))}
    names = [cls.__name__.lower() for cls in classes] + list(TASKS)
    assert len(set(names)) == len(names)


def test_the_page_has_each_table_once_and_its_text_is_no_html():
    page = markdown({"weave": Loom, "knit": Jacquard})
    assert [line[3:] for line in page.split("\n") if line.startswith("## ")] == ["weave", "knit", "Silk", "Wool"]
    assert r"From moths: `a < b`, x \< y." in page
    assert "- **name** (text; required): of the moth." in page


def test_the_committed_page_is_what_the_configs_say():
    page = markdown({task: task_class(task) for task in TASKS})
    assert (ROOT / "docs/config.md").read_text(encoding="utf-8") == page, "make docs writes it anew"
    assert max(map(len, page.split("\n"))) <= 120


# Schemas


def faults(cls: type, tree: Any) -> int:
    schema = json_schema("weave", cls)
    Draft7Validator.check_schema(schema)
    return len(list(Draft7Validator(schema).iter_errors(tree)))


RIGHT = (
    "",
    "thread = 'wool'",
    "[thread]\nsize = 3",
    "[thread]\nkind = 'wool'\nshare = 1",
    "[thread]\nshare = 0.5",  # of a kind that what lies below may bring
    "note = 'none'\nmode = 'slow'\nsizes = [1, 2.5]\naccept = {bleu = 40}",
    "[members.first]\nmode = 'slow'\nthread.name = 'tussah'",
)
WRONG = (
    "threads = 'wool'",
    "thread = 'cotton'",
    "thread = 3",
    "[thread]\nkind = 'cotton'",
    "[thread]\nkind = 'wool'\nname = 'tussah'",
    "[thread]\nshare = 0.5\nname = 'tussah'",
    "[thread]\nsize = 'three'",
    "[thread]\nsize = 2.5",
    "mode = 'fats'",
    "note = 3",
    "sizes = ['a']",
    "sizes = 3",
    "accept = {bleu = 'a'}",
    "members = 3",
    "[members.first]\nmodes = 'slow'",
    "[members.first.members.second]\nmode = 'slow'",
)


@pytest.mark.parametrize(("text", "wrong"), [*((text, 0) for text in RIGHT), *((text, 1) for text in WRONG)])
def test_a_schema_takes_what_is_right_and_refuses_what_is_wrong(text, wrong):
    assert faults(Loom, tomllib.loads(text)) == wrong


def test_a_schema_has_what_an_editor_shows():
    properties = json_schema("weave", Loom)["properties"]
    assert properties["mode"] == {"description": "how fast.", "default": "fast", "enum": ["fast", "slow"]}
    assert properties["sizes"]["items"] == {"type": "number"}
    assert "default" not in json_schema("weave", Silk)["properties"]["name"]


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft7Validator]:
    schemas = {task: json_schema(task, task_class(task)) for task in TASKS}
    for schema in schemas.values():
        Draft7Validator.check_schema(schema)
    return {task: Draft7Validator(schema) for task, schema in schemas.items()}


TEXTS = {f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8") for path in (*RECIPES, *TEMPLATES)}


@pytest.mark.parametrize("name", TEXTS)
def test_every_recipe_and_template_is_right_and_a_wrong_key_in_any_table_is_not(validators, name):
    tree = tomllib.loads(TEXTS[name])
    validator = validators[tree["task"]]
    assert [error.message for error in validator.iter_errors(tree)] == []
    assert not validator.is_valid({**tree, "xyzzy": 1})
    for key, value in tree.items():
        if isinstance(value, dict) and key != "accept":
            assert not validator.is_valid({**tree, key: {**value, "xyzzy": 1}})


def test_there_is_a_file_for_each_template():
    assert {path.stem for path in TEMPLATES} == {*get_args(Template)}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_complete_config_is_right(validators, path):
    task = tomllib.loads(path.read_text(encoding="utf-8"))["task"]
    tree = tomllib.loads(to_toml(load(task_class(task), path)))
    assert [error.message for error in validators[task].iter_errors(tree)] == []
