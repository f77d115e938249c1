"""CIDEr-D by hand, and as the published program computes it."""

from __future__ import annotations

import math

import pytest

from seqloom.errors import DataError
from seqloom.evaluation.captions import cider_d
from seqloom.evaluation.comparison import compare_translations
from seqloom.evaluation.translation import corpus_bleu, exact_match, score_translations

WORDS = [chr(ord("a") + i) for i in range(24)]
APART = [(word,) for word in WORDS]
"""24 images, each with a word that no other has."""


def test_one_word_in_four_lengths() -> None:
    score, signature = cider_d(WORDS, APART)
    assert score == pytest.approx(10 / 4)  # there are no n-grams of two words or more
    assert signature == "CIDEr-D|images:24|nrefs:1|n:4|sigma:6|idf:refs|case:lc|tok:13a"


def test_a_right_text_of_four_words_has_ten() -> None:
    texts = [f"{word} {word}1 {word}2 {word}3" for word in WORDS]
    assert cider_d(texts, [(text,) for text in texts])[0] == pytest.approx(10)
    assert cider_d(texts, [(text, "other words here now") for text in texts])[0] == pytest.approx(5)


def test_repeated_words_are_clipped_and_length_is_penalized() -> None:
    repeated = ["a a a", *WORDS[1:]]
    # The caption has the vector (3 w), the reference (w): min(3 w, w) w / (3 w w) = 1/3, two words too many.
    expected = (23 * 2.5 + 2.5 / 3 * math.exp(-(2**2) / 72)) / 24
    assert cider_d(repeated, APART)[0] == pytest.approx(expected)


def test_a_word_of_all_images_weighs_nothing() -> None:
    with_the = [("the " + word,) for word in WORDS]
    assert cider_d(["the"] * 24, with_the)[0] == 0
    # One word right of two, of which the other has no weight; and no pair of words.
    assert cider_d(WORDS, with_the)[0] == pytest.approx(2.5 * math.exp(-1 / 72))


def test_the_published_program_has_the_same_value() -> None:
    # pycocoevalcap 1.2 (PyPI), CiderScorer(n=4, sigma=6.0) on these texts, cut at spaces: 1.7467339216059379.
    who = ("a man", "a woman", "two dogs", "a black dog", "a boy", "a girl", "three children", "an old man")
    does = ("runs", "sits", "jumps", "is playing", "walks slowly", "looks")
    where = ("on the beach", "in the snow", "through the grass", "near a tree", "over a red ball")
    where = (*where, "at the camera with a smile")

    def text(k: int) -> str:
        return f"{who[k % 8]} {does[k // 2 % 6]} {where[k // 3 % 6]} ."

    references = [(text(k), text(k * 7 + 3), text(k + 5)) for k in range(24)]
    captions = [text(k * 5 + 1) if k % 3 else text(k) for k in range(24)]
    captions[4], captions[7], captions[9] = "dog", "a a a a a a dog dog", ""
    assert cider_d(captions, references)[0] == pytest.approx(1.7467339216059379, rel=1e-12)


def test_a_set_too_small_for_weights_is_refused() -> None:
    with pytest.raises(DataError, match="there are 19 images"):
        cider_d(WORDS[:19], APART[:19])
    several = [(word, word) for word in WORDS]
    assert score_translations((), WORDS[:19], several[:19])["cider"] is None
    assert score_translations((), WORDS, several)["cider"] == pytest.approx(2.5)
    assert "cider" not in score_translations(WORDS, WORDS, WORDS)


def test_several_references_count_for_every_score() -> None:
    references = [("a cat sat on a mat", "the cat is on it"), ("the dog ran home", "a dog ran very fast")]
    right = ["the cat is on it", "a dog ran very fast"]
    score, signature = corpus_bleu(right, references)
    assert score == pytest.approx(100)
    assert signature.startswith("nrefs:2|")
    assert exact_match(right, references) == 100
    uneven = [references[0], ("a dog ran very fast",)]
    assert corpus_bleu(right, uneven)[0] == pytest.approx(100)
    assert corpus_bleu(["the cat is on it", "the dog ran home"], uneven)[0] < 100
    found = compare_translations({"a": right, "b": ["the cat", "home"]}, ["x", "y"], references, [], samples=20)
    assert [row["exact_match"] for row in found["systems"]] == [100, 0]
    assert found["systems"][0]["bleu"] == pytest.approx(100)
    assert found["differ"][0]["reference"] in ("a cat sat on a mat", "the dog ran home")
