"""Preferences are read in each form they have, and what cannot be read or teaches nothing is named with its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seqloom.data.checks.preferences import check_preferences, length_wins
from seqloom.data.formats.lines import LineError
from seqloom.data.rows import Preference
from seqloom.data.sources.chats.preferences import Preferences
from seqloom.errors import DataError
from seqloom.text.chat import Message

ABC = {"prompt": "a", "chosen": "b", "rejected": "c"}
A, B, C = ({"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("assistant", "c")))
DIALOGUE = "Human: a\n\nAssistant: x\n\nHuman: y\n\nAssistant:"


def said(*texts: str) -> tuple[Message, ...]:
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


def write(path: Path, records: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("options", "record", "prompt", "answers"),
    [
        ({}, ABC, "a", "bc"),
        ({"form": "instruction"}, ABC, said("a"), "bc"),
        ({"form": "instruction", "input": "input"}, ABC | {"input": "1"}, said("a\n\n1"), "bc"),
        ({"input": "input"}, ABC | {"input": ""}, "a", "bc"),
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, {"q": "a", "good": "b", "bad": "c"}, "a", "bc"),
        ({"form": "dialogue"}, ABC | {"prompt": DIALOGUE}, said("a", "x", "y"), "bc"),
        # an answer that only looks like a dialogue is one all the same
        (
            {"form": "dialogue"},
            ABC | {"prompt": DIALOGUE, "rejected": "Human: z"},
            said("a", "x", "y"),
            ["b", "Human: z"],
        ),
        (
            {"form": "dialogue"},
            {"chosen": f"\n\n{DIALOGUE} b", "rejected": f"\n\n{DIALOGUE} c"},
            said("a", "x", "y"),
            "bc",
        ),
        (
            {"form": "dialogue"},
            {"prompt": DIALOGUE, "chosen": f"{DIALOGUE} b", "rejected": f"{DIALOGUE} c"},
            said("a", "x", "y"),
            "bc",
        ),
        ({"form": "messages"}, {"prompt": [A], "chosen": [B], "rejected": "c"}, said("a"), "bc"),
        ({"form": "messages"}, {"chosen": [A, B], "rejected": [A, C]}, said("a"), "bc"),
        ({"form": "messages"}, {"prompt": [A], "chosen": [A, B], "rejected": [C]}, said("a"), "bc"),
    ],
)
def test_the_forms_a_preference_has(options, record, prompt, answers):
    found = Preferences(**options).parse(json.dumps(record), "x:1")
    assert found == Preference(prompt, *answers, where="x:1")


def test_a_margin_is_a_number_of_the_data():
    source = Preferences(margin="by")
    assert source.parse(json.dumps(ABC | {"by": 2}), "x:1").margin == 2
    for wrong in (ABC | {"by": "much"}, ABC | {"by": True}):
        with pytest.raises(LineError, match="'by' is not a number"):
            source.parse(json.dumps(wrong), "x:1")


@pytest.mark.parametrize(
    ("form", "record", "kind"),
    [
        ("text", {"prompt": "a", "chosen": "b"}, "missing fields"),
        ("messages", {"prompt": [A], "rejected": "b"}, "missing fields"),
        ("text", ABC | {"chosen": " "}, "empty sides"),
        ("text", ABC | {"prompt": ""}, "empty sides"),
        ("messages", {"prompt": [A], "chosen": "b", "rejected": ""}, "empty sides"),
        ("text", ABC | {"prompt": [A]}, "texts of another form"),
        ("instruction", ABC | {"chosen": [B]}, "texts of another form"),
        ("messages", ABC, "prompts that cannot be read"),
        ("messages", {"chosen": [B], "rejected": [C]}, "prompts that cannot be read"),
        ("messages", {"prompt": [{"role": "cook", "content": "a"}], "chosen": "b", "rejected": "c"}, "prompts that"),
        ("messages", {"prompt": [A], "chosen": [B, A], "rejected": "c"}, "sides that are no answers"),
        ("messages", {"chosen": [A, B], "rejected": [B, C]}, "sides that are no answers"),
        ("dialogue", ABC, "prompts that cannot be read"),
        ("dialogue", {"chosen": f"{DIALOGUE} b", "rejected": "Human: z\n\nAssistant: c"}, "sides that are no answers"),
        ("text", ["a", "b", "c"], "lines that are not JSON"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_lines(tmp_path, form, record, kind):
    good = {"text": ABC, "instruction": ABC, "dialogue": ABC | {"prompt": DIALOGUE}, "messages": ABC | {"prompt": [A]}}
    path = write(tmp_path / "x.jsonl", [good[form], record, record])
    source = Preferences((path,), form=form)
    with pytest.raises(DataError, match=r"x.jsonl:2: "):
        source.splits(print)
    (finding,) = source.scan()
    assert finding.what.startswith(kind)
    assert (finding.severity, finding.count, finding.where) == ("error", 2, f"{path}:2, :3")


def test_a_prompt_is_never_on_both_sides_of_the_held_out_part(tmp_path):
    rows = [{"prompt": f"p{i % 40}", "chosen": f"b{i}", "rejected": "c"} for i in range(200)]
    with gzip.open(tmp_path / "x.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    said_: list[Any] = []
    splits = Preferences((str(tmp_path / "x.jsonl.gz"),)).splits(said_.append, 3)
    train, valid = ({row.prompt for row in splits[name]} for name in ("train", "valid"))
    assert (len(train), len(valid), train & valid) == (36, 4, set())
    assert len(splits["train"]) + len(splits["valid"]) == 200
    assert said_ == ["20 training examples held out as validation data, all those of 4 prompts"]
    single = Preferences((write(tmp_path / "one.jsonl", [ABC, ABC]),))
    with pytest.raises(DataError, match="a single prompt"):
        single.splits(print)


def test_findings_name_lines_and_numbers():
    def row(line: int, prompt: str, chosen: str, rejected: str) -> Preference:
        return Preference(prompt, chosen, rejected, where=f"t:{line}")

    train = [row(1, "p", "long", "c"), row(2, "p", "long", "c"), row(3, "p", "c", "long"), row(4, "q", "same", "same")]
    valid = [row(5, "p", "long", "c"), row(6, "p", "new", "c"), row(7, "r", "a", "longest")]
    found = {(f.what, f.where): f for f in check_preferences({"train": train, "valid": valid})}
    assert found[("pairs without a difference", "t:4")].count == 1
    assert found[("pairs that contradict another", "t:3")].severity == "warning"
    assert ("repeated pairs", "t:2") in found
    assert ("pairs of valid also in train", "t:5") in found
    assert ("prompts of valid also in train", "t:6") in found
    assert "in 62.5 % of the 4 pairs of train" in found[("the longer answer wins", "t:1")].detail
    assert length_wins(valid) == pytest.approx(200 / 3)
    assert len(found) == 7


def test_files_of_preferences_are_told_from_others(tmp_path):
    path = write(tmp_path / "x.jsonl", [ABC])
    other, text = write(tmp_path / "y.jsonl", [{"text": "a"}]), tmp_path / "z.txt"
    text.write_text("a\n", encoding="utf-8")
    source = Preferences((path,))
    assert [source.holds(files) for files in ([path], [path, other], [other], [str(text)])] == [
        True,
        False,
        False,
        False,
    ]
