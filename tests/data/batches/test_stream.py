from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.batches.batch import StreamBatch
from seqloom.data.batches.stream import Layout, Stream, StreamConfig
from seqloom.errors import DataError


def read(batch: StreamBatch) -> torch.Tensor:
    return batch.inputs["text"].values


def stream(size: int, lanes: int, length: int, stride: int = 0, seed: int = 1, carries: bool = True) -> Stream:
    """A text whose word at position p is p + 1."""
    config = StreamConfig(lanes, length, stride=stride)
    ids = np.arange(1, size + 1, dtype=np.int32)
    return Stream(ids, ids, Layout(config, seed, carries))


def learned(targets: torch.Tensor) -> list[int]:
    return targets[targets >= 0].tolist()


@given(size=st.integers(1, 90), lanes=st.integers(1, 7), length=st.integers(1, 11), epoch=st.integers(0, 3))
def test_an_epoch_predicts_each_token_once_from_the_one_before(size, lanes, length, epoch):
    if size < lanes:
        return
    running = stream(size, lanes, length)
    batches = [running(epoch * running.per_epoch + n) for n in range(running.per_epoch)]
    assert sorted(word for b in batches for word in learned(b.targets)) == list(range(1, size + 1))
    assert [b.reset for b in batches] == [True] + [False] * (len(batches) - 1)
    widths = {read(b).shape[1] for b in batches}
    assert max(widths) <= length
    assert max(widths) - min(widths) <= 1
    for b in batches:
        assert read(b).shape == b.targets.shape == (lanes, read(b).shape[1])
        assert b.tokens == len(learned(b.targets)) > 0
        before = (b.targets - 2) % size + 1
        assert torch.equal(read(b)[b.targets >= 0], before[b.targets >= 0])
        assert b.rows == tuple((read(b)[:, 0] % size).tolist())  # the line of the first target, from 0


@given(size=st.integers(7, 90), lanes=st.integers(1, 7), length=st.integers(1, 11))
def test_each_lane_continues_where_its_last_batch_ended(size, lanes, length):
    running = stream(size, lanes, length)
    for n in range(running.per_epoch - 1):
        assert torch.equal(read(running(n + 1))[:, 0], running(n).targets[:, -1])


def test_the_batches_are_a_pure_function_of_seed_and_number():
    first, second = stream(83, 3, 5), stream(83, 3, 5)
    later = [first(n) for n in (40, 3, 17)]
    for n, batch in zip((17, 3, 40), reversed(later), strict=True):
        assert torch.equal(read(second(n)), read(batch))
        assert torch.equal(second(n).targets, batch.targets)
    cuts = [[stream(997, 3, 5, seed=seed)(epoch * 67).rows for epoch in range(4)] for seed in range(4)]
    assert len({cut for row in cuts for cut in row}) == 16  # every seed and epoch is cut elsewhere


@given(size=st.integers(1, 90), lanes=st.integers(1, 5), length=st.integers(1, 11), stride=st.integers(0, 11))
def test_windows_predict_each_word_once_with_what_stands_before_it(size, lanes, length, stride):
    if size < lanes or stride > length:
        return
    running, step = stream(size, lanes, length, stride), stride or -(-length // 2)
    seen: dict[int, int] = {}
    for batch in running.windows():
        assert batch.reset
        for ids, targets in zip(read(batch).tolist(), batch.targets.tolist(), strict=True):
            for context, (word, target) in enumerate(zip(ids, targets, strict=True), start=1):
                if target >= 0:
                    assert word == (target - 2) % size + 1
                    assert target not in seen
                    seen[target] = context
    assert sorted(seen) == list(range(1, size + 1))
    # Beyond the first window no word is predicted from less than what two windows have in common.
    assert all(context > length - step for target, context in seen.items() if target > length)


def test_once_begins_at_the_beginning():
    batches = list(stream(11, 2, 3).once())
    assert [learned(b.targets) for b in batches] == [[1, 2, 3, 6, 7, 8], [4, 5, 9, 10, 11]]
    assert read(batches[0])[0, 0] == 11


def test_a_text_too_short_for_its_lanes_and_impossible_configs():
    with pytest.raises(DataError, match=r"3 tokens, fewer than batches\.lanes = 4"):
        stream(3, 4, 2)
    for wrong in ({"lanes": 0}, {"length": 0}, {"accumulate": 0}, {"stride": 9, "length": 8}, {"stride": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            StreamConfig(**wrong)


@given(size=st.integers(1, 90), lanes=st.integers(1, 7), length=st.integers(1, 11), epoch=st.integers(0, 3))
def test_blocks_in_a_new_order_predict_each_word_once_from_the_one_before(size, lanes, length, epoch):
    if size < lanes:
        return
    running = stream(size, lanes, length, carries=False)
    batches = [running(epoch * running.per_epoch + n) for n in range(running.per_epoch)]
    assert sorted(word for b in batches for word in learned(b.targets)) == list(range(1, size + 1))
    for b in batches:
        ids = read(b)
        assert b.reset
        assert ids.shape[1] <= length
        assert b.tokens == len(learned(b.targets)) > 0
        before = (b.targets - 2) % size + 1
        assert torch.equal(read(b)[b.targets >= 0], before[b.targets >= 0])
        assert torch.equal(read(b)[:, 1:][b.targets[:, 1:] >= 0], b.targets[:, :-1][b.targets[:, 1:] >= 0])
    running(99 * running.per_epoch)  # another epoch in between changes nothing
    assert all(torch.equal(read(running(epoch * running.per_epoch + n)), read(b)) for n, b in enumerate(batches))


def test_every_epoch_and_seed_has_another_order():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        running = stream(997, 3, 5, seed=seed, carries=False)
        return tuple(row for n in range(running.per_epoch) for row in running(epoch * running.per_epoch + n).rows)

    orders = {order(seed, epoch) for seed in range(2) for epoch in range(3)}
    assert len(orders) == 6
    assert all(sum(abs(a - b) == 5 for a, b in pairwise(rows)) < 20 for rows in orders)  # neighbours are parted


@given(
    begins=st.lists(st.booleans(), min_size=7, max_size=60),
    lanes=st.integers(1, 5),
    length=st.integers(1, 11),
    carries=st.booleans(),
)
def test_documents_are_numbered_within_each_row_from_the_word_that_begins_them(begins, lanes, length, carries):
    """Where a state is carried, document 0 is the one that it comes from."""
    ids = np.where(begins, 7, 5).astype(np.int32)
    config = StreamConfig(lanes, length)
    batches = Stream(ids, ids, Layout(config, 1, carries), document_start=7)
    for batch in (*(batches(n) for n in range(batches.per_epoch)), *batches.windows()):
        rows = []
        for row in read(batch).tolist():
            number = [sum(word == 7 for word in row[not carries : at + 1]) for at in range(len(row))]
            rows.append(number)
        if batch.inputs["text"].segments is None:
            assert not any(map(any, rows))
        else:
            assert batch.inputs["text"].segments.tolist() == rows
    assert Stream(ids, ids, Layout(config, 1))(0).inputs["text"].segments is None
