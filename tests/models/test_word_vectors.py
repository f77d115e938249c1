"""Word vectors in use, on vectors made by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from seqloom.errors import MissingExtra, UsageError
from seqloom.models import word_vectors
from seqloom.models.word_vectors import Word2VecConfig, WordVectors, grams
from seqloom.text.vocabulary import Vocabulary

# Words at angles (degrees) and with lengths that must not count.
PLANE = {"east": (0, 1), "near": (10, 5), "north": (90, 0.3), "upper": (60, 2), "west": (180, 7), "south": (-90, 1)}


def vectors(table: dict[str, list[float]], **options: object) -> WordVectors:
    counts = np.arange(len(table), 0, -1)
    return WordVectors(Vocabulary(list(table), counts), np.array(list(table.values()), dtype=np.float32), **options)


@pytest.fixture
def plane() -> WordVectors:
    angles = {word: (math.radians(angle), length) for word, (angle, length) in PLANE.items()}
    return vectors({word: [length * math.cos(a), length * math.sin(a)] for word, (a, length) in angles.items()})


@pytest.fixture
def family() -> WordVectors:
    """Royal or not, woman or man, and a constant."""
    table = {"king": [1, -1, 2], "queen": [1, 1, 2], "man": [-1, -1, 2], "woman": [-1, 1, 2], "zero": [0, 0, 0]}
    return vectors({**table, "apple": [0, 0, -1]})


def test_there_is_nothing_to_look_into(plane: WordVectors) -> None:
    with pytest.raises(UsageError, match="there are no layers to look into"):
        plane.look("east")


def cosine(*degrees: float) -> list[float]:
    return [pytest.approx(math.cos(math.radians(angle)), abs=1e-6) for angle in degrees]


def test_similar_words_have_the_largest_cosine(plane):
    found = plane.similar(["east"], 3)
    assert [word for word, _ in found] == ["near", "upper", "north"]
    assert [value for _, value in found] == cosine(10, 60, 90)
    assert [word for word, _ in plane.similar(["east"])] == ["near", "upper", "north", "south", "west"]


def test_several_words_stand_for_their_mean_direction(plane):
    found = plane.similar(["east", "north"], 2)
    assert found == list(zip(["upper", "near"], cosine(15, 35), strict=True))


def test_a_direction(plane):
    found = plane.near(np.array([0, -100], dtype=np.float32), 2)
    assert found == list(zip(["south", "east"], cosine(0, 90), strict=True))
    assert [word for word, _ in plane.near(np.array([0, -1], dtype=np.float32), 1, ["South"])] == ["east"]


def test_analogies(family):
    assert family.analogy("man", "king", "woman", 1) == [("queen", pytest.approx(1, abs=1e-6))]
    assert family.analogy("king", "man", "queen", 1)[0][0] == "woman"
    assert family.analogy("man", "woman", "king", 1)[0][0] == "queen"


def test_words_that_were_asked_for_are_left_out(family):
    assert len(family.analogy("man", "king", "woman")) == 3
    names = [word for word, _ in family.analogy("man", "king", "Woman")]  # found in lower case
    assert not {"man", "king", "woman"} & set(names)


def test_all_words_are_scored_however_many_parts_that_takes(plane, monkeypatch):
    whole = plane.similar(["near"])
    monkeypatch.setattr(word_vectors, "_ROWS", 2)
    assert plane.similar(["near"]) == whole


def test_the_vectors_are_not_changed(family):
    before = family.vectors.copy()
    family.similar(["king"])
    family.odd_one_out(["king", "man", "apple"])
    assert np.array_equal(family.vectors, before)


def test_similarity_is_the_cosine(plane, family):
    assert [plane.similarity(a, b) for a, b in (("east", "upper"), ("north", "south"))] == cosine(60, 180)
    assert family.similarity("king", "king") == pytest.approx(1)
    assert family.similarity("King", "queen") == pytest.approx(4 / 6)


def test_a_vector_of_zeros_is_like_nothing(family):
    assert family.similarity("zero", "king") == 0
    assert dict(family.similar(["king"]))["zero"] == 0
    assert {value for _, value in family.similar(["zero"])} == {0.0}
    assert family.norms[4] == 1


def test_the_odd_one_out(plane):
    found = plane.odd_one_out(["east", "west", "near", "upper"])
    assert found[0][0] == "west"
    assert [value for _, value in found] == sorted(value for _, value in found)
    # Unit vectors at 0, 90 and 60 degrees: the mean is at 0.5 + 0, ... of angle atan2(1 + sqrt(3) / 2, 1.5).
    middle = math.degrees(math.atan2(1 + math.sqrt(3) / 2, 1.5))
    found = plane.odd_one_out(["east", "north", "upper"])
    assert found == list(zip(["east", "north", "upper"], cosine(middle, 90 - middle, middle - 60), strict=True))


@pytest.mark.parametrize("words", [[], ["east"], ["east", "west"]])
def test_two_words_have_no_odd_one_out(plane, words):
    with pytest.raises(UsageError, match="no odd one out"):
        plane.odd_one_out(words)


def test_an_unknown_word_is_refused_with_the_nearest_spellings(plane):
    for call in (
        lambda: plane.similar(["easte"]),
        lambda: plane.analogy("east", "west", "easte"),
        lambda: plane.similarity("easte", "west"),
        lambda: plane.odd_one_out(["east", "west", "easte"]),
        lambda: plane.map(["east", "easte"]),
    ):
        with pytest.raises(UsageError, match="no word 'easte'") as found:
            call()
        assert found.value.cure == "did you mean 'east'?"


def test_an_unseen_word_has_the_mean_of_its_n_grams():
    config = Word2VecConfig(width=3, shortest=3, longest=4, buckets=13)
    buckets = np.random.default_rng(1).normal(size=(13, 3)).astype(np.float32)
    own = vectors({"cat": [1, 0, 0], "dog": [0, 1, 0]}, buckets=(buckets, config))
    assert own["cat"].tolist() == own["Cat"].tolist() == [1, 0, 0]
    expected = np.mean([buckets[row] for row in grams("cats", config)], axis=0)
    assert own["cats"] == pytest.approx(expected)
    cosine = float(expected[0] / np.linalg.norm(expected))
    assert own.similarity("cats", "cat") == pytest.approx(cosine, abs=1e-6)
    assert len(own.similar(["cats"])) == 2  # nothing to leave out


def test_a_word_too_short_for_n_grams():
    config = Word2VecConfig(width=2, shortest=5, longest=5, buckets=7)
    own = vectors({"x": [1, 0]}, buckets=(np.ones((7, 2), dtype=np.float32), config))
    assert own["abc"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="no word 'ab'"):
        own["ab"]


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("count", [3, 5, 41])
def test_a_map_has_a_place_for_each_word(method, count):
    table = np.random.default_rng(2).normal(size=(43, 7))
    own = vectors({f"w{n}": row.tolist() for n, row in enumerate(table)})
    words = [f"w{n}" for n in range(count)]
    found = own.map(words, method)
    assert found.shape == (count, 2)
    assert np.isfinite(found).all()
    assert len(np.unique(found.round(9), axis=0)) == count
    assert np.array_equal(found, own.map(words, method))


def test_a_map_by_pca_shows_the_two_directions_in_which_words_differ_most():
    """Points of the unit sphere near its pole: the plane they lie in, with all distances as they are."""
    points = np.array([[0.3, 0.1], [-0.2, 0.1], [0.1, -0.15], [-0.2, -0.05]])
    table = np.hstack([points, np.sqrt(1 - (points**2).sum(1, keepdims=True)), np.zeros((4, 2))])
    own = vectors({f"w{n}": row.tolist() for n, row in enumerate(table)})
    found = own.map(own.vocabulary.words)
    assert found.mean(0) == pytest.approx([0, 0])
    spread = (found**2).sum(0)
    assert spread[0] >= spread[1]
    units = table - table.mean(0)
    assert spread.tolist() == pytest.approx(sorted(np.linalg.eigvalsh(units.T @ units))[-1:-3:-1], rel=1e-5)


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize(("words", "width"), [(2, 5), (1, 5), (5, 1)])
def test_a_map_of_few_words_or_numbers_is_a_plane_too(method, words, width):
    table = np.random.default_rng(2).normal(size=(words, width))
    own = vectors({f"w{n}": row.tolist() for n, row in enumerate(table)})
    try:
        found = own.map(own.vocabulary.words, method)
    except UsageError:
        return
    assert found.shape == (words, 2)


def test_words_near_each_other_stay_so_by_tsne():
    random = np.random.default_rng(3)
    table = {f"{side}{n}": [sign, *random.normal(0, 0.1, 4)] for side, sign in (("l", -1), ("r", 1)) for n in range(11)}
    found = vectors(table).map(list(table), "tsne")
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert [int(at) // 11 for at in distances.argmin(1)] == [0] * 11 + [1] * 11


def test_without_scikit_learn_the_extra_is_named(monkeypatch, plane):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MissingExtra, match=r"seqloom\[maps\]"):
        plane.map(["east", "west", "north"], "tsne")
