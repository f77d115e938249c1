"""What Word2Vec draws from and looks up: alias table, Huffman tree, n-grams, and the tables as learning begins."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.models.word_vectors import (
    Tree,
    Word2Vec,
    Word2VecConfig,
    _fnv,
    alias_table,
    grams,
    huffman,
    keep_probabilities,
    rows_of_words,
)

COUNTS = st.lists(st.integers(1, 10**9) | st.integers(1, 5), min_size=1, max_size=61)


@given(counts=COUNTS, power=st.sampled_from([-0.5, 0.0, 0.75, 1.0]))
def test_an_alias_table_draws_in_proportion(counts, power):
    weights = np.array(counts, dtype=np.float64) ** power
    first, second = alias_table(weights.copy())
    assert first.dtype == np.float32
    assert second.dtype == np.int32
    assert ((first >= 0) & (first <= 1)).all()
    # Each number is the first choice with probability 1 / V, and stands with `first`.
    drawn = first.astype(np.float64)
    np.add.at(drawn, second, 1 - first.astype(np.float64))
    np.testing.assert_allclose(drawn / len(counts), weights / weights.sum(), atol=1e-6 / len(counts), rtol=1e-5)


def test_an_alias_table_by_hand():
    first, second = alias_table(np.array([6.0, 1.0, 2.0]))
    assert first.tolist() == pytest.approx([1, 1 / 3, 2 / 3])
    assert second[1:].tolist() == [0, 0]


def paths(tree: Tree) -> list[list[tuple[int, float]]]:
    edges = zip(tree.starts[:-1].tolist(), tree.starts[1:].tolist(), strict=True)
    return [list(zip(tree.nodes[a:b].tolist(), tree.turns[a:b].tolist(), strict=True)) for a, b in edges]


def least_cost(counts: list[int]) -> int:
    """The sum of count times length of the best code: each merge makes all that is below it longer by one."""
    heap, cost = list(counts), 0
    heapify(heap)
    while len(heap) > 1:
        both = heappop(heap) + heappop(heap)
        cost += both
        heappush(heap, both)
    return cost


@given(counts=COUNTS)
def test_a_huffman_tree_is_a_code_of_least_length(counts):
    counts = sorted(counts, reverse=True)
    tree = huffman(counts)
    found = paths(tree)
    assert len(found) == len(counts)
    assert tree.starts[0] == 0
    assert tree.starts[-1] == len(tree.nodes) == len(tree.turns)
    assert sum(n * len(path) for n, path in zip(counts, found, strict=True)) == least_cost(counts)
    codes = sorted("".join("01"[int(turn)] for _, turn in path) for path in found)
    assert len(set(codes)) == len(codes)
    assert not any(after.startswith(code) for code, after in pairwise(codes))  # sorted: that is all


@given(counts=COUNTS)
def test_the_paths_of_a_huffman_tree_part_at_its_nodes(counts):
    found = paths(huffman(counts))
    below: dict[tuple[int, float], int] = {}  # how much text is below each branch
    nodes: dict[tuple[float, ...], int] = {}  # which node is at the end of which turns
    for count, path in zip(counts, found, strict=True):
        for depth, (node, turn) in enumerate(path):
            before = tuple(turned for _, turned in path[:depth])
            assert nodes.setdefault(before, node) == node
            below[node, turn] = below.get((node, turn), 0) + count
    # A row of the output table for each inner node, and none is shared by two of them.
    assert sorted(nodes.values()) == list(range(len(counts) - 1))
    for node in nodes.values():
        assert below[node, 1.0] <= below[node, 0.0]  # turn 1 is the rarer child


@given(counts=COUNTS)
def test_frequent_words_never_have_longer_paths(counts):
    sizes = np.diff(huffman(counts).starts)
    for at, count in enumerate(counts):
        rarer = [size for size, other in zip(sizes, counts, strict=True) if other < count]
        assert all(sizes[at] <= size for size in rarer)


def test_small_huffman_trees():
    alone = huffman([7])
    assert (alone.starts.tolist(), alone.nodes.tolist(), alone.turns.tolist()) == ([0, 0], [], [])
    assert paths(huffman([5, 3])) == [[(0, 0.0)], [(0, 1.0)]]
    # 2 + 3 = 5 is node 0, 4 + 5 = 9 node 1, the root.
    assert paths(huffman([4, 3, 2])) == [[(1, 1.0)], [(1, 0.0), (0, 0.0)], [(1, 0.0), (0, 1.0)]]


def test_the_probability_that_a_word_is_kept():
    counts = np.array([900, 90, 9, 1])
    # Frequencies 0.9, 0.09, 0.009, 0.001; sqrt(s / f) + s / f, at most 1.
    expected = [0.1 + 0.01, np.sqrt(0.1) + 0.1, 1, 1]
    assert keep_probabilities(counts, 0.009).tolist() == pytest.approx(expected)
    assert keep_probabilities(counts, 0.0).tolist() == [1, 1, 1, 1]


@given(counts=COUNTS, sample=st.floats(1e-7, 1))
def test_rarer_words_are_kept_more_often(counts, sample):
    keep = keep_probabilities(np.array(sorted(counts, reverse=True)), sample)
    assert ((keep > 0) & (keep <= 1)).all()
    assert (np.diff(keep) >= 0).all()


@pytest.mark.parametrize(("data", "value"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)])
def test_published_values_of_fnv_1a(data, value):
    assert _fnv(data) == value


def buckets(*texts: str, of: int = 2_000_003) -> list[int]:
    return [_fnv(text.encode()) % of for text in texts]


@pytest.mark.parametrize(
    ("word", "shortest", "longest", "texts"),
    [
        ("cat", 3, 3, ["<ca", "cat", "at>"]),
        ("cat", 3, 4, ["<ca", "cat", "at>", "<cat", "cat>"]),
        ("cat", 4, 9, ["<cat", "cat>", "<cat>"]),
        ("cat", 6, 9, []),
        ("cat", 1, 2, ["c", "a", "t", "<c", "ca", "at", "t>"]),
        ("a", 1, 1, ["a"]),
        ("éüß", 4, 4, ["<éüß", "éüß>"]),
        ("aaa", 2, 2, ["<a", "aa", "aa", "a>"]),
        ("cat", 0, 0, []),
    ],
)
def test_the_n_grams_of_a_word(word, shortest, longest, texts):
    config = Word2VecConfig(shortest=shortest, longest=longest, buckets=2_000_003)
    assert grams(word, config) == buckets(*texts)


def test_rows_of_words():
    words = ["cat", "a", "at"]
    starts, rows = rows_of_words(words, Word2VecConfig())
    assert (starts.tolist(), rows.tolist()) == ([0, 1, 2, 3], [0, 1, 2])
    starts, rows = rows_of_words(words, Word2VecConfig(shortest=3, longest=3, buckets=13))
    cat, a, at = buckets("<ca", "cat", "at>", of=13), buckets("<a>", of=13), buckets("<at", "at>", of=13)
    assert starts.tolist() == [0, 4, 6, 9]
    assert rows.tolist() == [0, *(3 + b for b in cat), 1, *(3 + b for b in a), 2, *(3 + b for b in at)]
    assert rows.dtype == np.int32
    assert rows.max() < 3 + 13


@pytest.mark.parametrize(
    ("options", "rows", "outputs"),
    [
        ({}, 11, 11),
        ({"negative": 0}, 11, 10),
        ({"shortest": 2, "longest": 3}, 11 + 17, 11),
        ({"shortest": 2, "longest": 3, "negative": 0}, 11 + 17, 10),
    ],
)
def test_the_tables(options, rows, outputs):
    config = Word2VecConfig(width=7, buckets=17, **options)
    model = Word2Vec(config, 11, 3)
    assert model.input.shape == (rows, 7)
    assert model.output.shape == (outputs, 7)
    assert 0.4 / 7 < model.input.abs().max() <= 0.5 / 7
    assert not model.output.any()
    assert not any(p.requires_grad for p in model.parameters())
    torch.rand(5)  # the tables come from their own seed
    assert torch.equal(Word2Vec(config, 11, 3).input, model.input)
    assert not torch.equal(Word2Vec(config, 11, 4).input, model.input)


def test_one_word_alone_has_a_table_in_a_tree():
    assert Word2Vec(Word2VecConfig(negative=0), 1, 1).output.shape == (1, 100)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"window": 0},
        {"buckets": 0},
        {"negative": -1},
        {"sample": -0.1},
        {"shortest": 3},
        {"longest": 3},
        {"shortest": 4, "longest": 3},
        {"shortest": -1, "longest": 3},
    ],
    ids=str,
)
def test_values_that_make_no_sense(options: dict[str, Any]):
    with pytest.raises(ValueError, match="must"):
        Word2VecConfig(**options)
