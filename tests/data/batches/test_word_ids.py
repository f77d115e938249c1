from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.batches import word_ids
from seqloom.data.batches.word_ids import END, WordIds
from seqloom.errors import UsageError

NUMBERS = st.lists(st.just(END) | st.integers(0, 5), max_size=67)


def stored(numbers: list[int], folder: Path, part: int = 1000) -> WordIds:
    ids = WordIds(folder)
    for at in range(0, len(numbers), part):
        ids.append(np.array(numbers[at : at + part], dtype=np.int32))
    return ids


@given(numbers=NUMBERS, part=st.integers(1, 13), size=st.integers(1, 19))
def test_ids_are_read_back(tmp_path_factory, numbers, part, size):
    ids = stored(numbers, tmp_path_factory.getbasetemp(), part)
    assert ids.size == len(numbers)
    for start in range(0, len(numbers) + 1, 5):
        assert ids.read(start, len(numbers)).tolist() == numbers[start:]
        assert ids.read(start, start).tolist() == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_ids, "_PART", size)
        parts = [block.tolist() for block in ids.parts()]
    assert [number for block in parts for number in block] == numbers
    assert all(0 < len(block) <= size for block in parts)


@given(numbers=NUMBERS, most=st.integers(1, 19))
def test_blocks_end_with_lines_where_they_can(tmp_path_factory, numbers, most):
    ids = stored(numbers, tmp_path_factory.getbasetemp())
    edges = ids.cut(most).tolist()
    assert (edges[0], edges[-1]) == (0, len(numbers))
    assert len(edges) == 1 or all(0 < b - a <= most for a, b in pairwise(edges))
    for begin, end in pairwise(edges[:-1]):
        room = numbers[begin : begin + most]
        if END in room:
            assert numbers[end - 1] == END
            assert END not in room[end - begin :]
        else:
            assert end - begin == most


@given(first=NUMBERS, second=NUMBERS, part=st.integers(1, 13))
def test_digests_are_equal_if_and_only_if_the_ids_are(tmp_path_factory, first, second, part):
    folder = tmp_path_factory.getbasetemp()
    digest = stored(first, folder, part).digest()
    assert digest == stored(first, folder).digest()
    assert (digest == stored(second, folder).digest()) == (first == second)


def test_nothing_is_left_in_the_folder(tmp_path):
    ids = stored([1, 2, END], tmp_path)
    assert ids.size == 3
    assert not list(tmp_path.iterdir())


def test_threads_read_at_the_same_time(tmp_path):
    numbers = list(range(99_991))
    ids = stored(numbers, tmp_path)
    starts = range(0, 99_000, 113)
    with ThreadPoolExecutor(5) as pool:
        reads = list(pool.map(lambda at: ids.read(at, at + 113).tolist(), starts))
    assert reads == [numbers[at : at + 113] for at in starts]


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        WordIds(tmp_path / "absent")
