from __future__ import annotations

import shlex

import pytest

from seqloom.errors import command, counted


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


def test_a_command_is_quoted_for_the_shell():
    assert command("check", "a.toml") == "seqloom check a.toml"
    assert shlex.split(command("eval", "my runs/it's")) == ["seqloom", "eval", "my runs/it's"]
