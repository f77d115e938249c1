from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.batches.windows import Item, ItemBatches, TextBatchConfig, Window, by_length, collate, frame
from seqloom.text.tokenizer import Template

START, END = 2, 3


def text(size: int, first: int = 10) -> np.ndarray:
    return np.arange(first, first + size, dtype=np.int32)


def framed(a: int, b: int | None, windows: bool, **sizes: int) -> tuple[Window, ...]:
    second = None if b is None else text(b, 1000)
    return frame(text(a), second, Template((START,), (END,), (END,)), TextBatchConfig(**sizes), windows=windows)  # type: ignore[arg-type]


@given(st.integers(0, 60), st.none() | st.integers(1, 60), st.booleans(), st.integers(0, 4))
def test_windows_cover_the_text_and_keep_to_the_length(a, b, windows, stride):
    parts = framed(a, b, windows, length=12, stride=stride)
    assert all(len(w.values) <= 12 and w.values[0] == START and w.values[-1] == END for w in parts)
    if windows:
        tokens, whole = (text(a), 1) if b is None else (text(b, 1000), None)
        seen = set()
        for w in parts:
            part = w.values[whole or w.second : -1]
            assert (part == tokens[w.first_token : w.first_token + len(part)]).all()
            seen |= set(part.tolist())
        assert seen == set(tokens.tolist())
        assert len({w.first_token for w in parts}) == len(parts)
    else:
        assert len(parts) == 1
        if a + (b or 0) + 2 + (b is not None) <= 12:
            assert len(parts[0].values) == a + (b or 0) + 2 + (b is not None)


def test_the_longer_one_of_a_pair_is_cut():
    (window,) = framed(20, 3, False, length=12)
    assert window.values.tolist() == [START, *range(10, 16), END, 1000, 1001, 1002, END]
    assert window.second == 8
    (window,) = framed(2, 20, False, length=12)
    assert window.values.tolist() == [START, 10, 11, END, *range(1000, 1007), END]


def test_a_batch_of_windows():
    long, short = Item(framed(9, None, True, length=8), np.array(1)), Item(framed(2, None, True, length=8), np.array(0))
    batch = collate([long, short])
    assert batch.owner is not None
    assert batch.owner.tolist() == [0] * len(long.windows) + [1]
    assert batch.targets is not None
    assert (batch.targets.tolist(), batch.tokens, batch.inputs["text"].segments) == ([1, 0], 2, None)
    pair = collate([Item(framed(1, 2, False), np.array([[4, 5]])), Item(framed(1, 1, False), np.array([[0, 0]]))])
    assert pair.inputs["text"].segments is not None
    assert pair.inputs["text"].segments.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert pair.inputs["text"].mask is not None
    assert pair.inputs["text"].mask[1].tolist() == [True] * 5 + [False]
    tags = collate(
        [Item(framed(2, None, False), np.array([-1, 4, -1, -1])), Item(framed(0, None, False), np.array([-1, -1]))]
    )
    assert tags.targets is not None
    assert (tags.targets.tolist(), tags.tokens) == ([[-1, 4, -1, -1], [-1, -1, -1, -1]], 1)  # fmt: skip


def test_every_text_is_in_an_epoch_once_and_batches_are_a_function_of_their_number():
    items = [Item(framed(n % 13, None, False), np.array(n)) for n in range(50)]
    batches = ItemBatches(items, TextBatchConfig(tokens=60), seed=3)
    epoch = [batches(n) for n in range(batches.per_epoch)]
    assert sorted(row for batch in epoch for row in batch.rows) == list(range(50))
    again = ItemBatches(items, TextBatchConfig(tokens=60), seed=3)(2)
    assert torch.equal(again.inputs["text"].values, epoch[2].inputs["text"].values)
    assert again.number == 2
    parts = list(by_length(items, 40))
    assert sorted(i for part in parts for i in part) == list(range(50))
    assert all(len(part) * max(len(items[i].windows[0].values) for i in part) <= 40 for part in parts)
