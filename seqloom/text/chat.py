"""Conversations as token ids: <s>, and then for each message its role, its text and <|end|>."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqloom.errors import UsageError
from seqloom.text.tokenizer import MESSAGE_END, Tokenizer

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, str] = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END = MESSAGE_END
"""The token after each message; a model generates it at the end of its answer."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The format as other programs render it."""


@dataclass(frozen=True)
class Message:
    """A message of one side; special tokens in its text are treated as text."""

    role: Role
    text: str


def with_chat(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with the tokens of the chat format added; itself if it has them."""
    return tokenizer.grown([*ROLES.values(), END])


def chat_token(tokenizer: Tokenizer, name: str) -> int:
    """The id of a token of the chat format. Raises UsageError for a tokenizer without it."""
    token = tokenizer.inner.token_to_id(name)
    if token is None:
        cure = "fine-tune it: seqloom train CONFIG --start RUN --data.kind conversations --data.train FILE"
        raise UsageError(f"the tokenizer has no token {name}: the model has seen no conversations", cure=cure)
    return int(token)


def encode_chats(chats: Sequence[Sequence[Message]], tokenizer: Tokenizer) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ids of each conversation, and a mask of those to learn: the answers and their <|end|>."""
    roles, end = {role: chat_token(tokenizer, name) for role, name in ROLES.items()}, chat_token(tokenizer, END)
    texts = iter(tokenizer.encode_lines([message.text for chat in chats for message in chat]))
    rows = []
    for chat in chats:
        ids, learned = [np.array([tokenizer.start])], [np.array([False])]
        for message in chat:
            ids.append(np.concatenate(([roles[message.role]], next(texts), [end])))
            learned.append(np.full(len(ids[-1]), message.role == "assistant"))
            learned[-1][0] = False
        rows.append((np.concatenate(ids).astype(np.int32), np.concatenate(learned)))
    return rows


def chat_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The ids of a conversation up to where the model answers."""
    ids, _ = encode_chats([messages], tokenizer)[0]
    return [*ids.tolist(), chat_token(tokenizer, ROLES["assistant"])]
