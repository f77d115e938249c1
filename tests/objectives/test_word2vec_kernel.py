"""The compiled step of Word2Vec against plain loops in float64 that make the same draws, and against autograd."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.errors import MissingExtra
from seqloom.models.word_vectors import Word2Vec, Word2VecConfig
from seqloom.objectives.word2vec import Model, make_model, train_block
from seqloom.text.vocabulary import Vocabulary

V = 23
WORDS = [f"{chr(97 + i)}{'xyz'[i % 3] * (i % 4)}" for i in range(V)]
COUNTS = np.array([1 + 997 // (i + 1) for i in range(V)])
LOOKED_AT = 32
WHOLE = (1 << 64) - 1


class Draws:
    """splitmix64 (Steele et al. 2014)."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def whole(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & WHOLE
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WHOLE
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WHOLE
        return z ^ (z >> 31)

    def below(self, limit: int) -> int:
        return (self.whole() >> 32) * limit >> 32

    def chance(self, probability: float) -> bool:
        return (self.whole() >> 40) / 2**24 < probability


class Window(NamedTuple):
    """What is learned at once: the rows that each input is the mean of; rows and labels of the outputs."""

    inputs: list[list[int]]
    outputs: list[int]
    labels: list[float]
    measured: bool


def windows(ids: Sequence[int], seed: int, model: Model) -> Iterator[Window]:
    """The windows of a block, with all that is drawn for them in the documented order."""
    draws, seen = Draws(seed), 0
    for line in lines_of(ids):
        kept = [word for word in line if model.keep[word] >= 1 or draws.chance(float(model.keep[word]))]
        for center, word in enumerate(kept):
            reach = model.window - (draws.below(model.window) if model.dynamic else 0)
            around = kept[max(0, center - reach) : center] + kept[center + 1 : center + reach + 1]
            if not around:
                continue
            rows = [model.rows[model.starts[w] : model.starts[w + 1]].tolist() for w in around]
            inputs = [[row for own in rows for row in own]] if model.bag else rows
            yield Window(inputs, *outputs_of(word, model, draws), seen % LOOKED_AT == 0)
            seen += 1


def lines_of(ids: Sequence[int]) -> list[list[int]]:
    lines: list[list[int]] = [[]]
    for number in ids:
        if number < 0:
            lines.append([])
        else:
            lines[-1].append(number)
    return lines


def outputs_of(word: int, model: Model, draws: Draws) -> tuple[list[int], list[float]]:
    if not model.negative:
        path = slice(model.paths[word], model.paths[word + 1])
        return model.nodes[path].tolist(), model.turns[path].tolist()
    rows = [word]
    for _ in range(model.negative):
        drawn = draws.below(len(model.first))
        if not draws.chance(float(model.first[drawn])):
            drawn = int(model.second[drawn])
        rows += [drawn] if drawn != word else []
    return rows, [1.0] + [0.0] * (len(rows) - 1)


class Learned(NamedTuple):
    inputs: np.ndarray
    outputs: np.ndarray
    sums: np.ndarray


def by_hand(ids: Sequence[int], seed: int, lr: float, model: Model) -> Learned:
    """The tables after a block, in float64; all gradients of a window are made from what was there before it."""
    inputs, outputs, sums = model.inputs.astype(np.float64), model.outputs.astype(np.float64), np.zeros(2)
    rate = float(np.float32(lr))
    for window in windows(ids, seed, model):
        x = np.array([inputs[rows].mean(0) for rows in window.inputs])
        y, labels = outputs[window.outputs], np.array(window.labels)
        input_steps, output_steps = np.zeros_like(x), np.zeros_like(y)
        for i in range(len(x)):
            for j in range(len(y)):
                score = float(x[i] @ y[j])
                error = rate * (labels[j] - 1 / (1 + np.exp(-score)))
                input_steps[i] += error * y[j]
                output_steps[j] += error * x[i]
                sums[0] += (np.logaddexp(0, score) - score * labels[j]) * window.measured
        sums[1] += len(x) * window.measured
        for row, step in zip(window.outputs, output_steps, strict=True):
            outputs[row] += step
        for rows, step in zip(window.inputs, input_steps, strict=True):
            for row in rows:
                inputs[row] += step
    return Learned(inputs, outputs, sums)


def made(words: int = V, **options: Any) -> Model:
    """All that the kernel needs, with tables of random numbers."""
    config = Word2VecConfig(**({"width": 7, "window": 3, "sample": 0.0, "buckets": 101} | options))
    model, random = Word2Vec(config, words, 1), np.random.default_rng(11)
    tables = [random.normal(0, 0.5, t.shape).astype(np.float32) for t in (model.input, model.output)]
    return make_model(config, Vocabulary(WORDS[:words], COUNTS[:words]), *tables)


def learned(ids: Sequence[int], seed: int, lr: float, model: Model) -> Learned:
    """What the kernel makes of a copy of the tables."""
    own = model._replace(inputs=model.inputs.copy(), outputs=model.outputs.copy())
    block = np.frombuffer(np.array(ids, dtype="<i4").tobytes(), dtype="<i4")  # read-only, as it comes from the file
    return Learned(own.inputs, own.outputs, train_block(block, np.uint64(seed), lr, own))


def assert_same(found: Learned, expected: Learned) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert np.isfinite(theirs).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(theirs).max()))


def text(lines: Sequence[int], words: int = V, ended: bool = True) -> list[int]:
    """Lines of so many random words each."""
    random = np.random.default_rng(5)
    ids = [number for size in lines for number in (*random.integers(words, size=size).tolist(), -1)]
    return ids if ended else ids[:-1]


LINES = [17, 1, 0, 2, 71, 1, 5]
CASES: dict[str, dict[str, Any]] = {
    "skip-gram": {},
    "cbow": {"method": "cbow"},
    "tree": {"negative": 0},
    "tree, cbow": {"negative": 0, "method": "cbow"},
    "fixed window": {"dynamic": False, "window": 5},
    "fixed window, cbow": {"dynamic": False, "window": 5, "method": "cbow"},
    "window of 1": {"window": 1},
    "n-grams": {"shortest": 3, "longest": 4},
    "n-grams, cbow": {"shortest": 3, "longest": 4, "method": "cbow"},
    "n-grams, tree": {"shortest": 3, "longest": 4, "negative": 0},
    "n-grams in few buckets": {"shortest": 2, "longest": 4, "buckets": 3},
    "sampled": {"sample": 0.02},
    "sampled, cbow, tree": {"sample": 0.02, "method": "cbow", "negative": 0},
    "many negative": {"negative": 19},
    "one negative, width 1": {"negative": 1, "width": 1},
    "width 16": {"width": 16},
    "width 19": {"width": 19, "method": "cbow"},
    "width 113": {"width": 113, "window": 11},
}


def test_the_draws_are_those_of_splitmix64():
    draws = Draws(1234567)
    assert [draws.whole() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("power", [0.0, 0.5, 0.75, 1.0])
def test_negative_words_are_drawn_by_their_counts_to_the_power(power):
    model = made(power=power)
    drawn = model.first.astype(np.float64)
    np.add.at(drawn, model.second, 1 - model.first.astype(np.float64))
    expected = [count**power for count in COUNTS.tolist()]
    np.testing.assert_allclose(drawn / V, np.array(expected) / sum(expected), rtol=1e-4)


@pytest.mark.parametrize("sample", [0.0, 0.02, 0.3])
def test_frequent_words_are_kept_by_their_counts_and_sample(sample):
    total = sum(COUNTS.tolist())
    expected = [min(1.0, (sample * total / n) ** 0.5 + sample * total / n) if sample else 1.0 for n in COUNTS.tolist()]
    assert made(sample=sample).keep.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ended", [True, False])
def test_a_block_learns_what_plain_loops_learn(case, ended):
    model, ids = made(**CASES[case]), text(LINES, ended=ended)
    found = learned(ids, 2**63 + 41, 0.05, model)
    assert_same(found, by_hand(ids, 2**63 + 41, 0.05, model))
    assert found.sums[1] > 0
    assert np.abs(found.inputs - model.inputs).max() > 1e-3
    assert np.abs(found.outputs - model.outputs).max() > 1e-3


@settings(max_examples=60)
@given(
    lines=st.lists(st.lists(st.integers(0, 4) | st.integers(0, V - 1), max_size=41), max_size=5),
    ended=st.booleans(),
    method=st.sampled_from(["skip-gram", "cbow"]),
    width=st.integers(1, 37),
    window=st.integers(1, 13),
    dynamic=st.booleans(),
    negative=st.integers(0, 11),
    sample=st.sampled_from([0.0, 0.003, 0.1]),
    sizes=st.sampled_from([(0, 0), (1, 2), (3, 4)]),
    seed=st.integers(0, WHOLE),
)
def test_any_block_learns_what_plain_loops_learn(
    lines, ended, method, width, window, dynamic, negative, sample, sizes, seed
):
    ids = [number for line in lines for number in (*line, -1)]
    ids = ids if ended else ids[:-1]
    options = {"window": window, "dynamic": dynamic, "negative": negative, "sample": sample}
    model = made(width=width, method=method, shortest=sizes[0], longest=sizes[1], **options)
    assert_same(learned(ids, seed, 0.02, model), by_hand(ids, seed, 0.02, model))


@pytest.mark.parametrize("words", [1, 2, 3])
@pytest.mark.parametrize("negative", [0, 5])
def test_few_words(words, negative):
    model, ids = made(words, negative=negative), text([13, 2], words)
    found = learned(ids, 3, 0.05, model)
    assert_same(found, by_hand(ids, 3, 0.05, model))
    # One word alone has nothing to be told from; its tree has no node.
    changed = not np.array_equal(found.outputs, model.outputs)
    assert changed == (words > 1 or negative > 0)


@pytest.mark.parametrize("method", ["skip-gram", "cbow"])
@pytest.mark.parametrize("options", [{}, {"negative": 0}, {"shortest": 3, "longest": 4}], ids=str)
def test_a_window_is_a_step_down_the_gradient_of_its_loss(method, options):
    """By autograd. A mean of several rows passes the whole of its gradient to each, as documented: its value is the
    mean, its derivative by each row is 1."""
    model, ids, lr = made(method=method, **options), text([7, 2, 11]), 0.05
    tables = [torch.tensor(table, dtype=torch.float64, requires_grad=True) for table in (model.inputs, model.outputs)]
    for window in windows(ids, 29, model):
        x = torch.stack([whole_gradient(tables[0][rows]) for rows in window.inputs])
        scores = x @ tables[1][window.outputs].T
        labels = torch.tensor(window.labels, dtype=torch.float64).expand_as(scores)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, tables)
        with torch.no_grad():
            for table, gradient in zip(tables, gradients, strict=True):
                table -= float(np.float32(lr)) * gradient
    found = learned(ids, 29, lr, model)
    for ours, table in zip(found, tables, strict=False):
        np.testing.assert_allclose(ours, table.detach().numpy(), rtol=1e-5, atol=1e-5)


def whole_gradient(rows: torch.Tensor) -> torch.Tensor:
    total = rows.sum(0)
    return total + (rows.mean(0) - total).detach()


def test_the_logistic_function_is_exact_to_single_precision():
    """Two words have a tree of one node: the step of the second number of the second word's vector is lr times what is
    wrong with the score, the product of the first numbers."""
    scores = np.concatenate([np.linspace(-17, 17, 487), [-1e-3, -1e-6, 0, 1e-6, 1e-3, -700, 700]]).astype(np.float32)
    model = made(2, negative=0, width=2, window=1)
    inputs = np.array([[0, 0], [1, 0]], dtype=np.float32)
    label = float(model.turns[model.paths[0]])
    found = []
    for score in scores.tolist():
        own = model._replace(inputs=inputs, outputs=np.array([[score, 1]], dtype=np.float32))
        found.append(float(learned([0, 1], 1, 1.0, own).inputs[1, 1]))
    expected = label - 1 / (1 + np.exp(-scores.astype(np.float64)))
    assert np.abs(np.array(found) - expected).max() < 3e-7


def test_no_window_reaches_over_the_end_of_a_line():
    model = made()
    found = learned([0, -1, 1, -1, -1, 2, -1, 3], 1, 0.1, model)
    assert np.array_equal(found.inputs, model.inputs)
    assert np.array_equal(found.outputs, model.outputs)
    assert found.sums.tolist() == [0, 0]


def test_an_empty_block_changes_nothing():
    model = made()
    found = learned([], 1, 0.1, model)
    assert np.array_equal(found.inputs, model.inputs)
    assert found.sums.tolist() == [0, 0]


@pytest.mark.parametrize("options", [{}, {"negative": 0, "sample": 0.02}], ids=str)
def test_all_that_is_random_comes_from_the_seed(options):
    model, ids = made(**options), text([31, 41])
    first, again, other = (learned(ids, seed, 0.05, model) for seed in (7, 7, 8))
    for ours, theirs in zip(first, again, strict=True):
        assert np.array_equal(ours, theirs)
    assert not np.array_equal(first.inputs, other.inputs)


def test_numbers_behind_the_width_are_not_touched():
    """The rows of the work space are longer than those of the tables."""
    model = made(width=7)
    wide = np.full((V, 2, 7), 3.0, dtype=np.float32)
    wide[:, 0] = model.inputs
    flat = wide.reshape(2 * V, 7)  # a table in which every second row belongs to no word
    own = model._replace(inputs=flat, rows=2 * model.rows)
    found = learned(text([53]), 1, 0.1, own)
    assert (found.inputs[1::2] == 3).all()
    assert not np.array_equal(found.inputs[::2], model.inputs)


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "seqloom.objectives.word2vec")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtra, match=r"seqloom\[words\]"):
        importlib.import_module("seqloom.objectives.word2vec")
