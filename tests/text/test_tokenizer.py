from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import models

from seqloom.errors import DataError, RunError, SeqloomError, UsageError
from seqloom.text.tokenizer import BPE, SPECIAL, Characters, Special, Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

TEXTS = [
    "The weather in Zürich is 12.5 °C on 3 May 2021.",
    "das Wetter in Zürich: 12,5 °C am 3. Mai 2021",
    "Fünf Ärzte fuhren übers Meer, 1234 Meilen.",
    "天気 and naïve cafés — all the weathers, all the weathers",
]
ODD = [
    "",
    " ",
    "   ",
    " a",
    "a ",
    "  a  b ",
    "\n",
    "\r\n",
    "\0",
    "\x1c",
    "\x85",
    "\u2028x\u2029",
    "\ufeffa",
    "\ufffd",
    "\u00a0",
]
LOOKALIKES = ["</s>", "<s>", "a </s> b", "<pad>", "<unk>", "<0x41>", "Ġ", "ĊĠ", "##a", "▁a"]
UNICODE = ["e\u0301", "é", "🇩🇪", "👩‍🚀", "İı", "ΑΣ ΑΣ", "\U0010ffff", "\ud7ff\ue000", "ﬁ", "한글", "שָׁלוֹם"]
ANY = st.text(st.characters(exclude_categories=["Cs"]))

TRAINED = {
    "bpe": train_tokenizer(BPE(size=330), TEXTS),
    "bpe without digits": train_tokenizer(BPE(size=330, digits=False), TEXTS),
    "characters": train_tokenizer(Characters(), TEXTS),
}


def again(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    return tokenizer.decode([row.tolist() for row in tokenizer.encode(texts)])


class TestRoundTrip:
    @pytest.mark.parametrize("name", TRAINED)
    @given(text=ANY)
    @settings(max_examples=150)
    def test_any_text(self, name, text):
        assert again(TRAINED[name], [text]) == [text]

    @pytest.mark.parametrize("name", TRAINED)
    def test_odd_texts(self, name):
        texts = ODD + LOOKALIKES + UNICODE
        assert again(TRAINED[name], texts) == texts

    @pytest.mark.parametrize("name", TRAINED)
    def test_every_plane(self, name):
        texts = [chr(c) for c in range(0, 0x110000, 97) if unicodedata.category(chr(c)) != "Cs"]
        assert again(TRAINED[name], texts) == texts

    @pytest.mark.parametrize("name", TRAINED)
    def test_no_text_has_a_special_id(self, name):
        tokenizer = TRAINED[name]
        special = {tokenizer.pad, tokenizer.unknown, tokenizer.start, tokenizer.end}
        for row in tokenizer.encode(ODD + LOOKALIKES + UNICODE):
            assert special.isdisjoint(row.tolist())

    @pytest.mark.parametrize("name", TRAINED)
    def test_an_empty_text_has_no_words(self, name):
        assert TRAINED[name].encode([""])[0].tolist() == []

    @pytest.mark.parametrize("name", TRAINED)
    def test_unknown_characters_survive_as_bytes(self, name):
        tokenizer = TRAINED[name]
        assert "Ж" not in "".join(TEXTS)
        (ids,) = tokenizer.encode(["aЖ"])
        assert len(ids) >= 3  # a letter, and the two bytes of UTF-8
        assert tokenizer.unknown not in ids.tolist()

    def test_special_words_are_left_out_of_text(self):
        tokenizer = TRAINED["bpe"]
        ids = tokenizer.encode(["all the weather"])[0].tolist()
        assert tokenizer.decode([[tokenizer.start, *ids, tokenizer.end, tokenizer.pad]]) == ["all the weather"]


class TestRepeatability:
    @pytest.mark.parametrize("config", [BPE(size=330), WordLevel(size=20), Characters()], ids=lambda c: c.kind)
    def test_trained_again_gives_the_same_bytes(self, config):
        assert train_tokenizer(config, TEXTS).to_json() == train_tokenizer(config, list(TEXTS)).to_json()

    def test_another_process_gives_the_same_bytes(self):
        program = (
            "from seqloom.text.tokenizer import *\n"
            "from seqloom.text.training import train_tokenizer\n"
            "import json, sys\n"
            "texts = json.load(sys.stdin)\n"
            "for config in (BPE(size=330), WordLevel(size=20), Characters()):\n"
            "    print(train_tokenizer(config, texts).digest())\n"
        )
        expected = [train_tokenizer(c, TEXTS).digest() for c in (BPE(size=330), WordLevel(size=20), Characters())]
        for seed, parallel in (("1", "false"), ("2", "true")):
            environment = os.environ | {"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": parallel}
            found = subprocess.run(
                [sys.executable, "-c", program],
                input=json.dumps(TEXTS),
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert found.stdout.split() == expected

    def test_the_digest_is_that_of_the_file(self, tmp_path):
        path = tmp_path / "tokenizer.json"
        path.write_text(TRAINED["bpe"].to_json(), encoding="utf-8")
        assert Tokenizer.load(path).digest() == TRAINED["bpe"].digest()


class TestBPE:
    def test_the_first_ids_are_special_and_every_byte_is_a_word(self):
        tokenizer = TRAINED["bpe"]
        assert [tokenizer.inner.id_to_token(i) for i in range(4)] == list(SPECIAL)
        assert (tokenizer.pad, tokenizer.unknown, tokenizer.start, tokenizer.end) == (0, 1, 2, 3)
        assert tokenizer.vocab_size == 330

    def test_a_word_is_the_same_at_the_start_and_inside(self):
        first, second = TRAINED["bpe"].encode(["weather", "all weather"])
        assert second.tolist()[-len(first) :] == first.tolist()

    def test_each_digit_is_a_word(self):
        texts = ["12 12 12 123 2021 2021 2021"] * 5
        apart, together = (train_tokenizer(BPE(size=280, digits=digits), texts) for digits in (True, False))
        assert "2021" in "".join(together.tokens(together.encode(["2021"])[0]))
        assert len(together.encode(["2021"])[0]) == 1
        assert [t.strip("_") for t in apart.tokens(apart.encode(["2021"])[0]) if t != "_"] == ["2", "0", "2", "1"]

    def test_lowercase(self):
        lower = train_tokenizer(BPE(size=300, lowercase=True), TEXTS)
        assert again(lower, ["Ärzte IN Zürich 5"]) == ["ärzte in zürich 5"]

    @pytest.mark.parametrize("wrong", [{"size": 259}, {"dropout": 1.0}, {"dropout": -0.1}])
    def test_impossible_settings_are_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BPE(**wrong)

    def test_tokens_can_be_read(self):
        tokenizer = TRAINED["bpe"]
        assert "".join(tokenizer.tokens(tokenizer.encode(["Zürich weather"])[0])) == "_Zürich_weather"
        assert set(tokenizer.tokens(tokenizer.encode(["☃"])[0])) == {"_", r"\xe2", r"\x98", r"\x83"}
        assert tokenizer.tokens([3]) == ["</s>"]


class TestCharacters:
    def test_each_character_is_a_word(self):
        tokenizer = TRAINED["characters"]
        text = "all the Ärzte — 5 °C"
        assert "".join(tokenizer.tokens(tokenizer.encode([text])[0])) == text.replace(" ", "_")
        assert len(tokenizer.encode([text])[0]) == len(text)

    def test_the_vocabulary_is_specials_bytes_and_what_was_seen(self):
        assert TRAINED["characters"].vocab_size == 4 + 256 + len(set("".join(TEXTS)))

    def test_lowercase(self):
        lower = train_tokenizer(Characters(lowercase=True), TEXTS)
        assert again(lower, ["Ärzte IN Zürich 5 ЖУК"]) == ["ärzte in zürich 5 жук"]


class TestWords:
    def test_the_most_frequent_by_count_then_alphabet(self):
        tokenizer = train_tokenizer(WordLevel(size=7), ["c b b a", "a d"])
        assert tokenizer.tokens(range(4, tokenizer.vocab_size)) == ["a", "b", "c"]
        assert again(tokenizer, ["a  d b"]) == ["a <unk> b"]

    @given(st.lists(st.sampled_from("abcdefgh"), min_size=1).map(" ".join))
    def test_known_words_come_back(self, text):
        tokenizer = train_tokenizer(WordLevel(), ["a b c d e f g h"])
        assert again(tokenizer, [text]) == [text]

    def test_lowercase(self):
        tokenizer = train_tokenizer(WordLevel(lowercase=True), ["Das Haus"])
        assert again(tokenizer, ["DAS haus"]) == ["das haus"]

    def test_tokens_can_be_read(self):
        tokenizer = train_tokenizer(WordLevel(), ["Ä Ġ"])
        assert tokenizer.tokens(tokenizer.encode(["Ä Ġ x"])[0]) == ["Ä", "Ġ", "<unk>"]

    @pytest.mark.parametrize("word", SPECIAL)
    def test_what_looks_special_is_an_unknown_word(self, word):
        tokenizer = train_tokenizer(WordLevel(), ["a b </s> <s> <pad> <unk> <s>c"])
        a, b = (int(tokenizer.encode([w])[0][0]) for w in "ab")
        assert tokenizer.encode([f"a {word} {word} b"])[0].tolist() == [a, tokenizer.unknown, tokenizer.unknown, b]
        assert again(tokenizer, ["<s>c"]) == ["<s>c"]

    def test_no_words_at_all(self):
        with pytest.raises(DataError):
            train_tokenizer(WordLevel(), ["", "  "])


class TestFiles:
    @pytest.mark.parametrize("name", [*TRAINED, "words"])
    def test_a_loaded_one_does_the_same(self, tmp_path, name):
        tokenizer = TRAINED.get(name) or train_tokenizer(WordLevel(), TEXTS)
        path = tmp_path / "tokenizer.json"
        path.write_text(tokenizer.to_json(), encoding="utf-8")
        loaded = Tokenizer.load(path)
        texts = TEXTS + LOOKALIKES
        assert [r.tolist() for r in loaded.encode(texts)] == [r.tolist() for r in tokenizer.encode(texts)]
        assert again(loaded, texts) == again(tokenizer, texts)
        assert loaded.vocab_size == tokenizer.vocab_size

    def test_names_of_other_houses(self, tmp_path):
        names = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}
        path = tmp_path / "tokenizer.json"
        path.write_text(tokenizers.Tokenizer(models.WordLevel(names, unk_token="[UNK]")).to_str(), encoding="utf-8")
        loaded = Tokenizer.load(path)
        assert (loaded.pad, loaded.unknown, loaded.start, loaded.end) == (0, 1, 2, 3)

    def test_padding_and_truncation_of_the_file_are_ignored(self, tmp_path):
        inner = tokenizers.Tokenizer.from_str(TRAINED["characters"].to_json())
        inner.enable_truncation(2)
        inner.enable_padding(length=9)
        inner.save(str(tmp_path / "tokenizer.json"))
        assert again(Tokenizer.load(tmp_path / "tokenizer.json"), ["a", "weather"]) == ["a", "weather"]

    def test_no_end_of_sentence(self, tmp_path):
        path = tmp_path / "tokenizer.json"
        path.write_text(tokenizers.Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>")).to_str())
        with pytest.raises(UsageError) as caught:
            Tokenizer.load(path)
        assert caught.value.where == str(path)
        assert "</s>" in caught.value.problem

    def test_a_missing_one(self, tmp_path):
        for path in (tmp_path / "none.json", tmp_path):
            with pytest.raises(RunError) as caught:
                Tokenizer.load(path)
            assert caught.value.where == str(path)

    @given(data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_a_damaged_one(self, tmp_path_factory, data):
        whole = TRAINED["characters"].to_json().encode()
        at = data.draw(st.integers(0, len(whole) - 3))
        path = tmp_path_factory.mktemp("damaged") / "tokenizer.json"
        path.write_bytes(whole[:at])
        with pytest.raises(RunError) as caught:
            Tokenizer.load(path)
        assert caught.value.where == str(path)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{}", b"[1]", b"null", b"a\0b", b"\x80" * 100])
    def test_something_else(self, tmp_path, content):
        path = tmp_path / "tokenizer.json"
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"not a tokenizer\.json"):
            Tokenizer.load(path)


@given(texts=st.lists(ANY, max_size=5))
@example(texts=[])
@example(texts=["", " "])
@settings(max_examples=25, deadline=None)
def test_any_texts_can_be_trained_on(texts):
    for config in (BPE(size=300), Characters()):
        assert again(train_tokenizer(config, texts), [*texts, "new Ж"]) == [*texts, "new Ж"]


def test_whole_words_are_those_that_vectors_are_known_of():
    texts = ["the dog sees the dogs of the dog"] * 3
    bpe = train_tokenizer(BPE(size=280), texts).whole_words()
    assert {"the", "dog"} <= {*bpe}
    assert not {"_the", "<s>", "\u0120the", ""} & {*bpe}
    words = train_tokenizer(WordLevel(), texts)
    assert {*words.whole_words()} == {*texts[0].split()}
    assert words.encode(["dog"])[0].tolist() == [words.whole_words()["dog"]]


PUBLISHED = Special(vocab_size=300, pad=7, unknown=8, start=9, end=10, opens=False)


@pytest.mark.parametrize("special", [PUBLISHED, replace(PUBLISHED, suppressed=tuple(range(200)))])
def test_what_a_published_model_says_of_its_words_is_kept(special: Special, tmp_path: Path) -> None:
    plain = train_tokenizer(BPE(size=280), ["a b"])
    tokenizer = Tokenizer(plain.inner, special)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.special == special
    assert (again.vocab_size, again.pad, again.unknown, again.start, again.end, again.stop) == (300, 7, 8, 9, 10, 10)
    assert again.digest() == tokenizer.digest() != plain.digest()
    assert plain.stop == plain.start


def test_lines_are_parted_by_the_end_word_unless_the_model_knows_better() -> None:
    plain = train_tokenizer(BPE(size=280), ["a b"])
    first, second = (ids.tolist() for ids in plain.encode(["a", "b"]))
    assert plain.encode_lines(["a\nb", "a"])[0].tolist() == [*first, plain.end, *second]
    assert Tokenizer(plain.inner, PUBLISHED).encode_lines(["a\nb"])[0].tolist() == plain.encode(["a\nb"])[0].tolist()


def test_words_that_a_model_lacks_are_unknown() -> None:
    plain = train_tokenizer(BPE(size=280), ["a b"])
    (ids,) = plain.encode(["xyz"])
    few = Tokenizer(plain.inner, replace(PUBLISHED, vocab_size=int(ids.max())))
    assert few.encode(["xyz"])[0].tolist() == [8 if i == ids.max() else i for i in ids]


def test_a_file_whose_numbers_have_gaps_or_repeat_is_refused(tmp_path: Path) -> None:
    tree = json.loads(train_tokenizer(BPE(size=280), ["ba ko"]).to_json())
    name = max(tree["model"]["vocab"], key=tree["model"]["vocab"].__getitem__)
    for number in (5000, 7):
        tree["model"]["vocab"][name] = number
        (tmp_path / "t.json").write_text(json.dumps(tree), encoding="utf-8")
        with pytest.raises(SeqloomError, match=r"t\.json"):
            Tokenizer.load(tmp_path / "t.json")
