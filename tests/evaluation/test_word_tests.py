"""Lists of analogies and of similar words, on vectors made by hand; against scipy and gensim."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.errors import DataError, UsageError
from seqloom.evaluation import word_tests
from seqloom.evaluation.classification import rank_correlation
from seqloom.evaluation.word_tests import word_test
from seqloom.interop.vectors import to_gensim
from seqloom.models.word_vectors import WordVectors
from seqloom.text.vocabulary import Vocabulary

# x: royal, y: woman, z: a constant that makes lengths differ.
FAMILY = {
    "king": [1, -1, 1],
    "man": [-1, -1, 1],
    "queen": [1, 1, 1],
    "woman": [-1, 1, 1],
    "apple": [0, 0, -1],
    "duchess": [1.1, 0.9, 1],
}


def vectors(table: dict[str, Any]) -> WordVectors:
    rows = np.array(list(table.values()), dtype=np.float32)
    return WordVectors(Vocabulary(list(table), np.arange(len(table), 0, -1)), rows)


def written(folder: Path, *lines: str) -> str:
    path = folder / "list.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def sections(result: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    return {row["section"]: (row["asked"], row["known"], row["right"]) for row in result["sections"]}


QUESTIONS = [
    ": family",
    "man king woman queen",
    "King man QUEEN woman",
    "man king woman apple",
    "",
    "man king woman emperor",
    ": gram1-nothing",
    ": gram2-other",
    "king queen man woman",
    "woman queen man duchess",
]


@pytest.mark.parametrize("at_a_time", [1, 2, 256])
def test_analogies_by_section(tmp_path, monkeypatch, at_a_time):
    monkeypatch.setattr(word_tests, "_QUESTIONS", at_a_time)
    result = word_test(vectors(FAMILY), written(tmp_path, *QUESTIONS), 0)
    assert (result["kind"], result["file"], result["restrict"]) == ("analogies", "list.txt", 6)
    assert sections(result) == {
        "family": (4, 3, 2),
        "gram1-nothing": (0, 0, 0),
        "gram2-other": (2, 2, 1),
        "semantic": (4, 3, 2),
        "syntactic": (2, 2, 1),
        "all": (6, 5, 3),
    }
    found = [row["accuracy"] for row in result["sections"]]
    assert found == [pytest.approx(200 / 3), None, 50, pytest.approx(200 / 3), 50, 60]


def test_tabs_separate_before_commas_and_blanks_do(tmp_path):
    table = {"New York": [1, 0], "Washington, D.C.": [1, 0.1], "at, ease": [0, 1], "b": [1, 1]}
    lines = ["New York\tWashington, D.C.\t9", "New York\tat, ease\t1", "b\tat, ease\t5"]
    result = word_test(vectors(table), written(tmp_path, *lines), 0)
    assert (result["known"], result["spearman"]) == (3, pytest.approx(100))
    result = word_test(vectors(table), written(tmp_path, ": x", "New York\tb\tat, ease\tWashington, D.C."), 0)
    assert result["sections"][0]["known"] == 1


def test_analogies_among_frequent_words_only(tmp_path):
    """Without "woman" and all rarer words no question is left but one, and its answer is among three words."""
    result = word_test(vectors(FAMILY), written(tmp_path, *QUESTIONS, ": more", "man king king queen"), 3)
    assert result["restrict"] == 3
    assert sections(result)["all"] == (7, 1, 1)
    assert word_test(vectors(FAMILY), written(tmp_path, *QUESTIONS), 100)["restrict"] == 6


def test_the_words_of_the_question_are_no_answers(tmp_path):
    """Nearest to woman - man + man is "woman"; the next is asked for."""
    own = vectors({"man": [1, 0], "woman": [0, 1], "girl": [0.1, 1], "boy": [1, 0.5]})
    result = word_test(own, written(tmp_path, ": s", "man woman man girl", "man woman man woman"), 0)
    assert sections(result)["s"] == (2, 2, 1)


def test_a_vector_of_zeros_among_the_words(tmp_path):
    own = vectors({**FAMILY, "zero": [0, 0, 0]})
    result = word_test(own, written(tmp_path, ": s", "man king woman queen", "zero king zero man"), 0)
    assert sections(result)["s"][:2] == (2, 2)


@pytest.mark.parametrize("line", ["man king woman", "a b c d e", "man"])
def test_a_line_that_is_no_question(tmp_path, line):
    path = written(tmp_path, ": s", "man king woman queen", "", line)
    with pytest.raises(DataError, match="not four words") as found:
        word_test(vectors(FAMILY), path, 0)
    assert found.value.where == f"{path}:4"
    assert found.value.cure


@given(
    pairs=st.lists(
        st.tuples(st.integers(-3, 3) | st.floats(-1e6, 1e6), st.integers(-3, 3) | st.floats(-1e6, 1e6)),
        min_size=2,
        max_size=37,
    )
)
def test_rank_correlation_is_that_of_scipy(pairs):
    from scipy.stats import spearmanr

    first, second = (list(map(float, column)) for column in zip(*pairs, strict=True))
    found = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert math.isnan(found)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found == pytest.approx(float(spearmanr(first, second).statistic), abs=1e-12)
    assert rank_correlation(second, first) == pytest.approx(found)


def test_rank_correlation_by_hand():
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 100.0, 1000.0]) == pytest.approx(1)
    assert rank_correlation([1.0, 2.0, 3.0], [5.0, 4.0, 3.0]) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    assert rank_correlation([0.0, 7.0, 7.0, 9.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


PLANE = {f"w{angle}": [math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in range(0, 91, 10)}


@pytest.mark.parametrize("between", ["\t", ",", " ", "   ", " \t ", ", "])
@pytest.mark.parametrize("heading", [(), ("Word 1", "Word 2", "Human (mean)"), ("a", "b", "score", "more")])
def test_similarity_between_tabs_commas_or_blanks(tmp_path, between, heading):
    if between.isspace() and "\t" not in between:
        heading = tuple(word.replace(" ", "_") for word in heading)
    rows = [("w0", "w10", "9.5"), ("w0", "W40", "7"), ("w0", "w90", "0.5"), ("w0", "w20", "1e0"), ("w0", "w100", "3")]
    lines = [between.join(row) for row in ((heading,) if heading else ()) + tuple(rows)]
    result = word_test(vectors(PLANE), written(tmp_path, *lines, ""), 0)
    assert (result["kind"], result["pairs"], result["known"]) == ("similarity", 5, 4)
    # Cosines fall with the angle: 10, 20, 40, 90 degrees; people say 9.5, 1, 7, 0.5.
    assert result["spearman"] == pytest.approx(100 * (1 - 6 * 2 / (4 * 15)))


@pytest.mark.parametrize(("lines", "spearman"), [(["w0 w10 3"], None), (["x y 3", "x z 4"], None)])
def test_too_few_known_pairs(tmp_path, lines, spearman):
    assert word_test(vectors(PLANE), written(tmp_path, *lines), 0)["spearman"] is spearman


@pytest.mark.parametrize("line", ["w0\tw10", "w0 w10", "w0\tw10\tmuch", "w0\tw30\tnan", "w0"])
def test_a_line_that_is_no_pair(tmp_path, line):
    path = written(tmp_path, "w0\tw20\t5", line)
    with pytest.raises(DataError, match="not two words and a score") as found:
        word_test(vectors(PLANE), path, 0)
    assert found.value.where == f"{path}:2"


def test_files_that_are_no_lists(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="empty"):
        word_test(vectors(PLANE), str(tmp_path / "empty.txt"), 0)
    with pytest.raises(UsageError, match="no such file"):
        word_test(vectors(PLANE), str(tmp_path / "absent.txt"), 0)


@pytest.fixture
def random_vectors() -> WordVectors:
    random = np.random.default_rng(7)
    return vectors({f"w{n}": row for n, row in enumerate(random.normal(size=(53, 3)))})


def test_gensim_answers_as_many_analogies(tmp_path, random_vectors):
    random = np.random.default_rng(8)
    lines = []
    for name in ("one", "gram-two"):
        questions = [[f"w{n}" for n in random.permutation(59)[:3]] for _ in range(67)]
        lines += [f": {name}"]
        for a, b, c in questions:
            known = all(int(word[1:]) < 53 for word in (a, b, c))
            # Some right answers, some near ones, some not to be answered.
            near = [word for word, _ in random_vectors.analogy(a, b, c, 3)] if known else ["w1"]
            lines += [f"{a} {b} {c} {near[int(random.integers(len(near)))]}"]
    path = written(tmp_path, *lines)
    for restrict in (0, 37):
        rows = {row["section"]: row for row in word_test(random_vectors, path, restrict)["sections"]}
        _, found = to_gensim(random_vectors).evaluate_word_analogies(path, restrict_vocab=restrict or 53)
        theirs = {part["section"]: (len(part["correct"]), len(part["incorrect"])) for part in found}
        for name in ("one", "gram-two"):
            right, known = rows[name]["right"], rows[name]["known"]
            assert (right, known - right) == theirs[name]
            assert 0 < right <= known < rows[name]["asked"] == 67
            assert right < known or restrict


def test_gensim_finds_the_same_rank_correlation(tmp_path, random_vectors):
    random = np.random.default_rng(9)
    pairs = [(*random.integers(59, size=2).tolist(), int(random.integers(7))) for _ in range(83)]
    path = written(tmp_path, *(f"w{a}\tw{b}\t{score}" for a, b, score in pairs))
    result = word_test(random_vectors, path, 0)
    _, spearman, unknown = to_gensim(random_vectors).evaluate_word_pairs(path)
    assert result["spearman"] == pytest.approx(100 * spearman[0], abs=1e-4)
    assert 100 * (1 - result["known"] / result["pairs"]) == pytest.approx(unknown)
