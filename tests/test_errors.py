from __future__ import annotations

import pytest

from seqloom.errors import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "pair", "0 pairs"),
        (1, "pair", "1 pair"),
        (2000, "pair", "2,000 pairs"),
        (1, "batch", "1 batch"),
        (3, "batch", "3 batches"),
        (2, "test phrase", "2 test phrases"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
