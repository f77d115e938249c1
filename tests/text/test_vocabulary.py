from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.errors import RunError, UsageError
from seqloom.text.vocabulary import Vocabulary

# Whatever white space may leave of a text, so also odd separators and marks.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1)
COUNTS = st.dictionaries(WORDS, st.integers(1, 1 << 60), max_size=23)


def vocabulary(*words: str) -> Vocabulary:
    return Vocabulary(list(words), np.arange(len(words), 0, -1))


@given(counts=COUNTS, least=st.integers(1, 5) | st.integers(1, 1 << 60), most=st.integers(0, 29))
def test_words_are_ranked_by_frequency_and_then_by_name(counts, least, most):
    found = Vocabulary.ranked(counts, least, most)
    pairs = list(zip(found.words, found.counts.tolist(), strict=True))
    expected = sorted((-n, word) for word, n in counts.items() if n >= least)
    assert pairs == [(word, -n) for n, word in expected][: most or None]
    assert len(found) == len(pairs)
    assert found.index == {word: at for at, word in enumerate(found.words)}


@given(counts=COUNTS)
def test_it_is_read_back(tmp_path_factory, counts):
    path = tmp_path_factory.getbasetemp() / "vocabulary.tsv"
    written = Vocabulary.ranked(counts)
    path.write_text(written.to_tsv(), encoding="utf-8", newline="\n")
    found = Vocabulary.load(path)
    assert found.words == written.words
    assert found.counts.tolist() == written.counts.tolist()
    assert found.digest() == written.digest()


def test_odd_words_are_read_back(tmp_path):
    words = ["a", "\ufeffb", "c\r", "d\u2028e", "f\x85", "g\th", " ", "\x1c", '"i', "#"]
    path = tmp_path / "vocabulary.tsv"
    path.write_text(vocabulary(*words).to_tsv(), encoding="utf-8", newline="\n")
    assert Vocabulary.load(path).words == words


def test_a_line_is_a_word_a_tab_and_its_count():
    assert Vocabulary.ranked({"of": 3, "the": 5, "and": 3}).to_tsv() == "the\t5\nand\t3\nof\t3\n"


@given(first=COUNTS, second=COUNTS)
def test_digests_are_equal_if_and_only_if_words_and_counts_are(first, second):
    ours, theirs = Vocabulary.ranked(first), Vocabulary.ranked(second)
    assert (ours.digest() == theirs.digest()) == (first == second)


@pytest.mark.parametrize(
    "content", [b"the\tmany\n", b"the\n", b"the\t5\n\nof\t3\n", b"caf\xe9\t5\n", b"the\t5.0\n", b"the\t" + b"9" * 30]
)
def test_a_broken_file(tmp_path, content):
    path = tmp_path / "vocabulary.tsv"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a vocabulary") as found:
        Vocabulary.load(path)
    assert found.value.where == str(path)
    assert found.value.cure


def test_an_absent_file(tmp_path):
    with pytest.raises(RunError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "vocabulary.tsv")


def test_a_word_is_found_as_it_is_or_in_lower_case():
    own = vocabulary("the", "The", "cat", "PARIS")
    assert [own.find(word) for word in ("the", "The", "THE", "Cat", "PARIS")] == [0, 1, 0, 2, 3]


@pytest.mark.parametrize(
    ("word", "near"),
    [("aple", ["apple"]), ("Aple", ["apple"]), ("paris", ["Paris"]), ("Pari", ["Paris"]), ("bananna", ["banana"])],
)
def test_the_nearest_spellings_of_an_unknown_word(word, near):
    own = vocabulary("apple", "Paris", "banana", "tree", "xylophone")
    with pytest.raises(UsageError, match=f"no word {word!r}") as found:
        own.find(word)
    assert found.value.cure == f"did you mean {', '.join(map(repr, near))}?"


@pytest.mark.parametrize("word", ["zebra", "", "日本"])
def test_a_word_that_is_like_no_other(word):
    with pytest.raises(UsageError, match="no word") as found:
        vocabulary("apple", "tree").find(word)
    assert "too rare" in found.value.cure
