from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqloom.data.sources.chats.dialogues import Dialogues
from seqloom.errors import DataError, UsageError


def written(path: Path, *dialogues: list[str]) -> str:
    path.write_text("".join(json.dumps({"turns": d, "topic": "x"}) + "\n\n" for d in dialogues), encoding="utf-8")
    return str(path)


def test_each_turn_but_the_first_is_a_reply_to_the_last_ones(tmp_path):
    file = written(tmp_path / "a.jsonl", ["Hi", "Hello  you", "How?", "Well"], ["alone"], ["Yes?", "No"])
    config = Dialogues((file,), (file,), turns=2, separator=" / ")
    splits = config.splits()
    assert list(splits.train.sources) == ["Hi", "Hi / Hello you", "Hello you / How?", "Yes?"]
    assert list(splits.train.targets) == ["Hello you", "How?", "Well", "No"]
    assert [splits.train.line(i) for i in range(4)] == [1, 1, 1, 5]
    assert splits.test is None
    assert config.context(["a", "b", "c"]) == "b / c"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "3",
        '{"turn": []}',
        '{"turns": "a"}',
        '{"turns": ["a", 2]}',
        "[" * 99999,
        r'{"turns": ["a", "\ud800"]}',
    ],
)
def test_a_line_that_is_no_dialogue(tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_text('{"turns": ["a", "b"]}\n' + line + "\n")
    with pytest.raises(DataError, match=r"no list of texts|not JSON|not a JSON object|half a character") as found:
        Dialogues((str(file),), (str(file),)).splits()
    assert found.value.where == f"{file}:2"


def test_impossible_choices(tmp_path):
    with pytest.raises(ValueError, match="turns must be from 1 to"):
        Dialogues((), (), turns=0)
    with pytest.raises(UsageError, match="no such file"):
        Dialogues((str(tmp_path / "b"),), ()).splits()
