"""Conversations and instructions from JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seqloom.data.batches.packs import Packs
from seqloom.data.batches.shards import Keeping
from seqloom.data.batches.stream import Layout
from seqloom.data.checks.pairs import Parse
from seqloom.data.formats.lines import (
    RECORD_BYTES,
    LineError,
    decode,
    is_blank,
    is_text,
    json_object,
    raw_lines,
    read_each,
)
from seqloom.data.rows import Chat, Piece, ReportProgress, Text, digest_of_parts
from seqloom.data.sources.source import Reading, TextSplit
from seqloom.data.sources.text import DocumentFiles, as_document
from seqloom.errors import DataError, counted
from seqloom.text.chat import END, ROLES, Message, chat_token, encode_chats
from seqloom.text.tokenizer import Tokenizer

_ANSWERS = ("output", "response", "completion", "chosen")
_ALTERNATING = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_FORMS = (
    '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}, '
    '{"instruction": "...", "input": "...", "output": "..."}, {"prompt": "...", "response": "..."} '
    'or {"turns": ["...", "..."]}'
)


def read_conversations(paths: Sequence[str]) -> list[Chat]:
    """The conversations of some files. Raises UsageError or DataError."""

    def read(path: Path) -> Iterator[Chat]:
        for number, raw in enumerate(raw_lines(path, RECORD_BYTES), 1):
            line = decode(raw, path, number, RECORD_BYTES)
            if not is_blank(line):
                yield from (Chat(chat, number) for chat in parse_conversations(line, f"{path}:{number}"))

    return read_each(paths, read, "there is no conversation in the file", f"a line may be {_FORMS}")


def parse_conversations(line: str, where: str) -> list[tuple[Message, ...]]:
    """The conversations of a line: one, unless it is an instruction with several "instances". Raises LineError."""
    record = json_object(line, where, _FORMS)
    instances = record.get("instances") or [record]
    chats: list[tuple[Message, ...]] = []
    for instance in instances if isinstance(instances, list) else [None]:
        try:
            messages = [(str(role), text) for role, text in _messages(record, instance)]
        except (KeyError, TypeError, AttributeError, ValueError):
            messages = []
        while messages and messages[-1][0] != "assistant":
            messages.pop()  # a message without an answer teaches nothing
        if not messages or not all(role in ROLES and is_text(text) for role, text in messages):
            kind, problem = "lines that are not a conversation", "no conversation with an answer in it"
            raise LineError(kind, problem, where=where, cure=f"write {_FORMS}")
        chats.append(tuple(Message(role, text) for role, text in messages))  # type: ignore[arg-type]
    return chats


def _messages(record: dict[str, Any], instance: Any) -> list[tuple[Any, Any]]:
    """Roles and texts of a record, unchecked; `instance` has the input and answer of an instruction."""
    if "messages" in record:
        return [(message["role"], message["content"]) for message in record["messages"]]
    if isinstance(record.get("turns"), list):
        return [(("user", "assistant")[i % 2], text) for i, text in enumerate(record["turns"])]
    answer = next((instance[key] for key in _ANSWERS if key in instance), None)
    prompt: Any = record.get("instruction", record.get("prompt"))
    if messages := turns_of(prompt):
        return [*messages, ("assistant", answer)]
    text = f"{prompt}\n\n{instance['input']}" if instance.get("input") else prompt
    return [("user", text), ("assistant", answer)]


def turns_of(text: str) -> list[tuple[str, str]]:
    """Roles and texts of "Human: ... Assistant: ...", without an empty last one; none if the text begins otherwise."""
    if not _ALTERNATING.match(text):
        return []
    _, *parts = _ALTERNATING.split(text)
    roles = ["user" if speaker == "Human" else "assistant" for speaker in parts[::2]]
    turns = [(role, turn.strip()) for role, turn in zip(roles, parts[1::2], strict=True)]
    return turns if turns[-1][1] else turns[:-1]


@dataclass(frozen=True)
class Chats(TextSplit):
    """Conversations in memory."""

    chats: Sequence[Chat]

    def pieces(self, report: ReportProgress = lambda share, done: None) -> Iterator[Piece]:
        """See TextSplit; each conversation is a document."""
        for chat in self.chats:
            yield from as_document("\n".join(message.text for message in chat.messages), chat.number)

    def digest(self) -> str:
        """See TextSplit."""
        rows = ([(m.role, m.text) for m in chat.messages] for chat in self.chats)
        return digest_of_parts(json.dumps(row).encode() + b"\n" for row in rows)

    def packs(self, tokenizer: Tokenizer, layout: Layout) -> Packs:
        """The conversations packed into batches."""
        rows = encode_chats([chat.messages for chat in self.chats], tokenizer)
        lines = [chat.number for chat in self.chats]
        return Packs(rows, lines, layout)

    def batches(self, tokenizer: Tokenizer, layout: Layout, keeping: Keeping) -> tuple[Packs, str]:
        """See TextSplit; nothing is kept on disk."""
        return self.packs(tokenizer, layout), self.digest()

    def reading(self, tokenizer: Tokenizer, layout: Layout, lanes: int) -> Reading:
        """See TextSplit; the sizes are those of the answers."""
        packs = self.packs(tokenizer, layout)
        answers = [ids[learned] for ids, learned, _ in packs.chats]
        ends = [i for i in (tokenizer.line_end, chat_token(tokenizer, END)) if i is not None]
        rows = [row.tolist() for ids in answers for row in np.split(ids, np.flatnonzero(np.isin(ids, ends)) + 1)]
        lines = [line for text in tokenizer.decode([row for row in rows if row]) for line in text.split("\n")]
        prompts = [chat.messages[:1] for chat in self.chats[:: max(1, len(self.chats) // 3)][:3]]
        sizes = Text(lines, [1] * len(lines)).sizes()
        return Reading(packs, sum(row.count(tokenizer.unknown) for row in rows), sizes, prompts)


@dataclass(frozen=True)
class Conversations(DocumentFiles["Chats"]):
    """Files of JSON lines, each a conversation, or an instruction with its answer.

    A line has "messages" with the roles system, user and assistant; or an "instruction" or "prompt", optionally an
    "input", and an "output", "response", "completion" or "chosen"; or "turns", where user and assistant alternate.

    Args:
        train, valid, test: the files; plain, .gz or .xz; ${VARIABLES} of the environment are expanded. Without
            `valid`, the last 5 % of the conversations of `train` are held out.
    """

    kind: ClassVar[str] = "conversations"
    chats: ClassVar[bool] = True
    parsers: ClassVar[Mapping[str, Parse]] = {"": parse_conversations}

    def read(self, files: Sequence[str]) -> Chats:
        """See SplitFiles."""
        return Chats(read_conversations(files))

    def hold_out(self, train: Chats, seed: int) -> tuple[Chats, Chats, str]:
        """Holds out the last 5 % of the conversations. Raises DataError for a single one."""
        if len(train.chats) < 2:
            raise DataError("a single conversation: nothing can be held out", cure="name others with --data.valid")
        count = max(1, len(train.chats) // 20)
        message = f"the last {counted(count, 'conversation')} held out as validation data"
        return Chats(train.chats[:-count]), Chats(train.chats[-count:]), message
