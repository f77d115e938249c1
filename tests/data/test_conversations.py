from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.batches.batch import StreamBatch
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.sources.conversations import (
    Conversations,
    Packs,
    chats_digest,
    last_held_out,
    pack,
    parse_conversations,
    pieces_of,
    read_conversations,
)
from seqloom.errors import DataError

ASKED = {"instruction": "Add.", "input": "1 2", "output": "3"}


def read(batch: StreamBatch) -> torch.Tensor:
    return batch.inputs["text"].values


def told(record: object) -> list[list[tuple[str, str]]]:
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
    assert told(record) == [messages]


def test_an_instruction_with_several_instances_is_several():
    instances = [{"input": "1", "output": "2"}, {"input": "", "output": "3"}]
    assert told({"instruction": "Next", "instances": instances}) == [
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
    chats = read_conversations([str(tmp_path / "a.jsonl.xz")])
    assert [chat.number for chat in chats] == list(range(1, 41))
    assert [len(part) for part in last_held_out(chats)] == [38, 2]
    assert chats_digest(chats[:3]) == chats_digest(chats[3:6]) != chats_digest(chats[:2])
    assert [line for line, _ in pieces_of(chats[:1])] == ["Add.", "", "1 2", "3", None]
    with pytest.raises(DataError, match="a single conversation"):
        last_held_out(chats[:1])
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no conversation in it"):
        read_conversations([str(tmp_path / "b.jsonl")])
    with pytest.raises(ValueError, match="at least one file"):
        Conversations(())


@pytest.mark.skipif(not os.environ.get("SEQLOOM_DATA"), reason="needs the public data sets")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("small_instructions/instructions", 989), ("small_instructions/preferences", 989),
        ("small_instructions/alpaca_en_1000", 999), ("self_dialogue/valid", 404), ("hh_harmless/test", 300),
    ],
)  # fmt: skip
def test_public_data_sets_are_read(name, count):
    assert len(read_conversations([f"${{SEQLOOM_DATA}}/{name}.jsonl.xz"])) == count


# Packing


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
    given, length = chats(sizes), 13
    answers = sorted(int(i) for ids, learned in given for i in ids[: length + 1][learned[: length + 1]])
    for carries in (False, True):
        packs = Packs(given, list(range(1, len(sizes) + 1)), StreamConfig(lanes, length), 3, carries=carries)
        batches = [packs(epoch * packs.per_epoch + n) for n in range(packs.per_epoch)]
        found = [b.targets[b.targets >= 0] for b in batches]
        assert sorted(torch.cat(found).tolist()) == answers
        assert [b.tokens for b in batches] == [len(words) for words in found]
        assert packs.tokens == len(answers)
        assert packs.cut == sum(size > length + 1 for size in sizes)
        for b in batches:
            real = b.targets >= 0
            assert b.anew
            assert read(b).shape[1] <= length
            assert torch.equal(read(b)[real] + 1, b.targets[real])
            alone = all(len({i // 100 for i in row if i}) == 1 for row in read(b).tolist())
            assert (b.inputs["text"].segments is None) == (carries or alone)
            if b.inputs["text"].segments is not None:
                for row, number in zip(read(b).tolist(), b.inputs["text"].segments.tolist(), strict=True):
                    assert len({n for i, n in zip(row, number, strict=True) if i}) == len({i // 100 for i in row if i})
                    assert number == sorted(number)
        whole = torch.cat([b.targets[b.targets >= 0] for b in packs.windows()])
        assert sorted(whole.tolist()) == answers
        again = Packs(given, list(range(1, len(sizes) + 1)), StreamConfig(lanes, length), 3, carries=carries)
        assert all(torch.equal(read(again(epoch * packs.per_epoch + n)), read(b)) for n, b in enumerate(batches))


def test_epochs_come_in_another_order_and_crossing_is_left():
    packs = Packs(chats([9] * 30), list(range(1, 31)), StreamConfig(2, 16))
    orders = {tuple(packs(epoch * packs.per_epoch + n).rows for n in range(packs.per_epoch)) for epoch in range(4)}
    assert len(orders) == 4
    assert packs(0).inputs["text"].segments is not None
    assert Packs(chats([9] * 30), [1] * 30, StreamConfig(2, 16, crossing=True))(0).inputs["text"].segments is None


def test_what_is_too_long_is_cut_and_what_has_no_answer_left_is_dropped():
    packs = Packs(chats([30, 8, 12]), [1, 2, 3], StreamConfig(2, 10))
    assert (packs.cut, packs.dropped, len(packs.chats)) == (2, 1, 2)
    with pytest.raises(DataError, match="so short"):
        Packs(chats([30]), [1], StreamConfig(2, 10))
