from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.nn.masks import additive, causal_mask, padding_mask


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(1, 7))
def test_padding_is_false_behind_the_length(lengths: list[int], size: int) -> None:
    expected = [[s < length for s in range(size)] for length in lengths]
    assert padding_mask(torch.tensor(lengths), size).tolist() == expected


@given(st.integers(1, 7), st.integers(0, 5))
def test_a_query_sees_itself_and_what_is_before(queries: int, before: int) -> None:
    expected = [[s <= before + t for s in range(before + queries)] for t in range(queries)]
    assert causal_mask(queries, before + queries).tolist() == expected


@given(st.integers(1, 7), st.integers(0, 5), st.integers(1, 9))
def test_a_window_has_as_many_positions_as_it_says(queries: int, before: int, window: int) -> None:
    expected = [[t + before - window < s <= t + before for s in range(before + queries)] for t in range(queries)]
    assert causal_mask(queries, before + queries, window=window).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_what_is_masked_weighs_exactly_nothing(dtype: torch.dtype) -> None:
    mask = torch.tensor([[True, False, True], [False, False, False]])
    scores = torch.tensor([[-50.0, 50.0, -50.0], [-50.0, -50.0, -50.0]]).to(dtype)
    weights = (scores + additive(mask, dtype)).softmax(-1)
    assert weights.dtype == dtype
    assert weights[0].tolist() == [0.5, 0.0, 0.5]
    torch.testing.assert_close(weights[1].float(), torch.full((3,), 1 / 3), rtol=0, atol=2e-3)
