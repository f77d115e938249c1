from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.batches.packs import Packs, pack
from seqloom.data.batches.stream import Layout, StreamConfig
from seqloom.errors import DataError


@given(st.lists(st.integers(1, 11), min_size=1, max_size=40))
def test_groups_have_room_and_hold_each_once_and_waste_little(sizes):
    groups = pack(sizes, 11)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in group) for group in groups]
    assert max(totals) <= 11
    assert all(a + b > 11 for n, a in enumerate(totals) for b in totals[:n])  # no two groups would fit into one


def chats(sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Conversations of so many words: 100 i, 100 i + 1, ... of which the second half is learned."""
    return [(100 * (i + 1) + np.arange(size), np.arange(size) >= (size + 1) // 2) for i, size in enumerate(sizes)]


@given(sizes=st.lists(st.integers(2, 20), min_size=1, max_size=15), lanes=st.integers(1, 4), epoch=st.integers(0, 2))
def test_an_epoch_learns_each_answer_once_from_its_own_conversation(sizes, lanes, epoch):
    conversations, length = chats(sizes), 13
    answers = sorted(int(i) for ids, learned in conversations for i in ids[: length + 1][learned[: length + 1]])
    for carries in (False, True):
        packs = Packs(conversations, list(range(1, len(sizes) + 1)), Layout(StreamConfig(lanes, length), 3, carries))
        batches = [packs(epoch * packs.per_epoch + n) for n in range(packs.per_epoch)]
        learned_ids = [b.targets[b.targets >= 0] for b in batches]
        assert sorted(torch.cat(learned_ids).tolist()) == answers
        assert [b.tokens for b in batches] == [len(ids) for ids in learned_ids]
        assert packs.tokens == len(answers)
        assert packs.cut == sum(size > length + 1 for size in sizes)
        for b in batches:
            real, text = b.targets >= 0, b.inputs["text"]
            assert b.reset
            assert text.values.shape[1] <= length
            assert torch.equal(text.values[real] + 1, b.targets[real])
            alone = all(len({i // 100 for i in row if i}) == 1 for row in text.values.tolist())
            assert (text.segments is None) == (carries or alone)
            if text.segments is not None:
                for row, number in zip(text.values.tolist(), text.segments.tolist(), strict=True):
                    assert len({n for i, n in zip(row, number, strict=True) if i}) == len({i // 100 for i in row if i})
                    assert number == sorted(number)
        whole = torch.cat([b.targets[b.targets >= 0] for b in packs.windows()])
        assert sorted(whole.tolist()) == answers
        again = Packs(conversations, list(range(1, len(sizes) + 1)), Layout(StreamConfig(lanes, length), 3, carries))
        assert all(
            torch.equal(again(epoch * packs.per_epoch + n).inputs["text"].values, b.inputs["text"].values)
            for n, b in enumerate(batches)
        )


def test_epochs_come_in_another_order_and_crossing_is_left():
    packs = Packs(chats([9] * 30), list(range(1, 31)), Layout(StreamConfig(2, 16)))
    orders = {tuple(packs(epoch * packs.per_epoch + n).rows for n in range(packs.per_epoch)) for epoch in range(4)}
    assert len(orders) == 4
    assert packs(0).inputs["text"].segments is not None
    assert (
        Packs(chats([9] * 30), [1] * 30, Layout(StreamConfig(2, 16, crossing=True)))(0).inputs["text"].segments is None
    )


def test_what_is_too_long_is_cut_and_what_has_no_answer_left_is_dropped():
    packs = Packs(chats([30, 8, 12]), [1, 2, 3], Layout(StreamConfig(2, 10)))
    assert (packs.cut, packs.dropped, len(packs.chats)) == (2, 1, 2)
    with pytest.raises(DataError, match="so short"):
        Packs(chats([30]), [1], Layout(StreamConfig(2, 10)))
