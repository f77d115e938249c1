from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.stream import Stream, StreamConfig, Text, encode_text, read_text
from seqloom.errors import DataError, UsageError
from seqloom.text.tokenizer import Words, train_tokenizer


def stream(size: int, lanes: int, length: int, stride: int = 0, seed: int = 1) -> Stream:
    """A text whose word at position p is p + 1."""
    config = StreamConfig(lanes, length, stride=stride)
    return Stream(np.arange(1, size + 1, dtype=np.int32), np.arange(1, size + 1, dtype=np.int32), config, seed)


def learned(targets: torch.Tensor) -> list[int]:
    return targets[targets >= 0].tolist()


@given(size=st.integers(1, 90), lanes=st.integers(1, 7), length=st.integers(1, 11), epoch=st.integers(0, 3))
def test_an_epoch_predicts_each_word_once_from_the_one_before(size, lanes, length, epoch):
    if size < lanes:
        return
    found = stream(size, lanes, length)
    batches = [found(epoch * found.per_epoch + n) for n in range(found.per_epoch)]
    assert sorted(word for b in batches for word in learned(b.targets)) == list(range(1, size + 1))
    assert [b.anew for b in batches] == [True] + [False] * (len(batches) - 1)
    widths = {b.ids.shape[1] for b in batches}
    assert max(widths) <= length
    assert max(widths) - min(widths) <= 1
    for b in batches:
        assert b.ids.shape == b.targets.shape == (lanes, b.ids.shape[1])
        assert b.words == len(learned(b.targets)) > 0
        before = (b.targets - 2) % size + 1
        assert torch.equal(b.ids[b.targets >= 0], before[b.targets >= 0])
        assert b.rows == tuple((b.ids[:, 0] % size).tolist())  # the line of the first target, from 0


@given(size=st.integers(7, 90), lanes=st.integers(1, 7), length=st.integers(1, 11))
def test_each_lane_goes_on_where_its_last_batch_ended(size, lanes, length):
    found = stream(size, lanes, length)
    for n in range(found.per_epoch - 1):
        assert torch.equal(found(n + 1).ids[:, 0], found(n).targets[:, -1])


def test_the_batches_are_a_pure_function_of_seed_and_number():
    first, second = stream(83, 3, 5), stream(83, 3, 5)
    later = [first(n) for n in (40, 3, 17)]
    for n, batch in zip((17, 3, 40), reversed(later), strict=True):
        assert torch.equal(second(n).ids, batch.ids)
        assert torch.equal(second(n).targets, batch.targets)
    cuts = [[stream(997, 3, 5, seed=seed)(epoch * 67).rows for epoch in range(4)] for seed in range(4)]
    assert len({cut for row in cuts for cut in row}) == 16  # every seed and epoch is cut elsewhere


@given(size=st.integers(1, 90), lanes=st.integers(1, 5), length=st.integers(1, 11), stride=st.integers(0, 11))
def test_windows_predict_each_word_once_with_what_stands_before_it(size, lanes, length, stride):
    if size < lanes or stride > length:
        return
    found, step = stream(size, lanes, length, stride), stride or -(-length // 2)
    seen: dict[int, int] = {}
    for batch in found.windows():
        assert batch.anew
        for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
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
    assert batches[0].ids[0, 0] == 11


def test_a_text_too_short_for_its_lanes_and_impossible_configs():
    with pytest.raises(DataError, match=r"3 words of the tokenizer, fewer than batches\.lanes = 4"):
        stream(3, 4, 2)
    for wrong in ({"lanes": 0}, {"length": 0}, {"accumulate": 0}, {"stride": 9, "length": 8}, {"stride": -1}):
        with pytest.raises(ValueError, match="batches"):
            StreamConfig(**wrong)


# The text


def test_blank_lines_and_ends_of_files_part_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("\n \nOne two.\r\nThree.\n\n\n\nFour\u2028five.\n".encode("utf-8-sig"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"Six.\n\n"))
    text = read_text([str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")])
    assert text.lines == ["One two.", "Three.", "", "Four\u2028five.", "", "Six.", ""]
    assert text.numbers == [3, 4, 5, 8, 9, 1, 2]
    assert text.sizes() == {"words": 3 + 2 + 1 + 3 + 1 + 2 + 1, "characters": 9 + 7 + 1 + 11 + 1 + 5 + 1, "bytes": 37}
    assert text.digest() == replace(text, numbers=[1] * 7).digest() != replace(text, lines=text.lines[2:]).digest()


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "empty"), (b"\n \n", "all its lines are blank"), (b"a\n\xff\n", r":2: not UTF-8")]
)
def test_text_that_is_none(tmp_path: Path, content: bytes, told: str):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_text([str(tmp_path / "a.txt")])
    with pytest.raises(UsageError, match="no such file"):
        read_text([str(tmp_path / "b.txt")])


def test_lines_end_with_one_word_and_documents_with_another():
    text = Text(["a b", "c", "", "b", ""], [1, 2, 3, 4, 5])
    tokenizer = train_tokenizer(Words(), text.lines)
    ids, lines = encode_text(text, tokenizer)
    a, b, c = (tokenizer.inner.token_to_id(word) for word in "abc")
    end, start = tokenizer.end, tokenizer.start
    assert ids.tolist() == [a, b, end, c, end, start, b, end, start]
    assert lines.tolist() == [1, 1, 1, 2, 2, 3, 4, 4, 5]
    assert len(ids) == text.sizes()["words"]  # so that with this tokenizer both perplexities are one
