from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.errors import UsageError
from seqloom.text.chat import END, ROLES, Message, chat_prompt, encode_chats, with_chat
from seqloom.text.tokenizer import BPE, Characters, Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

TEXTS = ["how are you", "I am fine .", "a b"]
KINDS = [BPE(size=300), WordLevel(), Characters()]


def chatting(kind: BPE | WordLevel | Characters) -> Tokenizer:
    return with_chat(train_tokenizer(kind, TEXTS))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_conversation_is_roles_texts_and_ends_and_the_answers_are_learned(kind):
    tokenizer = chatting(kind)
    chat = [Message("system", "a b"), Message("user", "how\nare"), Message("assistant", "fine .")]
    ids, learned = encode_chats([chat], tokenizer)[0]
    of = {name: tokenizer.inner.token_to_id(name) for name in (*ROLES.values(), END)}
    a, how, are, fine = tokenizer.encode(["a b", "how", "are", "fine ."])
    asked = [tokenizer.start, of["<|system|>"], *a, of[END], of["<|user|>"], *how, tokenizer.end, *are, of[END]]
    assert ids.tolist() == [*asked, of["<|assistant|>"], *fine, of[END]]
    assert ids[learned].tolist() == [*fine, of[END]]
    assert chat_prompt(chat[:2], tokenizer) == [*asked, of["<|assistant|>"]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@given(text=st.lists(st.sampled_from([*ROLES.values(), END, "<s>", "</s>", "a", " ", "\n"]), min_size=1).map("".join))
def test_what_looks_like_a_special_word_is_text(kind, text):
    tokenizer = chatting(kind)
    special = {tokenizer.inner.token_to_id(name) for name in (*ROLES.values(), END)}
    ids, learned = encode_chats([[Message("user", text), Message("assistant", text)]], tokenizer)[0]
    assert sum(int(i) in special for i in ids) == 4
    assert int(ids[0]) == tokenizer.start
    assert tokenizer.start not in ids[1:]
    assert (ids == tokenizer.end).sum() == 2 * text.count("\n")
    assert learned.sum() == (len(ids) - 1) // 2 - 1  # the answer and its end, without the role


def test_a_tokenizer_grows_once_and_says_none_of_its_new_words():
    tokenizer = train_tokenizer(BPE(size=300), TEXTS)
    grown = with_chat(tokenizer)
    assert grown.vocab_size == tokenizer.vocab_size + 4
    assert with_chat(grown) is grown
    assert Tokenizer(grown.inner.from_str(grown.to_json())).digest() == grown.digest()
    ids = np.concatenate(grown.encode(["how are"]))
    assert np.array_equal(ids, np.concatenate(tokenizer.encode(["how are"])))
    assert grown.decode([[*chat_prompt([], grown), *ids.tolist()]]) == ["how are"]


def test_a_tokenizer_without_the_format_is_refused():
    with pytest.raises(UsageError, match=r"no token <\|system\|>") as caught:
        chat_prompt([Message("user", "a")], train_tokenizer(WordLevel(), TEXTS))
    assert "--data.kind conversations" in caught.value.cure
