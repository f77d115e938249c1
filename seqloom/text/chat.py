"""Conversations as words of a tokenizer: <s> and then, for each message, its role, its text and <|end|>."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqloom.errors import UsageError
from seqloom.text.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, str] = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END = "<|end|>"
"""Stands after each message; a model says it when its answer is over."""


@dataclass(frozen=True)
class Message:
    """What one side says; what looks like a special token in it is text."""

    role: Role
    text: str


def with_chat(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with the words of the chat format; itself if it has them."""
    return tokenizer.grown([*ROLES.values(), END])


def chat_word(tokenizer: Tokenizer, name: str) -> int:
    """The id of a word of the chat format. Raises UsageError for a tokenizer without it."""
    found = tokenizer.inner.token_to_id(name)
    if found is None:
        cure = "fine-tune it: seqloom train CONFIG --start RUN --data.kind conversations --data.train FILE"
        raise UsageError(f"the tokenizer has no word {name}: the model has seen no conversations", cure=cure)
    return int(found)


def encode_chats(chats: Sequence[Sequence[Message]], tokenizer: Tokenizer) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ids of each conversation, and which of them are to be learned: the answers and their <|end|>."""
    roles, end = {role: chat_word(tokenizer, name) for role, name in ROLES.items()}, chat_word(tokenizer, END)
    texts = iter(tokenizer.encode_lines([message.text for chat in chats for message in chat]))
    found = []
    for chat in chats:
        ids, learned = [np.array([tokenizer.start])], [np.array([False])]
        for message in chat:
            ids.append(np.concatenate(([roles[message.role]], next(texts), [end])))
            learned.append(np.full(len(ids[-1]), message.role == "assistant"))
            learned[-1][0] = False
        found.append((np.concatenate(ids).astype(np.int32), np.concatenate(learned)))
    return found


def chat_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The ids after which a model answers."""
    ids, _ = encode_chats([messages], tokenizer)[0]
    return [*ids.tolist(), chat_word(tokenizer, ROLES["assistant"])]
