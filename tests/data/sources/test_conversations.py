from __future__ import annotations

import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seqloom.data.sources.chats.conversations import Chats, Conversations, parse_conversations, read_conversations
from seqloom.errors import DataError

ASKED = {"instruction": "Add.", "input": "1 2", "output": "3"}


def messages_of(record: object) -> list[list[tuple[str, str]]]:
    return [[(m.role, m.text) for m in chat] for chat in parse_conversations(json.dumps(record), "a.jsonl:1")]


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        (ASKED, [("user", "Add.\n\n1 2"), ("assistant", "3")]),
        ({**ASKED, "input": ""}, [("user", "Add."), ("assistant", "3")]),
        ({"prompt": "Hi", "response": "Ho"}, [("user", "Hi"), ("assistant", "Ho")]),
        ({"prompt": "Hi", "completion": "Ho"}, [("user", "Hi"), ("assistant", "Ho")]),
        ({"instruction": "Hi", "chosen": "Ho", "rejected": "No"}, [("user", "Hi"), ("assistant", "Ho")]),
        ({"topic": "x", "turns": ["a", "b", "c"]}, [("user", "a"), ("assistant", "b")]),
        (
            {"prompt": "Human: a\n\nAssistant: b\n\nHuman: c\n\nd\n\nAssistant:", "chosen": "e", "rejected": "f"},
            [("user", "a"), ("assistant", "b"), ("user", "c\n\nd"), ("assistant", "e")],
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "a\nb"},
                    {"role": "assistant", "content": "c"},
                    {"role": "user", "content": "d"},
                ]
            },
            [("system", "s"), ("user", "a\nb"), ("assistant", "c")],
        ),
    ],
)
def test_the_forms_a_conversation_has(record, messages):
    assert messages_of(record) == [messages]


def test_an_instruction_with_several_instances_is_several():
    instances = [{"input": "1", "output": "2"}, {"input": "", "output": "3"}]
    assert messages_of({"instruction": "Next", "instances": instances}) == [
        [("user", "Next\n\n1"), ("assistant", "2")],
        [("user", "Next"), ("assistant", "3")],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", "{}", '{"messages": []}', '{"messages": [{"role": "user", "content": "a"}]}', '{"turns": "ab"}',
        '{"messages": [{"role": "cat", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"messages": [{"role": "user"}, {"role": "assistant", "content": "b"}]}', '{"turns": ["a", 1]}',
        '{"instruction": "a"}', '{"output": "a"}', '{"prompt": "a", "response": " "}', '{"prompt": 1, "response": "a"}',
        '{"prompt": "a", "response": "\\ud800"}', '{"instruction": "a", "instances": [1]}',
        '{"instruction": "a", "instances": 3}', '{"messages": 3}', '{"messages": [3]}',
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_named_with_its_line(tmp_path: Path, line: str):
    (tmp_path / "a.jsonl").write_text(json.dumps(ASKED) + f"\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_conversations([str(tmp_path / "a.jsonl")])
    assert caught.value.where == f"{tmp_path}/a.jsonl:3"
    assert '"messages"' in caught.value.cure


def test_files_digests_and_what_is_held_out(tmp_path: Path):
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress("".join(json.dumps(ASKED) + "\n" for _ in range(40)).encode()))
    source = Conversations((str(tmp_path / "a.jsonl.xz"),))
    chats = source.read(source.train).chats
    assert [chat.number for chat in chats] == list(range(1, 41))
    held_out: list[str] = []
    assert [len(split.chats) for split in source.splits(held_out.append).values()] == [38, 2]
    assert held_out == ["the last 2 conversations held out as validation data"]
    assert source.tested(()).chats == chats[38:]
    assert Chats(chats[:3]).digest() == Chats(chats[3:6]).digest() != Chats(chats[:2]).digest()
    assert [line for line, _ in Chats(chats[:1]).pieces()] == ["Add.", "", "1 2", "3", None]
    with pytest.raises(DataError, match="a single conversation"):
        source.hold_out(Chats(chats[:1]), 1)
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no conversation in the file"):
        read_conversations([str(tmp_path / "b.jsonl")])
    with pytest.raises(ValueError, match="at least one file"):
        Conversations(())


Record = dict[str, object]
# Records in the forms of five public data sets, by number, with the number of messages that are read of each.
DATA_SETS: dict[str, tuple[Callable[[int], Record], Callable[[int], int]]] = {
    "small_instructions/instructions": (
        lambda n: {"instruction": f"Correct {n}.", "input": f'freind {n} --> "friend"', "output": f"„friend“ {n}."},
        lambda n: 2,
    ),
    "small_instructions/preferences": (
        lambda n: {"instruction": f"Go {n}", "input": "", "output": "a", "rejected": "b", "chosen": f"a {n}"},
        lambda n: 2,
    ),
    "small_instructions/alpaca_en_1000": (
        lambda n: {"instruction": f"Describe {n}.", "input": "", "output": "First:\n\n1. Mix\n2. Bake\n" * (1 + n % 3)},
        lambda n: 2,
    ),
    "self_dialogue/valid": (
        lambda n: {"topic": "music", "turns": [f"turn {n}.{t}?" for t in range(2 + n % 5)]},
        lambda n: (2 + n % 5) // 2 * 2,
    ),
    "hh_harmless/test": (
        lambda n: {
            "prompt": "".join(f"Human: ask {n}\n\nAssistant: say {t}\n\n" for t in range(n % 4))
            + "Human: x\n\nAssistant:",
            "chosen": f"good {n}",
            "rejected": f"bad {n}",
        },
        lambda n: 2 * (n % 4) + 2,
    ),
}
COUNTS = {
    "small_instructions/instructions": 989, "small_instructions/preferences": 989,
    "small_instructions/alpaca_en_1000": 999, "self_dialogue/valid": 404, "hh_harmless/test": 300,
}  # fmt: skip


@pytest.mark.parametrize("name", DATA_SETS)
def test_each_record_of_a_file_in_the_form_of_a_public_data_set_is_read(name: str, tmp_path: Path):
    made, sizes = DATA_SETS[name]
    lines = [json.dumps(made(n), ensure_ascii=n % 2 == 0) + "\n" for n in range(97)]
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress("".join(lines).encode()))
    chats = read_conversations([str(tmp_path / "a.jsonl.xz")])
    assert [len(chat.messages) for chat in chats] == [sizes(n) for n in range(97)]
    assert [chat.number for chat in chats] == [*range(1, 98)]
    for chat in chats:
        assert [message.role for message in chat.messages] == ["user", "assistant"] * (len(chat.messages) // 2)
        assert all(message.text.strip() for message in chat.messages)


@pytest.mark.skipif(
    not os.environ.get("SEQLOOM_DATA"),
    reason="SEQLOOM_DATA is not set: the public data sets themselves are not counted, only files made in their forms",
)
@pytest.mark.parametrize("name", COUNTS)
def test_public_data_sets_are_read(name: str):
    chats = read_conversations([f"${{SEQLOOM_DATA}}/{name}.jsonl.xz"])
    assert len(chats) == COUNTS[name]
