"""What a recipe's head must say of its bands and of the data that chose its checkpoint."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import pytest

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


def comment(lines: Iterable[str]) -> str:
    """The lines that are comments, in one line."""
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def head(recipe: Path) -> str:
    """The comment that a recipe begins with, in one line."""
    return comment(takewhile(lambda line: line.startswith("#"), recipe.read_text(encoding="utf-8").split("\n")))


def name_of(recipe: Path) -> str:
    return recipe.stem


@pytest.mark.parametrize("recipe", [r for r in RECIPES if "accept" in r.read_text(encoding="utf-8")], ids=name_of)
def test_a_recipe_says_whose_its_bands_are_and_how_many_seeds_were_run(recipe: Path) -> None:
    said = comment(recipe.read_text(encoding="utf-8").split("\n"))
    assert re.search(
        r"bands? (is|are) (ours|a goal of our own|the published|that figure|one BLEU above the ladder's)", said
    )
    assert re.search(r"\bseeds?\b|single runs", said)


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_whose_test_data_choose_its_checkpoint_says_so(recipe: Path) -> None:
    data = tomllib.loads(recipe.read_text(encoding="utf-8")).get("data", {})
    held_out_twice = "held_out" in data and "test" not in data
    same = "test" in data and data.get("valid") == data["test"]
    assert bool(re.search(r"also chooses? the best checkpoint", head(recipe))) == (held_out_twice or same)
