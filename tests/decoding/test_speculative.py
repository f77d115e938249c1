from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.decoding.config import BeamSearch, Greedy, Sampling
from seqloom.decoding.job import Task
from seqloom.decoding.search import decode, decoding, last_of
from seqloom.decoding.speculative import Side, speculating

V, END, START = 5, 3, 4


@dataclass(frozen=True)
class Seen:
    """A state that is the words themselves."""

    words: tuple[int, ...] = ()

    def back(self, count: int) -> Seen:
        return Seen(self.words[: len(self.words) - count])


class Markov:
    """The next word depends on the last two, by a table of scores; it counts how often it is asked."""

    def __init__(self, seed: int, sharpness: float = 1.0) -> None:
        self.table = sharpness * torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed))
        self.calls = 0

    def read(self, ids: Tensor, state: Seen) -> tuple[Tensor, Seen]:
        self.calls += 1
        words, rows = state.words, []
        for word in ids[0].tolist():
            rows.append(self.table[words[-1] if words else START, word])
            words = (*words, word)
        return torch.stack(rows), Seen(words)

    def side(self) -> Side:
        return Side(self.read, Seen())

    def chances(self, text: tuple[int, ...], config: Sampling) -> float:
        """The probability of a whole text, its end included."""
        p, before, last = 1.0, START, START
        for word in (*text, END):
            scores = self.table[before, last] / config.temperature
            if config.top_k:
                scores = scores.masked_fill(scores < scores.topk(config.top_k).values[-1], -torch.inf)
            if len((*text, END)) - 1 < LIMIT or word != END:
                p *= float(scores.softmax(-1)[word])
            before, last = last, word
        return p


LIMIT = 3


def task(limit: int = LIMIT, **more: Any) -> Task:
    return Task(START, END, torch.tensor([limit]), **more)


@pytest.mark.parametrize(
    ("ahead", "config"),
    [(1, Sampling(temperature=0.6, top_k=3)), (2, Sampling()), (4, Sampling(temperature=0.6, top_k=3))],
)
def test_texts_have_the_distribution_of_the_large_model(ahead: int, config: Sampling) -> None:
    # Drawing from p where p - q is due gives a statistic of over twice the bound below; a wrong ratio, of five times.
    large, small, count = Markov(1), Markov(2), 800
    found: dict[tuple[int, ...], int] = {}
    for seed in range(count):
        seeded = replace(config, seed=seed + 1)
        hypothesis, share = last_of(speculating(large.side(), small.side(), task(), seeded, ahead))
        assert 0 <= share <= 1
        found[hypothesis.ids] = found.get(hypothesis.ids, 0) + 1
    words = [w for w in range(V) if w != END]
    texts = [t for n in range(LIMIT + 1) for t in product(words, repeat=n)]
    expected = {t: large.chances(t, config) for t in texts}
    assert sum(expected.values()) == pytest.approx(1, abs=1e-5)
    # Pearson's statistic over the texts that are expected often enough; 4.5 deviations are beyond its 99.99 % point.
    usual = [t for t in texts if count * expected[t] >= 5]
    rest = 1 - sum(expected[t] for t in usual)
    cells = [(found.get(t, 0), expected[t]) for t in usual]
    if count * rest >= 5:
        cells.append((count - sum(n for n, _ in cells), rest))
    statistic = sum((n - count * p) ** 2 / (count * p) for n, p in cells)
    freedom = len(cells) - 1
    assert statistic < freedom + 4.5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("ahead", [1, 3, 7])
def test_greedy_words_are_those_of_the_large_model_alone(ahead: int) -> None:
    config, large = Greedy(), Markov(5)

    class Alone(Seen):
        def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Any:
            return self

    def step(last: Tensor, state: Any) -> tuple[Tensor, Any]:
        scores, after = large.read(last, state)
        return scores[-1:], Alone(after.words)

    for small in (Markov(5), Markov(6)):
        ((expected,),) = decode(step, Alone(), task(20), config)
        found, share = last_of(speculating(large.side(), small.side(), task(20), config, ahead))
        assert found.ids == expected.ids
        assert found.log_p == pytest.approx(expected.log_p, rel=1e-5)
        assert found.score == pytest.approx(expected.score, rel=1e-5)
        if small.table.equal(large.table):
            assert share == 1


def test_the_large_model_is_asked_less_often() -> None:
    large, small = Markov(5, 9.0), Markov(5, 9.0)
    large.table[:, :, END] = small.table[:, :, END] = -1e9
    last_of(speculating(large.side(), small.side(), task(20), Sampling(), 4))
    assert large.calls == 5  # 20 words and the end, five at a time


def test_words_come_as_they_are_settled_and_a_stop_ends_them() -> None:
    large = Markov(5)
    large.table[:, :, END] = -1e9
    steps = speculating(large.side(), Markov(6).side(), task(12), Greedy(), 3)
    words = [word for some in steps for word in some]
    whole, _ = last_of(speculating(large.side(), Markov(6).side(), task(12), Greedy(), 3))
    assert list(whole.ids) == words
    assert len(words) == 12
    short = task(12, stopped=lambda ids: len(ids) == 5)
    found, _ = last_of(speculating(large.side(), Markov(6).side(), short, Greedy(), 3))
    assert list(found.ids) == words[:5]


def test_decoding_gives_the_newest_words_and_stops() -> None:
    scores = torch.tensor([[1.0, 0.0, 2.0, -9.0, 0.0]])

    class Nothing:
        def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Nothing:
            return self

    def step(last: Tensor, state: Any) -> tuple[Tensor, Any]:
        return scores.expand(len(last), 1 * V), state

    stopped = task(9, stopped=lambda ids: list(ids[-2:]) == [2, 2] and len(ids) >= 4)
    seen = list(decoding(step, Nothing(), stopped, Greedy()))
    assert seen == [[2], [2], [2]]
    ((found,),) = decode(step, Nothing(), stopped, Greedy())
    assert found.ids == (2, 2, 2, 2)
    assert found.log_p == pytest.approx(4 * float(scores[0].log_softmax(-1)[2]))
    both = decode(step, Nothing(), task(9, stopped=lambda ids: len(ids) == 3), BeamSearch(beam=2, n_best=2))
    assert [sorted(h.ids) for h in both[0]] == [[2, 2, 2], [0, 2, 2]]
