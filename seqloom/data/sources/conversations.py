"""Conversations and instructions from JSON lines, and batches of them of which only the answers are learned."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from seqloom.data.batches.batch import StreamBatch
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.formats.lines import RECORD_BYTES, LineError, decode, expand, json_object, raw_lines
from seqloom.data.sources.text import Piece, as_document, is_text
from seqloom.errors import DataError
from seqloom.nn.embedders import Inputs
from seqloom.text.chat import ROLES, Message

_ANSWERS = ("output", "response", "completion", "chosen")
_ALTERNATING = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_FORMS = (
    '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}, '
    '{"instruction": "...", "input": "...", "output": "..."}, {"prompt": "...", "response": "..."} '
    'or {"turns": ["...", "..."]}'
)


@dataclass(frozen=True)
class Conversations:
    """Files of JSON lines, each a conversation, or an instruction with its answer.

    A line has "messages" of the roles system, user and assistant; or an "instruction" or "prompt", perhaps an "input",
    and an "output", "response", "completion" or "chosen"; or "turns", where user and assistant alternate.

    Args:
        train, valid, test: the files; plain, .gz or .xz; ${VARIABLES} of the environment are filled in. Without
            `valid`, the last 5 % of the conversations of `train` are held out.
    """

    kind: ClassVar[str] = "conversations"
    train: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train must name at least one file")


@dataclass(frozen=True)
class Chat:
    """A conversation, and the line of its file that it is from."""

    messages: tuple[Message, ...]
    number: int


def read_conversations(paths: Sequence[str]) -> list[Chat]:
    """All conversations of some files. Raises UsageError or DataError."""
    found: list[Chat] = []
    for path in map(expand, paths):
        before = len(found)
        for number, raw in enumerate(raw_lines(path, RECORD_BYTES), 1):
            line = decode(raw, path, number, RECORD_BYTES)
            if line.strip():
                found += [Chat(chat, number) for chat in parse_conversations(line, f"{path}:{number}")]
        if len(found) == before:
            raise DataError("there is no conversation in it", where=str(path), cure=f"a line may be {_FORMS}")
    return found


def parse_conversations(line: str, where: str) -> list[tuple[Message, ...]]:
    """The conversations of a line: one, but for an instruction with several "instances". Raises LineError."""
    record = json_object(line, where, _FORMS)
    instances = record.get("instances") or [record]
    chats: list[tuple[Message, ...]] = []
    for own in instances if isinstance(instances, list) else [None]:
        try:
            said = [(str(role), text) for role, text in _said(record, own)]
        except (KeyError, TypeError, AttributeError, ValueError):
            said = []
        while said and said[-1][0] != "assistant":
            said.pop()  # what is not answered teaches nothing
        if not said or not all(role in ROLES and is_text(text) for role, text in said):
            kind, problem = "lines that are not a conversation", "no conversation with an answer in it"
            raise LineError(kind, problem, where=where, cure=f"write {_FORMS}")
        chats.append(tuple(Message(role, text) for role, text in said))  # type: ignore[arg-type]
    return chats


def _said(record: dict[str, Any], own: Any) -> list[tuple[Any, Any]]:
    """Roles and texts of a record, whatever they are; `own` has input and answer of an instruction."""
    if "messages" in record:
        return [(message["role"], message["content"]) for message in record["messages"]]
    if isinstance(record.get("turns"), list):
        return [(("user", "assistant")[i % 2], text) for i, text in enumerate(record["turns"])]
    answer = next((own[key] for key in _ANSWERS if key in own), None)
    prompt: Any = record.get("instruction", record.get("prompt"))
    asked = [("user", f"{prompt}\n\n{own['input']}" if own.get("input") else prompt)]
    if _ALTERNATING.match(prompt):
        _, *parts = _ALTERNATING.split(prompt)
        texts = [text.strip() for text in parts[1::2]]
        asked = [({"Human": "user"}.get(who, "assistant"), text) for who, text in zip(parts[::2], texts, strict=True)]
        asked = asked[:-1] if not texts[-1] else asked
    return [*asked, ("assistant", answer)]


def pieces_of(chats: Sequence[Chat]) -> Iterator[Piece]:
    """What is said in them as text, each conversation a document."""
    for chat in chats:
        yield from as_document("\n".join(message.text for message in chat.messages), chat.number)


def last_held_out(chats: list[Chat]) -> tuple[list[Chat], list[Chat]]:
    """The conversations without their last 5 %, and these. Raises DataError for a single one."""
    if len(chats) < 2:
        raise DataError("a single conversation: nothing can be held out", cure="name others with --data.valid")
    cut = len(chats) - max(1, len(chats) // 20)
    return chats[:cut], chats[cut:]


def chats_digest(chats: Sequence[Chat]) -> str:
    """SHA-256; equal digests mean equal conversations."""
    sha = hashlib.sha256()
    for chat in chats:
        sha.update(json.dumps([(m.role, m.text) for m in chat.messages]).encode() + b"\n")
    return sha.hexdigest()


def pack(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Groups of numbers whose sizes have room together: the longest first, each where it fits best."""
    groups: list[list[int]] = []
    left: list[tuple[int, int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        at = bisect_left(left, (sizes[i], -1))
        if at == len(left):
            groups.append([])
            left.append((room, len(groups) - 1))
        space, group = left.pop(at)
        groups[group].append(i)
        insort(left, (space - sizes[i], group))
    return groups


class Packs:
    """The batches of conversations, by number, without end; batch n is a pure function of (seed, n).

    A row is filled with whole conversations. In an epoch each comes once; the rows come in another order each epoch.

    Args:
        chats: the ids of each, and which of them are learned.
        lines: where each is from, for messages.
        carries: whether the model carries a state; then a row has one conversation, because a state goes on.

    Attributes:
        cut: how many were longer than `length`; `dropped`: how many of these have nothing left to learn.
    """

    def __init__(
        self,
        chats: Sequence[tuple[np.ndarray, np.ndarray]],
        lines: Sequence[int],
        config: StreamConfig,
        seed: int = 0,
        *,
        carries: bool = False,
    ) -> None:
        T = config.length
        self.cut = sum(len(ids) > T + 1 for ids, _ in chats)
        kept = [(ids[: T + 1], learned[: T + 1], n) for (ids, learned), n in zip(chats, lines, strict=True)]
        self.chats = [chat for chat in kept if chat[1].any()]
        self.dropped = len(kept) - len(self.chats)
        if not self.chats:
            raise DataError("no conversation is so short that its answer is seen", cure="raise batches.length")
        sizes = [len(ids) - 1 for ids, _, _ in self.chats]
        self.rows = [[i] for i in range(len(sizes))] if carries else pack(sizes, T)
        self.config, self.seed, self.apart = config, seed, not carries and not config.crossing
        self.per_epoch = -(-len(self.rows) // config.lanes)
        self.tokens = sum(int(learned.sum()) for _, learned, _ in self.chats)

    def __call__(self, number: int) -> StreamBatch:
        """Batch `number` of the endless sequence."""
        epoch, index = divmod(number, self.per_epoch)
        return self._batch(np.random.Generator(np.random.Philox(key=(self.seed, epoch))).permutation, index)

    def once(self) -> Iterator[StreamBatch]:
        """All conversations."""
        return (self._batch(np.arange, index) for index in range(self.per_epoch))

    windows = once

    def _batch(self, order: Callable[[int], np.ndarray], index: int) -> StreamBatch:
        lanes = self.config.lanes
        rows = [[self.chats[i] for i in self.rows[k]] for k in order(len(self.rows))[index * lanes :][:lanes]]
        width = max(sum(len(ids) - 1 for ids, _, _ in row) for row in rows)
        ids, targets, documents = (np.full((len(rows), width), fill) for fill in (0, -1, 0))
        for r, row in enumerate(rows):
            at = 0
            for d, (own, learned, _) in enumerate(row):
                here = slice(at, at := at + len(own) - 1)
                ids[r, here], documents[r, here] = own[:-1], d
                targets[r, here] = np.where(learned[1:], own[1:], -1)
            documents[r, at:] = len(row)
        several = self.apart and any(len(row) > 1 for row in rows)
        return StreamBatch(
            Inputs.text(torch.from_numpy(ids), segments=torch.from_numpy(documents) if several else None),
            torch.from_numpy(targets),
            True,
            int((targets >= 0).sum()),
            tuple(row[0][2] - 1 for row in rows),
        )
