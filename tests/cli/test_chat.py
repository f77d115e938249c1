from __future__ import annotations

import json
from pathlib import Path

from calls import Call

SECTIONS = """
[data]
kind = "dialogues"
train = ["talk.jsonl"]
valid = ["talk.jsonl"]
test = ["talk.jsonl"]
"""


def trained(call: Call, folder: Path) -> None:
    turns = [{"turns": [f"say {n}", f"I said {n}", "Good", f"And {n + 1}?"]} for n in range(20)]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turns))
    head, _, rest = (folder / "small.toml").read_text().partition("[data]")
    (folder / "talk.toml").write_text(head + SECTIONS + rest[rest.index("[tokenizer]") - 1 :])
    result = call("train", "talk.toml", "--run", "talk")
    assert result.code == 0, result.err
    assert "next: seqloom eval talk   seqloom chat talk" in result.err


def test_each_line_is_answered_and_the_answers_depend_on_what_was_said(call: Call, folder):
    trained(call, folder)
    words = ("chat", "talk", "--decoding.sample", "--decoding.max_length", "5")
    first = call(*words, stdin=b"say 3\n\nGood\nGood\n/new\nsay 3\n")
    assert first.code == 0, first.err
    assert len(first.lines) == 4
    assert call(*words, stdin=b"say 3\n\nGood\nGood\n/new\nsay 3\n").out == first.out
    assert first.lines[0] == first.lines[3]  # after /new as at first
    scores = json.loads(call("eval", "talk", "--json", "-q").out)
    assert scores["perplexity"] > 1
    assert 0 < scores["distinct_1"] <= 100


def test_chat_refuses(call: Call, seen):
    call("chat", "run", stdin=b"").refused(2, "run: was not trained on dialogues", "seqloom translate run")
    call("chat", "nowhere").refused(2, "no such run")
