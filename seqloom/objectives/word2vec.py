"""The compiled step of Word2Vec: loss, gradient and update of two tables in one pass over a block of text.

For each word of the text, the inputs are its neighbours (or their mean), and the outputs are the word and some random
words (or the nodes of its path in a Huffman tree). All inputs are scored against all outputs in one small matrix
product, because the neighbours of a word share its random words (Ji et al. 2016). A row used twice in a window gets
both its gradients, each computed before either is applied.

The mean of several vectors passes its whole gradient to each of them, as in the original program.
Threads update the tables without locks (Recht et al. 2011).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from seqloom.errors import optional
from seqloom.models.word_vectors import Word2VecConfig, alias_table, huffman, keep_probabilities, rows_of_words
from seqloom.text.vocabulary import Vocabulary

numba = optional("numba", "learning word vectors", "words")
F = TypeVar("F", bound=Callable[..., Any])
_FLOAT = np.float32
_LANES = 16  # numbers in a register; the rows of the work space are padded with zeros to a multiple
_INPUTS, _OUTPUTS = 2, 3  # rows of inputs and outputs scored at a time
_MEASURED = 32  # one in so many windows is measured


def _compiled(function: F, cache: bool = False) -> F:
    flags = {"contract", "reassoc", "nsz", "arcp", "nnan", "ninf"}
    options: Any = {"nogil": True, "fastmath": flags, "error_model": "numpy", "forceinline": True, "cache": cache}
    # In tests the function is wrapped in a type check, which cannot be compiled.
    return numba.njit(**options)(inspect.unwrap(function))  # type: ignore[no-any-return]


def _kept(function: F) -> F:
    """The compiled function, cached on disk for the next process where the disk can be written to."""
    try:
        return _compiled(function, cache=True)
    except RuntimeError:
        return _compiled(function)


class Model(NamedTuple):
    """All that the kernel reads and writes; V words, D features.

    Args:
        inputs, outputs: the tables, updated in place.
        starts, rows: the rows of `inputs` that are averaged for each word.
        keep: (V), the probability that a word of the text is kept.
        first, second: the alias table of the random words.
        paths, nodes, turns: the Huffman tree.
        window, dynamic, bag, negative: see Word2VecConfig; `bag` = cbow.
    """

    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    keep: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.int32]
    paths: NDArray[np.int64]
    nodes: NDArray[np.int32]
    turns: NDArray[np.float32]
    window: int
    dynamic: bool
    bag: bool
    negative: int


def make_model(
    config: Word2VecConfig, vocabulary: Vocabulary, inputs: NDArray[np.float32], outputs: NDArray[np.float32]
) -> Model:
    """The tables, with everything the kernel draws from and looks up."""
    counts = vocabulary.counts
    tree = huffman([2, 1] if config.negative else counts.tolist())
    weights = counts.astype(np.float64) ** config.power if config.negative else np.ones(1)
    return Model(
        inputs,
        outputs,
        *rows_of_words(vocabulary.words, config),
        keep_probabilities(counts, config.sample),
        *alias_table(weights),
        tree.starts,
        tree.nodes,
        tree.turns,
        config.window,
        config.dynamic,
        config.method == "cbow",
        config.negative,
    )


class _Work(NamedTuple):
    random: NDArray[np.uint64]  # (1), the state of splitmix64
    x: NDArray[np.float32]  # inputs
    y: NDArray[np.float32]  # outputs
    scores: NDArray[np.float32]  # (inputs * outputs), then their errors
    around: NDArray[np.int32]  # the neighbours
    chosen: NDArray[np.int32]  # the rows of the outputs
    labels: NDArray[np.float32]
    seen: NDArray[np.int64]  # (1), windows
    sums: NDArray[np.float64]  # (2), loss and pairs of the windows measured


@_compiled
def _draw(state: Any) -> Any:
    """32 random bits (Steele et al. 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)


@_compiled
def _below(state: Any, limit: int) -> Any:
    """A random number from 0 to `limit` - 1."""
    return np.int64((_draw(state) * np.uint64(limit)) >> np.uint64(32))


@_compiled
def _chance(state: Any, probability: Any) -> Any:
    return _FLOAT(_draw(state) >> np.uint64(8)) * _FLOAT(2.0**-24) < probability


@_compiled
def _score(x: Any, n: int, y: Any, m: int, scores: Any) -> None:
    """The products of n rows of x with m rows of y, two by three at a time."""
    for i in range(0, n, _INPUTS):
        for j in range(0, m, _OUTPUTS):
            a = b = c = d = e = f = _FLOAT(0)
            for k in range(x.shape[1]):
                p, q = x[i, k], x[i + 1, k]
                r, s, t = y[j, k], y[j + 1, k], y[j + 2, k]
                a += p * r
                b += p * s
                c += p * t
                d += q * r
                e += q * s
                f += q * t
            at, below = i * m + j, (i + 1) * m + j
            scores[at], scores[at + 1], scores[at + 2] = a, b, c
            scores[below], scores[below + 1], scores[below + 2] = d, e, f


@_compiled
def _half_tanh(score: Any) -> Any:
    """tanh(score / 2) / 2 to single precision, as a quotient of polynomials; logistic(score) is 1/2 more."""
    x = max(min(score * _FLOAT(0.5), _FLOAT(7.9)), _FLOAT(-7.9))
    z = x * x
    p = _FLOAT(-2.76076847742355e-16)
    p = p * z + _FLOAT(2.00018790482477e-13)
    p = p * z + _FLOAT(-8.60467152213735e-11)
    p = p * z + _FLOAT(5.12229709037114e-08)
    p = p * z + _FLOAT(1.48572235717979e-05)
    p = p * z + _FLOAT(6.37261928875436e-04)
    p = p * z + _FLOAT(4.89352455891786e-03)
    q = _FLOAT(1.19825839466702e-06)
    q = q * z + _FLOAT(1.18534705686654e-04)
    q = q * z + _FLOAT(2.26843463243900e-03)
    q = q * z + _FLOAT(4.89352518554385e-03)
    return _FLOAT(0.5) * x * p / q


@_compiled
def _measure(n: int, m: int, work: Any) -> None:
    """Adds the loss of n inputs: -log of the probability of each real label."""
    for i in range(n):
        for j in range(m):
            z = np.float64(work.scores[i * m + j])
            loss = np.log1p(np.exp(-abs(z))) + max(z, 0.0) - z * work.labels[j]
            work.sums[0] += loss if work.chosen[j] >= 0 else 0.0
    work.sums[1] += n


@_compiled
def _choose(word: int, model: Model, work: Any) -> int:
    """Fills in the outputs for a word, and rows of zeros (chosen: -1) up to a multiple of 3; returns their number."""
    m = 0
    if model.negative:
        work.chosen[0], work.labels[0], m = word, _FLOAT(1), 1
        for _ in range(model.negative):
            drawn = _below(work.random, len(model.first))
            if not _chance(work.random, model.first[drawn]):
                drawn = model.second[drawn]
            if drawn != word:
                work.chosen[m], work.labels[m] = drawn, _FLOAT(0)
                m += 1
    else:
        for at in range(model.paths[word], model.paths[word + 1]):
            work.chosen[m], work.labels[m] = model.nodes[at], model.turns[at]
            m += 1
    for j in range(m):
        row = work.chosen[j]
        for k in range(model.outputs.shape[1]):
            work.y[j, k] = model.outputs[row, k]
    while m % _OUTPUTS:
        for k in range(work.y.shape[1]):
            work.y[m, k] = 0
        work.chosen[m], work.labels[m] = -1, _FLOAT(0)
        m += 1
    return m


@_compiled
def _gather(i: int, begin: int, end: int, model: Model, work: Any) -> None:
    """Input i: the mean of the rows of the neighbours from `begin` to before `end`; zeros if there are none."""
    D = model.inputs.shape[1]
    total = 0
    for word in range(begin, end):
        for at in range(model.starts[work.around[word]], model.starts[work.around[word] + 1]):
            row = model.rows[at]
            if total:
                for k in range(D):
                    work.x[i, k] += model.inputs[row, k]
            else:
                for k in range(D):
                    work.x[i, k] = model.inputs[row, k]
            total += 1
    if total == 0:
        for k in range(D):
            work.x[i, k] = 0
    if total > 1:
        share = _FLOAT(1) / _FLOAT(total)
        for k in range(D):
            work.x[i, k] *= share


@_compiled
def _learn_inputs(i: int, begin: int, end: int, m: int, model: Model, work: Any) -> None:
    """Adds the sum of the m outputs, times their errors, to the rows of the neighbours that input i is made of.

    The input itself is overwritten.
    """
    D = model.inputs.shape[1]
    e, f, g = work.scores[i * m], work.scores[i * m + 1], work.scores[i * m + 2]
    for k in range(D):
        work.x[i, k] = e * work.y[0, k] + f * work.y[1, k] + g * work.y[2, k]
    for j in range(_OUTPUTS, m, _OUTPUTS):
        at = i * m + j
        e, f, g = work.scores[at], work.scores[at + 1], work.scores[at + 2]
        for k in range(D):
            work.x[i, k] += e * work.y[j, k] + f * work.y[j + 1, k] + g * work.y[j + 2, k]
    for word in range(begin, end):
        for at in range(model.starts[work.around[word]], model.starts[work.around[word] + 1]):
            row = model.rows[at]
            for k in range(D):
                model.inputs[row, k] += work.x[i, k]


@_compiled
def _learn_outputs(n: int, m: int, model: Model, work: Any) -> None:
    """Adds the sum of the n inputs, times their errors, to the chosen rows."""
    D = model.outputs.shape[1]
    for j in range(m):
        row = work.chosen[j]
        if row < 0:
            break
        for i in range(0, n, _INPUTS):
            e, f = work.scores[i * m + j], work.scores[(i + 1) * m + j]
            for k in range(D):
                model.outputs[row, k] += e * work.x[i, k] + f * work.x[i + 1, k]


@_compiled
def _window(sentence: Any, size: int, center: int, lr: Any, model: Model, work: Any) -> None:
    """Learns from one word and its neighbours."""
    reach = model.window - (_below(work.random, model.window) if model.dynamic else 0)
    n = 0
    for at in range(max(0, center - reach), min(size, center + reach + 1)):
        if at != center:
            work.around[n] = sentence[at]
            n += 1
    if n == 0:
        return
    m = _choose(sentence[center], model, work)
    inputs = 1 if model.bag else n
    step = n if model.bag else 1
    rows = inputs + inputs % _INPUTS
    for i in range(rows):
        _gather(i, i * step, min((i + 1) * step, n), model, work)
    _score(work.x, rows, work.y, m, work.scores)
    if work.seen[0] % _MEASURED == 0:
        _measure(inputs, m, work)
    work.seen[0] += 1
    for at in range(inputs * m):
        work.scores[at] = -lr * (_half_tanh(work.scores[at]) + _FLOAT(0.5))
    for i in range(inputs):
        for j in range(m):
            work.scores[i * m + j] += lr * work.labels[j]
    _learn_outputs(rows, m, model, work)
    for i in range(inputs):
        _learn_inputs(i, i * step, (i + 1) * step, m, model, work)


@_compiled
def _work_space(seed: int, model: Model) -> Any:
    D = -(-model.inputs.shape[1] // _LANES) * _LANES
    longest = model.negative + 1
    if not model.negative:
        for word in range(len(model.paths) - 1):
            longest = max(longest, model.paths[word + 1] - model.paths[word])
    n, m = 2 * model.window + _INPUTS, longest + _OUTPUTS
    return _Work(
        np.full(1, seed, np.uint64),
        np.zeros((n, D), _FLOAT),
        np.zeros((m, D), _FLOAT),
        np.zeros(n * m, _FLOAT),
        np.zeros(n, np.int32),
        np.zeros(m, np.int32),
        np.zeros(m, _FLOAT),
        np.zeros(1, np.int64),
        np.zeros(2),
    )


@_kept
def train_block(ids: Any, seed: int, lr: float, model: Model) -> Any:
    """Learns from a block of text: ids, with a negative number after each line.

    Returns (2): the loss, summed over some of the inputs, and the number of these. All randomness comes from `seed`,
    line by line: first whether each word is kept, then, for each that was, its window, and two numbers for each
    random word.
    """
    work = _work_space(seed, model)
    sentence = np.empty(len(ids), np.int32)
    size = 0
    for at in range(len(ids) + 1):
        if at < len(ids) and ids[at] >= 0:
            word = ids[at]
            if model.keep[word] >= _FLOAT(1) or _chance(work.random, model.keep[word]):
                sentence[size] = word
                size += 1
        else:
            for center in range(size):
                _window(sentence, size, center, _FLOAT(lr), model, work)
            size = 0
    return work.sums
