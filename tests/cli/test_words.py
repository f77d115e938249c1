"""Word vectors through the command line, as a user meets them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from calls import Call, train_in, unknown_scores

import seqloom
from seqloom.interop.vectors import load_vectors
from seqloom.run import Run

CONFIG = """\
task = "embed_words"

[data]
train = ["text"]
test = ["analogies.txt", "similar.tsv"]
min_count = 2

[model]
width = 12
window = 2
sample = 0.0

[optimizer]
lr = 0.1

[batches]
deterministic = true

[training]
epochs = 12
threads = 1
"""
ANIMALS, METALS = ("cat", "dog", "cow", "hen"), ("iron", "zinc", "gold", "lead")


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text in which animals eat and metals shine, lists, small.toml, and its run: run/."""
    folder = tmp_path_factory.mktemp("words")
    chance = random.Random(1)
    (folder / "text").mkdir()
    for name in ("a.txt", "b.txt"):
        lines = []
        for _ in range(400):
            lines.append(f"a {chance.choice(ANIMALS)} eats {chance.choice(('hay', 'corn', 'meat'))} now")
            lines.append(f"the {chance.choice(METALS)} shines {chance.choice(('bright', 'dull', 'grey'))} here")
        (folder / "text" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "analogies.txt").write_text(": kinds\ncat dog cow hen\n: gram1-verbs\ncat eats dog eats\nx y z w\n")
    (folder / "similar.tsv").write_text("a\tb\tscore\ncat\tdog\t9\ncat\tiron\t1\ncat\tyak\t5\n")
    (folder / "small.toml").write_text(CONFIG, encoding="utf-8")
    train_in(folder)
    return folder


@pytest.fixture
def words(learned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(learned)
    return learned


def printed(call: Call, *typed: str) -> list[str]:
    return [row["word"] for row in json.loads(call("words", "run", *typed, "--json").out)]


def test_like_words_are_near(call: Call, words):
    assert set(printed(call, "similar", "cat", "--count", "3")) == set(ANIMALS) - {"cat"}
    assert set(printed(call, "similar", "iron", "--count", "3")) == set(METALS) - {"iron"}
    assert printed(call, "odd-one-out", "cat", "gold", "hen", "cow")[0] == "gold"
    assert "hen" not in printed(call, "analogy", "iron", "gold", "hen", "--count", "5")
    near, far = (
        json.loads(call("words", "run", "similarity", "cat", w, "--json").out)[0]["cosine"] for w in ("dog", "zinc")
    )
    assert near > far


def test_the_same_in_python(words):
    vectors = seqloom.load("run")
    assert vectors.similar(["cat"], 3)[0][0] in ANIMALS
    assert vectors["cat"].shape == (12,)


def test_the_lists_of_the_config(call: Call, words):
    shown = json.loads(call("eval", "run", "--json").out)
    assert shown["similar"] == pytest.approx(100.0)
    sections = {row["section"]: row for row in shown["lists"][0]["sections"]}
    assert (sections["kinds"]["known"], sections["all"]["known"], sections["all"]["asked"]) == (1, 2, 3)
    assert Run.open("run").evaluation("test") == shown
    assert unknown_scores(shown) <= {"similar"}  # one number for each list, by its name
    assert "all analogies, %" in call("eval", "run").out
    assert "Spearman" in call("eval", "run", "--test", "similar.tsv").out


@pytest.mark.parametrize(("name", "options"), [("v.bin", ()), ("v.txt", ()), ("g.txt", ("--to", "glove"))])
def test_what_is_exported_is_read(call: Call, words, name, options):
    assert call("words", "run", "export", name, *options).code == 0
    assert np.array_equal(load_vectors(name).vectors, seqloom.load("run").vectors)
    assert call("words", name, "similar", "cat").out == call("words", "run", "similar", "cat").out
    assert call("words", "run", "export", name, *options).code == 0
    Path("mine.txt").write_text("mine", encoding="utf-8")
    call("words", "run", "export", "mine.txt").refused(2, "holds mine.txt, which is no earlier output")


def test_a_file_whose_header_counts_one_word_too_many_is_read_by_option(call: Call, words, tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("4 2\nNew York 1 0\ncat 1 1\ndog 0.9 1\n", encoding="utf-8")
    call("words", path, "similar", "cat").refused(3, "3 words instead of 4")
    (row, *_) = json.loads(call("words", path, "similar", "cat", "--any-size", "--json").out)
    assert row["word"] == "dog"
    assert call("words", path, "similarity", "New York", "cat", "--any-size").code == 0


def test_a_map_in_the_report(call: Call, words):
    assert call("words", "run", "map", "cat", "dog", "iron", "gold").code == 0
    page = (words / "run" / "report.html").read_text()
    assert "4 words in a plane" in page
    assert call("report", "run").code == 0
    assert "4 words in a plane" in (words / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("words", "run", "similar", "dogg"), "did you mean 'dog'"),
        (("words", "run", "similar"), "similar takes 1"),
        (("words", "run", "analogy", "cat", "dog"), "analogy takes 3"),
        (("words", "run", "odd-one-out", "cat", "dog"), "3 words or more"),
        (("words", "absent", "similar", "cat"), "no such run"),
        (("words", "similar.tsv", "similar", "cat"), "similar.tsv:1"),
        (("words", "run", "map", "unicorn"), "no word 'unicorn'"),
        (("eval", "run", "--decoding.beam", "2"), "--decoding.beam"),
        (("eval", "run", "--test", "small.toml"), "small.toml:3"),
        (("translate", "run", "cat"), "embed_words"),
        (("train", "small.toml", "--run", "x", "--data.min-count", "9999"), "data.min_count = 9999"),
        (("train", "small.toml", "--run", "x", "--data.train", "absent.txt"), "no such file"),
        (("train", "small.toml", "--run", "x", "--training.metric", "bleu"), "training.metric"),
        (("train", "small.toml", "--run", "run", "--model.width", "13"), "model.width: 12 -> 13"),
    ],
)
def test_calls_that_are_wrong(call: Call, words, typed, message):
    result = call(*typed)
    assert result.code in (2, 3)
    assert message in result.err
    assert "Traceback" not in result.err


def test_an_empty_text(call: Call, words, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    result = call("train", "small.toml", "--run", str(tmp_path / "x"), "--data.train", str(tmp_path / "empty.txt"))
    assert (result.code, "no word" in result.err) == (3, True)


def test_check_says_what_will_come(call: Call, words):
    shown = json.loads(call("check", "small.toml", "--json").out)
    assert shown["summary"][0]["words"] == 8000
    assert shown["estimate"]["epochs"] == 12


def test_a_training_that_is_over_is_only_told_of_again(call: Call, words):
    before = Run("run").pointed("best")
    assert call("train", "small.toml", "--run", "run").code == 0
    assert Run("run").pointed("best") == before


def test_another_model_begins_with_them(call: Call, words, tmp_path):
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("a cat eats hay now\n" * 20)
    (tmp_path / "lm.toml").write_text(
        f'task = "language_model"\n[data]\ntrain = ["{tmp_path}/train.txt"]\nvalid = ["{tmp_path}/valid.txt"]\n'
        '[tokenizer]\nkind = "words"\n[model]\npreset = "small-lstm"\nembedding = 12\n[model.decoder]\nlayers = 1\n'
        "width = 16\n[batches]\nlanes = 2\nlength = 7\n[training]\nsteps = 1\nevaluate_every = 1\nthreads = 1\n"
    )
    result = call("train", str(tmp_path / "lm.toml"), "--run", str(tmp_path / "r"), "--model.embedder.vectors", "run")
    assert result.code == 0
    assert "vectors for 5 of 13 tokens" in result.err
