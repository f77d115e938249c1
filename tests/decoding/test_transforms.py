from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from seqloom.decoding import transforms

ROWS = st.integers(0, 10**6).map(lambda seed: torch.randn(3, 7, generator=torch.Generator().manual_seed(seed)) * 3)
HISTORIES = st.integers(0, 12).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 6), min_size=n, max_size=n), min_size=3, max_size=3)
)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(x - max(row)) for x in row)
    return [math.exp(x - max(row)) / total for x in row]


def check(found: torch.Tensor, scores: torch.Tensor, allowed: list[set[int]]) -> None:
    """The allowed words keep their scores, the others have none."""
    for row, was, words in zip(found.tolist(), scores.tolist(), allowed, strict=True):
        assert row == [x if word in words else -math.inf for word, x in enumerate(was)]


@given(scores=ROWS, k=st.integers(1, 9))
def test_top_k(scores, k):
    best = [set(sorted(range(7), key=lambda word: -row[word])[:k]) for row in scores.tolist()]
    check(transforms.top_k(scores, k), scores, best)


@given(scores=ROWS, p=st.floats(0.01, 0.999))
def test_top_p(scores, p):
    nuclei = []
    for row in scores.tolist():
        chosen: set[int] = set()
        shares = softmax(row)
        for word in sorted(range(7), key=lambda word: -row[word]):
            if sum(shares[w] for w in chosen) >= p:
                break
            chosen.add(word)
        nuclei.append(chosen)
    check(transforms.top_p(scores, p), scores, nuclei)


@pytest.mark.parametrize("p", [0.1, 0.9, 0.999])
def test_a_nucleus_is_as_large_as_it_has_to_be(p):
    scores = torch.randn(3, 997) * torch.tensor([[0.1], [2.0], [9.0]])  # the first needs most of the tokens
    found = transforms.top_p(scores, p)
    for row, alone, shares in zip(found, scores, scores.double().softmax(-1), strict=True):
        kept = row > -math.inf
        assert torch.equal(row[kept], alone[kept])
        assert shares[kept].min() >= shares[~kept].max()
        assert shares[kept].sum() >= p - 1e-5
        assert shares[kept].sum() - shares[kept].min() < p + 1e-5
        assert torch.equal(transforms.top_p(alone[None], p)[0], row)
    assert (found[0] > -math.inf).sum() > 50


@given(scores=ROWS, p=st.floats(0.0, 1.0))
def test_min_p(scores, p):
    found = transforms.min_p(scores, p)
    for row, was in zip(found.tolist(), scores.tolist(), strict=True):
        shares = softmax(was)
        for word in range(7):
            margin = shares[word] - p * max(shares)
            if abs(margin) > 1e-6:  # closer than that float32 may decide otherwise
                assert row[word] == (was[word] if margin > 0 else -math.inf)
        assert max(row) == max(was)


@given(scores=ROWS, history=HISTORIES, penalty=st.floats(0.5, 3.0))
def test_repetition_penalty(scores, history, penalty):
    found = transforms.repetition_penalty(scores, torch.tensor(history, dtype=torch.long).view(3, -1), penalty)
    for row, was, words in zip(found.tolist(), scores.tolist(), history, strict=True):
        for word, x in enumerate(was):
            expected = x if word not in words else x / penalty if x > 0 else x * penalty
            assert row[word] == pytest.approx(expected, rel=1e-6)


PADDED = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.integers(0, 6), min_size=1, max_size=8)), min_size=3, max_size=3
)


def padded(rows: list[list[int]]) -> torch.Tensor:
    """The rows with -1 before the shorter ones."""
    width = max(map(len, rows))
    return torch.tensor([[-1] * (width - len(row)) + row for row in rows])


@given(scores=ROWS, rows=PADDED, penalty=st.floats(0.5, 3.0), size=st.integers(1, 5))
@settings(max_examples=200)
def test_the_prompt_counts_as_in_transformers(scores, rows, penalty, size):
    """Their processors read whole rows, prompt and result, one at a time; ours rows of several lengths."""
    whole = [row for _, row in rows]
    penalized = transforms.repetition_penalty(scores, padded(whole), penalty)
    transforms.no_repeat_ngram(ngrams := scores.clone(), padded(whole), size)
    for i, row in enumerate(whole):
        ids, own = torch.tensor([row]), scores[i : i + 1].clone()
        assert torch.equal(penalized[i], RepetitionPenaltyLogitsProcessor(penalty)(ids, own)[0])
        if len(row) >= size:  # before, theirs never forbids anything
            assert torch.equal(ngrams[i], NoRepeatNGramLogitsProcessor(size)(ids, own)[0])


@given(scores=ROWS, history=HISTORIES, size=st.integers(1, 5))
@settings(max_examples=200)
def test_no_repeat_ngram(scores, history, size):
    transforms.no_repeat_ngram(found := scores.clone(), torch.tensor(history, dtype=torch.long).view(3, -1), size)
    allowed = []
    for words in history:
        grams = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
        last = tuple(words[len(words) - size + 1 :]) if size > 1 else ()
        allowed.append({word for word in range(7) if len(last) < size - 1 or (*last, word) not in grams})
    check(found, scores, allowed)


def test_without_a_word_unless_it_is_the_only_one():
    inf = math.inf
    scores = torch.tensor([[1.0, 2.0, 3.0], [-inf, 2.0, -inf], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    transforms.without(scores, torch.tensor([1]), torch.tensor([[0], [1], [3]]))
    assert scores.tolist() == [[1.0, -inf, 3.0], [-inf, 2.0, -inf], [1.0, 2.0, 3.0], [1.0, -inf, 3.0]]
