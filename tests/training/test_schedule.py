from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.training.schedule import Cosine, Linear, Noam, Plateau

counts = st.integers(1, 10_000)


@given(counts, counts)
def test_noam_is_the_paper_s_formula_with_its_peak_at_1(warmup, step):
    d = 512
    rate = d**-0.5 * min(step**-0.5, step * warmup**-1.5)
    peak = d**-0.5 * warmup**-0.5
    assert Noam(warmup).factor(step, 1) == pytest.approx(rate / peak)


@given(counts, counts, counts, st.floats(0, 1))
def test_cosine_and_linear_are_their_formulas(warmup, more, step, floor):
    steps = warmup + more
    done = min(1.0, max(0.0, (step - warmup) / more))
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
    linear = 1 - (1 - floor) * done
    for schedule, after in ((Cosine(warmup, floor), cosine), (Linear(warmup, floor), linear)):
        expected = step / warmup if step <= warmup else after
        assert schedule.factor(step, steps) == pytest.approx(expected, abs=1e-9)
        assert schedule.factor(warmup, steps) == 1
        assert schedule.factor(steps, steps) == pytest.approx(floor)
        assert schedule.factor(steps + step, steps) == pytest.approx(floor)  # a run made longer stays at the floor


@pytest.mark.parametrize("schedule", [Noam(0), Cosine(0), Linear(0), Plateau(0)])
def test_no_warmup_begins_at_the_top(schedule):
    assert schedule.factor(1, 1000) == pytest.approx(1, abs=2e-3)


@given(counts, counts, st.floats(0.1, 1), st.integers(1, 5), st.integers(0, 20))
def test_plateau_drops_after_every_patience(warmup, step, drop, patience, stale):
    expected = min(1, step / warmup)
    for _ in range(stale // patience):
        expected *= drop
    assert Plateau(warmup, drop, patience).factor(step, 1, stale) == pytest.approx(expected)


@pytest.mark.parametrize(
    "make",
    [lambda: Noam(-1), lambda: Cosine(floor=1.5), lambda: Linear(floor=-0.1), lambda: Plateau(drop=2.0),
     lambda: Plateau(patience=0)],
)  # fmt: skip
def test_impossible_values(make):
    with pytest.raises(ValueError, match="must"):
        make()
