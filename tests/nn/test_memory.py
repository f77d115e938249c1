from __future__ import annotations

import pytest
import torch

from seqloom.nn.masks import padding_mask
from seqloom.nn.memory import Memory, mean_summary

B, S, D = 3, 5, 7


def memory(S: int = S, lengths: list[int] | None = None) -> Memory:
    mask = None if lengths is None else padding_mask(torch.tensor(lengths), S)
    states = torch.randn(B, S, D)
    return Memory(states, mask, mean_summary(states, mask))


@pytest.mark.parametrize("lengths", [None, [5, 2, 1]])
def test_select_takes_rows_in_order(lengths: list[int] | None) -> None:
    whole = memory(lengths=lengths)
    chosen = whole.select(torch.tensor([2, 0, 0, 1]))
    for i, row in enumerate((2, 0, 0, 1)):
        assert torch.equal(chosen.states[i], whole.states[row])
        assert torch.equal(chosen.summary[i], whole.summary[row])
        if lengths is not None:
            assert chosen.mask is not None
            assert chosen.mask[i].sum() == lengths[row]
    assert (chosen.mask is None) == (lengths is None)


def test_concat_lays_memories_behind_each_other() -> None:
    first, second, third = memory(5, [5, 2, 1]), memory(2), memory(3, [1, 2, 3])
    joined = first.concat(second, third)
    assert torch.equal(joined.states, torch.cat([first.states, second.states, third.states], 1))
    assert joined.mask is not None
    assert joined.mask.tolist() == [
        [*[True] * 5, True, True, True, False, False],
        [True, True, False, False, False, True, True, True, True, False],
        [True, *[False] * 4, True, True, True, True, True],
    ]
    torch.testing.assert_close(joined.summary, (first.summary + second.summary + third.summary) / 3)


def test_the_summary_is_the_mean_of_the_real_positions() -> None:
    states = torch.randn(B, S, D)
    summary = mean_summary(states, padding_mask(torch.tensor([5, 2, 0]), S))
    expected = torch.stack([sum(states[0].unbind()) / 5, (states[1, 0] + states[1, 1]) / 2, torch.zeros(D)])
    torch.testing.assert_close(summary, expected)
    torch.testing.assert_close(mean_summary(states, None)[1], sum(states[1].unbind()) / S)
