"""Every benchmark runs with sizes of seconds; what their tables show is computed as they say.

Peers that would take long to import stand in the slow tests.
"""

from __future__ import annotations

import json
import os
import random
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from seqloom.nn import attention
from seqloom.training.precision import KERNELS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHARED = {"common", "report", "translation_data", "joeynmt_peer", "gensim_peer"}
QUICK = {
    "attention": ["--shapes", "2x3x5x7", "--repeats", "1"],
    "packed": ["--shapes", "13x17", "--rows", "1", "3", "--dtypes", "float32", "--repeats", "1"],
    "threads": ["--settings", "one thread", "--seconds", "0.01", "--rounds", "1"],
    "train_gpt": ["--quick", "--threads", "1", "--systems", "nanogpt-bf16-plain", "seqloom"],
    "generate_gpt": ["--quick", "--threads", "1", "--systems", "seqloom-fp32-unpacked"],
    "train_translation": ["--quick", "--threads", "1", "--systems", "lstm-fp32", "seqloom"],
    "losses": ["--quick", "--threads", "1", "--tokens", "64", "--seeds", "1", "2"],
    "train_encoder": ["--quick", "--threads", "1", "--model", "vit", "--systems", "seqloom"],
    "translate": ["--quick", "--threads", "1", "--systems", "joeynmt", "seqloom-fp32"],
    "continuous": ["--texts", "5", "--jobs", "3"],
    "lengths": ["--lengths", "7", "13", "--repeats", "1"],
    "growth": ["--batch", "2", "--length", "3", "5", "--width", "8", "16", "--vocabulary", "11", "--repeats", "1"],
    "suite": ["--quick", "--threads", "1", "--works", "engines", "train-gpt"],
    "engines": ["--quick", "--threads", "1", "--engines", "--engine ctranslate2"],
    "streams": ["--quick", "--threads", "1", "--precisions", "fp32"],
    "serve": ["--quick", "--threads", "1"],
    "signals": ["--folds", "2", "--training.steps", "2", "--training.evaluate_every", "2"],
    "words": [
        "--rounds",
        "1",
        "--methods",
        "cbow",
        "--product",
        "67",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--threads",
        "1",
    ],
}
SHAPED = {"words", "signals", "lengths", "growth", "suite"}  # which have tests of their own


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a benchmark changes in its process ends with the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(attention, "fused_is_faster", attention.fused_is_faster)
    monkeypatch.setenv("SEQLOOM_KEEP_MEMORY", "0")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")  # beside other tests
    monkeypatch.delenv("SEQLOOM_DATA", raising=False)


def run(monkeypatch: pytest.MonkeyPatch, name: str, *options: str) -> None:
    script = str(BENCHMARKS / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, *options])
    runpy.run_path(script, run_name="__main__")


def corpus(folder: Path) -> Path:
    """Sentences of 31 words, each of which occurs often enough."""
    draw = random.Random(1)
    path = folder / "corpus.txt"
    path.write_text("".join(" ".join(draw.choices([f"w{i}" for i in range(31)], k=7)) + "\n" for _ in range(300)))
    return path


def test_every_benchmark_is_tried() -> None:
    assert set(QUICK) == {path.stem for path in BENCHMARKS.glob("*.py")} - SHARED


@pytest.mark.parametrize("name", [name for name in QUICK if name not in SHAPED])
def test_a_benchmark_prints_its_figures(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run(monkeypatch, name, *QUICK[name])
    printed = capsys.readouterr()
    assert "ratio" in printed.out or "/ system" in printed.out
    missing = {"train_gpt": "nanogpt-bf16-plain: there is no model.py", "translate": "joeynmt: name the Python"}
    if name in missing:
        assert f"skipped: {missing[name]}" in printed.err


def test_a_recipe_stands_beside_the_nearest_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("sklearn")
    lines = [json.dumps({"label": i % 2, "series": [i % 2 + random.random() / 2] * 9}) for i in range(24)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = str(BENCHMARKS.parent / "recipes/ecg5000.toml")
    run(monkeypatch, "signals", recipe, "--data.train", str(tmp_path / "train.jsonl"), *QUICK["signals"])
    printed = capsys.readouterr()
    head, _, line = ([cell.strip() for cell in row.split("|")] for row in printed.out.strip().split("\n"))
    accuracy = dict(zip(head, line, strict=True))
    assert (accuracy["examples"], accuracy["nearest neighbour"], accuracy["logistic regression"]) == (
        "24",
        "100.0",
        "100.0",
    )
    assert accuracy["most frequent"] == "50.0"
    assert 0 <= float(accuracy["seqloom, seed 1"]) <= 100
    assert ("MiniRocket" in accuracy) != ("skipped: MiniRocket" in printed.err)


def test_windows_of_a_stream_are_predicted_from_those_before_them_alone() -> None:
    forward = import_module("signals").forward
    parts = list(forward(20, 4, overlap=3))
    assert [(list(learned)[-1], asked[0], asked[-1]) for learned, asked in parts] == [
        (1, 5, 9),
        (6, 10, 14),
        (11, 15, 19),
    ]
    assert all(learned[0] == 0 for learned, _ in parts)


def test_every_set_of_signals_has_a_recipe() -> None:
    module = import_module("signals")
    assert all((module.RECIPES / f"{words[0]}.toml").is_file() for words in module.SETS.values())


def test_the_cost_of_length_is_a_table_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run(monkeypatch, "lengths", *QUICK["lengths"], "--picture", str(tmp_path / "a.svg"))
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.split("\n")[:4]]
    assert [row[:2] for row in rows[2:]] == [["7", "1"], ["13", "1"]]
    assert all(float(cell) > 0 for row in rows[2:] for cell in row[2:])
    picture = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(f"{name}: " in picture for name in rows[0][2:])


def test_the_growth_of_cost_is_a_table_and_a_picture_for_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run(monkeypatch, "growth", *QUICK["growth"], "--picture", str(tmp_path / "a.svg"))
    rows = [row.split("|") for row in capsys.readouterr().out.split("\n") if row.startswith("|") and "---" not in row]
    assert [row[1].strip() for row in rows] == [
        "batch",
        "2",
        "length",
        "3",
        "5",
        "width",
        "8",
        "16",
        "vocabulary",
        "11",
    ]
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    drawn = "".join(root.itertext())
    assert [title in drawn for title in ("by batch", "by length", "by width", "by vocabulary")] == [
        False,
        True,
        True,
        False,
    ]
    assert "LSTM: " in drawn


PAGE = "before\n<!-- written by make bench -->\n<!-- end of what make bench writes -->\nafter\n"


def test_the_suite_fills_the_column_of_this_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page, suite = tmp_path / "page.md", import_module("suite")
    page.write_text(PAGE, encoding="utf-8")
    # bench-smoke runs scripts; here it is what they would have written.
    engines = {"--engine ctranslate2": [2.0, 3.0], "CTranslate2 directly": [4.0, 4.0], "ours, float32": [1.0, 1.0]}
    peers = suite.WORKS["engines"].peers
    works = [name.partition(", ")[2] for name in peers if name.startswith("--engine")]
    made = [{"work": work, "engine": name, "rates": rates} for work in works for name, rates in engines.items()]
    monkeypatch.setattr(suite, "run", lambda *_: made)
    monkeypatch.setattr(suite, "find_spec", lambda _: True)
    monkeypatch.setattr(sys, "argv", ["suite.py", *QUICK["suite"], "--page", str(page)])
    suite.main()
    assert "skipped: training a GPT, dropout 0.2: nanoGPT is not there" in capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    cells, notes = suite.written(text)
    assert (text.partition("<")[0], text.rpartition(">")[2]) == ("before\n", "\nafter\n")
    column = suite.COLUMNS[suite.fast_bf16()]
    assert notes[column].startswith(suite.machine().partition(";")[0])
    filled = {place for place, row in cells.items() if row[2 * suite.COLUMNS.index(column)] != suite.NONE}
    assert {row[2 * suite.COLUMNS.index(column)] for row in cells.values()} == {"0.62 (0.50 - 0.75)", suite.NONE}
    title = suite.WORKS["engines"].title  # Hugging Face is not installed there
    assert filled == {(title, peer) for name, peer in peers.items() if name.startswith("--engine")}


def test_a_column_keeps_what_was_not_measured_again_on_the_same_machine() -> None:
    suite = import_module("suite")
    first, second = (("generation by GPT-2, 1 text", peer) for peer in suite.GENERATION.values())
    text = suite.rewritten(PAGE, "AVX2", "a small one, 2 cores; torch 1", {first: ["1.10", "50 %"]})
    text = suite.rewritten(text, "bf16", "a large one; torch 1", {first: ["2.00", "60 %"]})
    text = suite.rewritten(text, "bf16", "a large one; torch 2", {second: ["3.00", "70 %"]})
    cells, notes = suite.written(text)
    assert cells[first] == ["1.10", "50 %", "2.00", "60 %"]
    assert cells[second] == ["–", "–", "3.00", "70 %"]
    assert notes == {"AVX2": "a small one, 2 cores; torch 1", "bf16": "a large one; torch 2"}
    cells, notes = suite.written(suite.rewritten(text, "bf16", "another; torch 2", {second: ["4.00", "80 %"]}))
    assert (cells[first], cells[second]) == (["1.10", "50 %", "–", "–"], ["–", "–", "4.00", "80 %"])


def test_the_rows_of_the_suite_differ() -> None:
    suite = import_module("suite")
    rows = [(work.title, peer) for work in suite.WORKS.values() for peer in work.peers.values()]
    assert len(set(rows)) == len(rows)
    for work in (suite.WORKS[name] for name in suite.WORKS if suite.WORKS[name].ours):
        assert {system.removesuffix("+alloc") for system in (*work.peers, *work.ours)} <= set(
            import_module(work.script).SYSTEMS
        )


@pytest.mark.parametrize(
    ("turns", "fallen"),
    [([0.5, 0.5, 0.6], True), ([0.5, 0.9, 1.5], False), ([1.1, 1.1, 1.1], False), ([0.97, 0.98, 0.97], True)],
)
def test_a_ratio_has_fallen_where_it_is_below_by_more_than_the_noise(turns: list[float], fallen: bool) -> None:
    assert import_module("suite").fallen(turns, 1.0) == fallen


@pytest.mark.parametrize(("rates", "asked", "failed"), [([1.0], 2, 0), ([0.1, 0.1, 1.0], 6, 0), ([0.1], 6, 2)])
def test_the_smoke_test_measures_again_before_it_fails(
    rates: list[float], asked: int, failed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = import_module("suite")
    calls = []

    def made(work: Any, arguments: Any, peers: Any, *_: Any) -> Any:
        calls.append(work)
        ours = rates[min(calls.count(work), len(rates)) - 1]
        rows = [{"system": peers[0], "rates": [1.0] * 3}, {"system": "seqloom", "rates": [9 * ours] * 3}]
        return {"systems": [{"median": row["rates"][0], "extra": {}, **row} for row in rows]}

    monkeypatch.setattr(suite, "run", made)
    monkeypatch.setattr(suite, "SMOKE", {name: ([], "hf-fp32", 2.0) for name in ("generate", "generate-8")})
    assert (suite.smoke(), len(calls)) == (failed, asked)


def test_word_vectors_are_timed_alone_and_as_whole_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    report = tmp_path / "report.json"
    run(monkeypatch, "words", str(corpus(tmp_path)), "--json", str(report), *QUICK["words"])
    figures = json.loads(report.read_text(encoding="utf-8"))
    systems = {"seqloom", "gensim"} if find_spec("gensim") else {"seqloom"}
    for what in ("training alone", "whole process"):
        assert {row["system"] for row in figures["speed"] if row["what"] == what} == systems
    assert {row["system"] for row in figures["quality"]} == systems
    printed = capsys.readouterr()
    assert all(f"skipped: {peer}" in printed.err for peer in {"the original C program", "gensim"} - systems)


@pytest.mark.parametrize("causal", [["--causal"], []])
def test_the_flag_of_a_causal_mask_is_timed(causal: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    seen = []
    monkeypatch.setattr(
        attention.F, "scaled_dot_product_attention", lambda q, k, v, bias, p, c, **_: seen.append(c) or q
    )
    run(monkeypatch, "attention", "--shapes", "2x3x5x7", "--dtypes", "float32", "--repeats", "1", *causal)
    assert set(seen) == ({True, False} if causal else {False})
    assert "with the causal flag" in capsys.readouterr().out or not causal


def test_each_row_of_seqloom_has_its_ratios() -> None:
    report = import_module("report")
    rows = [
        report.Row("peer", "a peer", [2.0, 4.0, 5.0]),
        report.Row("seqloom-bf16+alloc", "seqloom bf16", [8.0, 8.0, 5.0]),
        report.Row("seqloom-lstm", "seqloom's LSTM", [1.0, 2.0, 5.0]),
    ]
    peer, bf16, _ = report.summaries(rows)
    assert peer["ratios"]["seqloom-bf16+alloc"] == {"median": 2.0, "min": 1.0, "max": 4.0}
    assert peer["ratios"]["seqloom-lstm"] == {"median": 0.5, "min": 0.5, "max": 1.0}
    assert bf16["ratios"]["seqloom-bf16+alloc"]["max"] == 1.0


@pytest.mark.parametrize("name", ["train_gpt", "generate_gpt", "train_translation", "train_encoder", "translate"])
def test_what_a_benchmark_runs_by_default_has_a_row_to_compare_with(name: str) -> None:
    module = import_module(name)
    assert any(system.startswith("seqloom") for system in module.DEFAULT)
    assert {system.removesuffix("+alloc") for system in module.DEFAULT} <= set(module.SYSTEMS)


def test_seqloom_keeps_as_many_kernels_as_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    import_module("common").keep_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(KERNELS)


SYSTEMS = {
    "train_translation": ["hf-fp32", "hf-bf16-weights-eager", "seqloom"],
    "train_encoder": ["hf-fp32", "hf-bf16-eager", "seqloom"],
    "translate": ["hf-fp32", "seqloom-fp32"],
    "generate_gpt": ["hf-fp32", "seqloom-fp32"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_hugging_face_takes_part(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("transformers")
    run(monkeypatch, name, "--quick", "--threads", "1", "--systems", *SYSTEMS[name])
    printed = capsys.readouterr()
    assert "Hugging Face" in printed.out
    assert "skipped" not in printed.err


@pytest.mark.slow
def test_all_engines_take_part(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("transformers")
    run(monkeypatch, "engines", "--quick", "--threads", "1")
    printed = capsys.readouterr()
    assert all(name in printed.out for name in ("Hugging Face generate", "CTranslate2 directly", "--int8"))
    assert "skipped" not in printed.err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bert", "vit"])
def test_both_libraries_train_the_same_encoder(model: str) -> None:
    pytest.importorskip("transformers")
    module = import_module("train_encoder")
    steppers = [module.SYSTEMS[name][1]({"model": model}) for name in ("hf-fp32-eager", "seqloom")]
    assert len({stepper.parameters for stepper in steppers}) == 1
    given = module.drawn(module.MODELS[model], 2, 1)
    assert [0 < stepper.step(given) < 20 for stepper in steppers] == [True, True]
