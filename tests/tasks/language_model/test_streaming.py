"""What is streamed is the whole text, whatever the tokenizer does with bytes, spaces and special tokens."""

from __future__ import annotations

from collections.abc import Generator as Steps
from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seqloom.decoding.config import Greedy
from seqloom.decoding.results import Hypothesis
from seqloom.tasks.language_model.predictor import Generator
from seqloom.text.tokenizer import BPE, Characters, Special, Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

TEXTS = [
    "ok 很好吗",
    "ba ko 👩‍👩‍👧 mi",
    "e\u0301a\u0308o\u0302 tone",
    "สวัสดีครับ ผม",
    "don't ' go . now",
    "  two  spaces\nand lines ",
    "�",
]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def special(inner: tokenizers.Tokenizer) -> Tokenizer:
    inner.add_special_tokens(SPECIAL)
    ids = [inner.token_to_id(name) for name in SPECIAL]
    return Tokenizer(inner, Special(inner.get_vocab_size(), *ids, opens=True))


def llama() -> Tokenizer:
    names = [*SPECIAL, *BYTES, *"▁abdegiklmnotuw", "ok"]
    inner = tokenizers.Tokenizer(
        models.BPE({n: i for i, n in enumerate(names)}, [("o", "k")], unk_token="<unk>", byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return special(inner)


def unigram() -> Tokenizer:
    names = [*SPECIAL, *BYTES, *"▁abdegiklmnotuw"]
    inner = tokenizers.Tokenizer(models.Unigram([(n, -5.0) for n in names], 1, byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return special(inner)


def gpt2() -> Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    return special(inner)


def wordpiece() -> Tokenizer:
    names = [*SPECIAL, "'", ".", "do", "not", "n", "##n", "t", "##'", "go", "##.", "s", "now", "'s", "n't"]
    inner = tokenizers.Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return special(inner)


def suffixes() -> Tokenizer:
    names = [*SPECIAL, *"abgkmo", *(f"{c}</w>" for c in "abgkmo")]
    inner = tokenizers.Tokenizer(
        models.BPE({n: i for i, n in enumerate(names)}, [], unk_token="<unk>", end_of_word_suffix="</w>")
    )
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder("</w>")
    return special(inner)


def codepoints() -> Tokenizer:
    names = [*SPECIAL, *sorted({c for text in TEXTS for c in text})]
    inner = tokenizers.Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Split(Regex(r"(?m:.)"), "isolated"), decoders.Fuse()
    return special(inner)


TOKENIZERS = {
    "bpe": train_tokenizer(BPE(size=290), TEXTS),
    "words": train_tokenizer(WordLevel(), TEXTS),
    "characters": train_tokenizer(Characters(), ["ok ba"]),
    **{make.__name__: make() for make in (llama, unigram, gpt2, wordpiece, suffixes, codepoints)},
}


def streamed(tokenizer: Tokenizer, prompt: str, ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[list[str], str]:
    """The pieces after the prompt, and the whole text."""
    generator = Generator.__new__(Generator)
    generator.tokenizer = tokenizer
    before = generator._prompt(prompt)

    def steps() -> Steps[list[int], None, Hypothesis]:
        for i in ids:
            yield [i]
        return Hypothesis(tuple(ids), 0.0, 0.0)

    pieces = [*generator._pieces(before, stop, Greedy(), steps())]
    return pieces, generator._generation(before, Hypothesis(tuple(ids), 0.0, 0.0), stop).text


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_streamed_as_it_is(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode_lines([text])[0].tolist()
    for prompt in ("", "ba", "ok 很"):
        for stop in ((), ("好",), ("go",)):
            pieces, whole = streamed(tokenizer, prompt, ids, stop)
            assert prompt + "".join(pieces) == whole


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_tokens_are_streamed_as_they_are(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    of_text = st.sampled_from(tokenizer.encode_lines([" ".join(TEXTS)])[0].tolist())
    ids = data.draw(st.lists(of_text | st.integers(0, tokenizer.vocab_size - 1), max_size=20))
    prompt = data.draw(st.sampled_from(["", "ba ", "吗"]))
    pieces, whole = streamed(tokenizer, prompt, ids)
    assert prompt + "".join(pieces) == whole


@pytest.mark.parametrize("kind", ["llama", "characters", "gpt2", "bpe"])
def test_what_cannot_change_is_not_held_back(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode_lines(["ok 很好吗 ba ko"])[0].tolist()
    pieces, whole = streamed(tokenizer, "", ids)
    assert len(pieces) > 3
    assert whole == "ok 很好吗 ba ko"
    assert not any("�" in piece for piece in pieces)


def test_a_stop_in_bytes_is_seen_at_once() -> None:
    generator = Generator.__new__(Generator)
    generator.tokenizer, generator.long_text = TOKENIZERS["llama"], "slide"
    stopped = generator._request([], Greedy(), ["好"]).stopped
    ids = generator.tokenizer.encode(["很很很很很很很很很很很好"])[0].tolist()
    assert stopped is not None
    assert stopped(ids)
    assert not stopped(ids[:-1])
