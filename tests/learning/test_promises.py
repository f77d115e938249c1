"""What a user is promised, trained for real. `make test-slow`; the recipes need SEQLOOM_DATA."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from seqloom.tasks.seq2seq.demo import demo_config
from seqloom.training.log import Reporter
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.train import train_run
from seqloom.workflows.verify import verify_recipe

RECIPES = [p for p in sorted(Path(__file__).parents[2].glob("recipes/*.toml")) if "accept" in p.read_text("utf-8")]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_demo_reaches_its_target(tmp_path: Path, seed: int) -> None:
    config = demo_config("en", "de", str(tmp_path / "demo"), seed, 0)
    run = train_run(config, Reporter(0))
    scores = evaluate_run(run.path, (), "test", (), Reporter(0))
    assert scores["exact_match"] >= 90
    assert scores["bleu"] >= 93


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_reaches_its_band(tmp_path: Path, recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    if "SEQLOOM_DATA" in text and not os.environ.get("SEQLOOM_DATA"):
        pytest.skip("SEQLOOM_DATA is not set: there is nothing to train on")
    for needed in sorted({*re.findall(r'"(runs/[\w-]+)', text)}):
        if not Path(needed).is_dir():
            pytest.skip(f"{needed} is not there: {recipe.name} says what it is made by")
    verdicts = verify_recipe(recipe, ("--run", str(tmp_path / "run")), Reporter(0))
    assert all(v["reached"] for v in verdicts), verdicts
