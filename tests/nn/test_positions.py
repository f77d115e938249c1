from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqloom.nn.positions import (
    Alibi,
    Learned,
    PositionConfig,
    Positions,
    Relative,
    Rotary,
    Sinusoidal,
    alibi_slopes,
    relative_bucket,
    rotate,
    sinusoids,
)

H, C, START, T = 3, 10, 4, 7
WIDTH = H * C


def place(
    config: PositionConfig, *, start: int = START, causal: bool = True
) -> tuple[Positions, Tensor | None, Tensor | None]:
    positions = Positions(config, WIDTH, H, WIDTH // H, causal=causal)
    found = positions(start, torch.randn(2, T, WIDTH))
    return positions, found.added, found.bias


@pytest.mark.parametrize("width", [2, 7, 30])
def test_sinusoids_are_the_formula(width: int) -> None:
    def value(position: int, i: int) -> float:
        angle = position / 10_000 ** (2 * (i // 2) / width)
        return math.cos(angle) if i % 2 else math.sin(angle)

    positions = [0, 1, 2, 17, 499]
    expected = torch.tensor([[value(p, i) for i in range(width)] for p in positions])
    halves = torch.cat((expected[:, 0::2], expected[:, 1::2]), 1)  # all sines, then all cosines
    for interleaved, table in ((True, expected), (False, halves)):
        found = sinusoids(torch.tensor(positions), width, interleaved)
        torch.testing.assert_close(found, table, rtol=0, atol=1e-4)


def test_sinusoids_and_learned_vectors_are_those_of_the_positions_from_the_start_on() -> None:
    for interleaved in (True, False):
        added, bias = place(Sinusoidal(interleaved))[1:]
        assert bias is None
        assert added is not None
        assert torch.equal(added, sinusoids(torch.arange(START, START + T), WIDTH, interleaved))
    positions, added, bias = place(Learned(length=START + T))
    assert bias is None
    assert added is not None
    assert torch.equal(added, positions.table.weight[START:])


@pytest.mark.parametrize("config", [Sinusoidal(), Sinusoidal(interleaved=True), Rotary()], ids=str)
@pytest.mark.parametrize("start", [0, 60, 4092])
@pytest.mark.parametrize("apart", [False, True])
def test_what_a_step_of_decoding_looks_up_is_what_is_computed(config: PositionConfig, start: int, apart: bool) -> None:
    positions, x = Positions(config, WIDTH, H, C, causal=True), torch.randn(2, T, WIDTH)
    places = torch.randint(0, start + T, (2, T)) if apart else None
    computed = positions(start, x, places)
    with torch.inference_mode():
        found = positions(start, x, places)
    assert (found.added is None, found.rotation is None) == (computed.added is None, computed.rotation is None)
    waves = [(place.added,) if place.rotation is None else place.rotation for place in (found, computed)]
    for one, other in zip(*waves, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def turned(x: Tensor, position: int, base: float) -> Tensor:
    """`x` (C) with feature pair (i, i + C/2) turned by position * base^(-2i/C)."""
    out, half = x.clone(), C // 2
    for i in range(half):
        angle = position * base ** (-2 * i / C)
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


def rotation(start: int, base: float, T: int = T) -> tuple[Tensor, Tensor]:
    found = Positions(Rotary(base), WIDTH, H, WIDTH // H, causal=True)(
        start, torch.randn(1, T, WIDTH, dtype=torch.float64)
    )
    assert found.added is None
    assert found.bias is None
    assert found.rotation is not None
    return found.rotation


@pytest.mark.parametrize("base", [10_000.0, 100.0])
def test_rotary_turns_pairs_by_the_formula(base: float) -> None:
    x = torch.randn(2, H, T, C, dtype=torch.float64)
    expected = torch.stack([turned(row, START + i, base) for s in x for h in s for i, row in enumerate(h)])
    torch.testing.assert_close(rotate(x, rotation(START, base)), expected.view(x.shape), rtol=0, atol=1e-5)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_rotary_scores_depend_on_the_distance_only(query: int, key: int, shift: int) -> None:
    q, k = torch.randn(2, 1, C, dtype=torch.float64)

    def score(shift: int) -> float:
        return float((rotate(q, rotation(query + shift, 1e4, 1)) * rotate(k, rotation(key + shift, 1e4, 1))).sum())

    assert score(shift) == pytest.approx(score(0), abs=1e-3)
    assert float(rotate(q, rotation(query, 1e4, 1)).norm()) == pytest.approx(float(q.norm()), rel=1e-5)


def test_alibi_slopes_are_the_papers() -> None:
    assert alibi_slopes(8).tolist() == [2**-i for i in range(1, 9)]
    torch.testing.assert_close(alibi_slopes(16), torch.tensor([2 ** (-i / 2) for i in range(1, 17)]))
    # For 12 heads: those of 8, then every other one of 16, as in the authors' code.
    expected = [2**-i for i in range(1, 9)] + [2 ** (-i / 2) for i in (1, 3, 5, 7)]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(expected))


@pytest.mark.parametrize("start", [0, START])
def test_alibi_is_a_penalty_in_proportion_to_the_distance(start: int) -> None:
    _, added, bias = place(Alibi(), start=start)
    slopes = alibi_slopes(H).tolist()
    expected = [[[-slope * abs(s - t) for s in range(start + T)] for t in range(start, start + T)] for slope in slopes]
    assert added is None
    assert bias is not None
    torch.testing.assert_close(bias, torch.tensor(expected))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (32, 50), (8, 20), (4, 7)])
def test_relative_buckets_are_those_of_t5(buckets: int, furthest: int, causal: bool) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="transformers is not installed")
    distance = torch.arange(-300, 301)
    expected = t5.T5Attention._relative_position_bucket(distance, not causal, buckets, furthest)
    assert torch.equal(relative_bucket(distance, buckets, furthest, causal=causal), expected)


def test_relative_buckets_by_hand() -> None:
    # 8 buckets, both ways: 4 a side, of which 0 and 1 hold one distance each and 2 and 3 share what lies behind.
    distance = torch.tensor([-100, -7, -6, -5, -3, -2, -1, 0, 1, 2, 7, 100])
    assert relative_bucket(distance, 8, 16, causal=False).tolist() == [3, 3, 3, 2, 2, 2, 1, 0, 5, 6, 7, 7]
    # Causal: the future shares bucket 0; 0 to 3 are exact, then 4-5, 6-8(sqrt 4*16), ... up to 16.
    distance = torch.tensor([5, 0, -1, -3, -4, -5, -6, -8, -12, -16, -99])
    assert relative_bucket(distance, 8, 16, causal=True).tolist() == [0, 0, 1, 3, 4, 4, 5, 6, 7, 7, 7]


@given(st.integers(4, 64), st.integers(0, 100), st.booleans())
def test_relative_buckets_grow_with_the_distance_and_use_no_other(buckets: int, more: int, causal: bool) -> None:
    furthest = buckets // 2 + 1 + more
    away = torch.arange(0, 2 * furthest)
    past = relative_bucket(-away, buckets, furthest, causal=causal)
    assert past[0] == 0
    assert (past.diff() >= 0).all()
    assert past[-1] == (buckets if causal else buckets // 2) - 1
    future = relative_bucket(away, buckets, furthest, causal=causal)
    assert torch.equal(future[1:], torch.zeros_like(past[1:]) if causal else past[1:] + buckets // 2)


@pytest.mark.parametrize("causal", [True, False])
def test_a_relative_bias_is_the_bucket_of_key_minus_query(causal: bool) -> None:
    config = Relative(buckets=8, distance=9)
    positions, added, bias = place(config, causal=causal)
    assert added is None
    assert bias is not None
    for t in range(T):
        for s in range(START + T):
            bucket = relative_bucket(torch.tensor(s - START - t), 8, 9, causal=causal)
            assert torch.equal(bias[:, t, s], positions.table.weight[bucket])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Learned, {"length": 0}),
        (Rotary, {"base": 0.0}),
        (Relative, {"buckets": 3}),
        (Relative, {"buckets": 32, "distance": 16}),
    ],
)
def test_impossible_sizes_are_refused(kind: type, values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|need"):
        kind(**values)
