from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.text.bpe_dropout import DroppedBPE
from seqloom.text.tokenizer import BPE, Tokenizer
from seqloom.text.training import train_tokenizer

TEXTS = [
    "the weather in the mountains is better than the weather here",
    "",
    "a",
    "ab ab ab ab",
    "  two spaces  and an end ",
    "12 of the 345 weathers</s> — Ж",
    "the weather in the mountains is better than the weather here",
]
TOKENIZER = train_tokenizer(BPE(size=360), TEXTS * 3)
ALL = np.arange(len(TEXTS))


def rows(dropped: DroppedBPE, epoch: int, indices: np.ndarray = ALL) -> list[list[int]]:
    return [row.tolist() for row in dropped.rows(epoch, indices)]


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TEXTS), min_size=1, max_size=6)
)
@settings(max_examples=40, deadline=None)
def test_nothing_dropped_is_the_plain_encoding(texts):
    found = rows(DroppedBPE(TOKENIZER, texts, 0.0, seed=1), 3, np.arange(len(texts)))
    assert found == [[*ids.tolist(), TOKENIZER.end] for ids in TOKENIZER.encode(texts)]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.99])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TEXTS), min_size=1, max_size=6)
)
@settings(max_examples=25, deadline=None)
def test_the_text_stays_what_it_is(p, texts):
    dropped = DroppedBPE(TOKENIZER, texts, p, seed=1)
    for epoch in range(3):
        found = rows(dropped, epoch, np.arange(len(texts)))
        assert TOKENIZER.decode(found) == texts
        assert [row[-1] for row in found] == [TOKENIZER.end] * len(texts)
        assert dropped.lengths(epoch).tolist() == [len(row) for row in found]


def test_a_pure_function_of_seed_epoch_and_index():
    one, other = (DroppedBPE(TOKENIZER, TEXTS, 0.3, seed=5) for _ in range(2))
    expected = {epoch: rows(one, epoch) for epoch in range(4)}
    for epoch in (2, 0, 3, 1, 2):
        for index in reversed(range(len(TEXTS))):
            assert rows(other, epoch, np.array([index])) == [expected[epoch][index]]
    assert rows(DroppedBPE(TOKENIZER, TEXTS, 0.3, seed=6), 0) != expected[0]


def test_epochs_and_places_differ():
    dropped = DroppedBPE(TOKENIZER, TEXTS, 0.3, seed=5)
    seen = [rows(dropped, epoch) for epoch in range(5)]
    assert len({str(r) for r in seen}) == 5
    assert any(found[0] != found[-1] for found in seen)  # the same text at two places


def test_a_merge_is_dropped_with_probability_p():
    # "ab" can be merged in one place only: a cut is whole with probability 1 - p.
    tokenizer = train_tokenizer(BPE(size=262), ["xab"] * 9)
    assert tokenizer.inner.token_to_id("ab") is not None
    words = ["".join(chr(ord("A") + int(d)) for d in str(n)) + "ab" for n in range(10, 400)]
    p = 0.3
    dropped = DroppedBPE(tokenizer, words, p, seed=1)
    whole = [tokenizer.inner.token_to_id("ab") in row for row in rows(dropped, 0, np.arange(len(words)))]
    sigma = math.sqrt(p * (1 - p) / len(whole))
    assert abs(1 - sum(whole) / len(whole) - p) < 5 * sigma


def test_more_dropout_gives_more_words():
    counts = [DroppedBPE(TOKENIZER, TEXTS * 5, p, seed=1).lengths(0).sum() for p in (0.0, 0.1, 0.4, 0.99)]
    assert counts == sorted(counts)
    assert counts[0] < counts[1]
    letters = sum(len(text.encode()) + (len(text) > 0) for text in TEXTS * 5)  # with the space in front
    assert 0.9 * letters < counts[-1] <= letters + len(TEXTS) * 5


def test_only_empty_texts():
    dropped = DroppedBPE(TOKENIZER, ["", ""], 0.5, seed=1)
    assert rows(dropped, 7, np.array([1, 0])) == [[TOKENIZER.end]] * 2
    assert dropped.lengths(7).tolist() == [1, 1]


def test_words_of_one_symbol():
    tokenizer: Tokenizer = train_tokenizer(BPE(size=260), ["abc"])  # no merge at all
    found = rows(DroppedBPE(tokenizer, ["a b", "Ж"], 0.5, seed=1), 0, np.arange(2))
    assert found == [[*ids.tolist(), tokenizer.end] for ids in tokenizer.encode(["a b", "Ж"])]
