from __future__ import annotations

import gzip
import lzma
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.batches.word_ids import END
from seqloom.data.formats import lines
from seqloom.data.sources.words import WordText, count_words, encode_words, text_files
from seqloom.errors import DataError, UsageError
from seqloom.text.vocabulary import Vocabulary

BLOCK = 1 << 16
SPACES = [" ", "  ", "\t", "\n", "\n\n", "\r\n", "\v", "\u00a0", "\u2028", "\x85"]
PIECES = st.sampled_from(["a", "b", "É", "ß", "-", "'", "’", "_", "7", "߶", "x", *SPACES])
TEXTS = st.lists(PIECES, max_size=47).map("".join)


def text(path: Path, **options: Any) -> WordText:
    return WordText((str(path),), **({"min_count": 1} | options))


def counted(config: WordText, **options: Any) -> dict[str, int]:
    vocabulary = count_words(config, lambda read, types: None, **options)
    return dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True))


def encoded(config: WordText, vocabulary: Vocabulary, folder: Path) -> list[int]:
    ids = encode_words(config, vocabulary, folder, lambda done: None)
    return ids.read(0, ids.size).tolist()


def words_of(line: str, config: WordText) -> list[str]:
    """Between white space, or between punctuation, too, of which an apostrophe within a word is none."""
    line = line.lower() if config.lowercase else line
    if config.split == "spaces":
        return line.split()
    padded, kept = f" {line} ", []
    for before, char, after in zip(padded, padded[1:], padded[2:], strict=False):
        inside = char in "'’" and of_a_word(before) and of_a_word(after)
        kept.append(char if of_a_word(char) or inside else " ")
    return "".join(kept).split()


def of_a_word(char: str) -> bool:
    marks = (range(0xA1, 0xC0), range(0x2000, 0x2070), range(0x3000, 0x3040))
    return not char.isspace() and char not in string.punctuation and not any(ord(char) in part for part in marks)


CONFIGS = st.fixed_dictionaries({"split": st.sampled_from(["spaces", "words"]), "lowercase": st.booleans()})


@pytest.fixture
def small_blocks() -> Iterator[None]:
    """Files are read seven bytes at a time, so that small ones have many borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", 7)
        yield


@pytest.mark.usefixtures("small_blocks")
@given(content=TEXTS, options=CONFIGS)
def test_counts_and_ids_are_those_of_plain_splitting(tmp_path_factory, content, options):
    path = tmp_path_factory.mktemp("corpus") / "a.txt"
    path.write_bytes(content.encode())
    config = text(path, **options)
    expected = [words_of(line, config) for line in content.split("\n")]
    if content.endswith("\n"):
        expected.pop()
    counts = Counter(word for line in expected for word in line)
    if not counts:
        with pytest.raises(DataError, match="no word"):
            counted(config)
        return
    assert counted(config) == counts
    vocabulary = Vocabulary(sorted(counts)[::2], np.ones((len(counts) + 1) // 2, dtype=np.int64))
    rows = [[vocabulary.index[word] for word in line if word in vocabulary.index] for line in expected]
    assert encoded(config, vocabulary, path.parent) == [number for line in rows for number in (*line, END)]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_words_across_the_borders_of_blocks(tmp_path, suffix):
    """One line of several blocks without an end; each word is another, and most borders are within one."""
    words = [f"wörd{n}{'ß' * (n % 11)}" for n in range(25_013)]
    data = " ".join(words).encode()
    assert len(data) > 5 * BLOCK
    path = tmp_path / f"long.txt{suffix}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix](data))
    config = text(path)
    assert counted(config) == dict.fromkeys(words, 1)
    vocabulary = Vocabulary(words, np.ones(len(words), dtype=np.int64))
    assert encoded(config, vocabulary, tmp_path) == [*range(len(words)), END]


def test_a_word_longer_than_a_block(tmp_path):
    long = "ä" * (2 * BLOCK + 5)
    path = tmp_path / "a.txt"
    path.write_text(f"b {long} b\n{long}", encoding="utf-8")
    assert counted(text(path)) == {"b": 2, long: 2}


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone two\r\n\r\ntwo\r\n".encode())
    config = text(path)
    assert counted(config) == {"one": 1, "two": 2}
    vocabulary = Vocabulary(["two", "one"], np.array([2, 1]))
    assert encoded(config, vocabulary, tmp_path)[:5] == [1, 0, END, END, 0]


def test_a_byte_order_mark_is_only_taken_from_the_beginning_of_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x " * (BLOCK // 2) + "\ufeffy z", encoding="utf-8")
    assert counted(text(path)) == {"x": BLOCK // 2, "\ufeffy": 1, "z": 1}


def test_lower_case(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("The the THE ÉTÉ ΟΔΟΣ\n", encoding="utf-8")
    assert counted(text(path, lowercase=True)) == {"the": 3, "été": 1, "οδος": 1}
    assert counted(text(path)) == dict.fromkeys(["The", "the", "THE", "ÉTÉ", "ΟΔΟΣ"], 1)


def test_words_are_runs_of_letters_and_digits(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Don't stop, “the 7 l’été's_end”... x-y ''\n", encoding="utf-8")
    counts = counted(text(path, split="words"))
    assert counts == dict.fromkeys(["Don't", "stop", "the", "7", "l’été's", "end", "x", "y"], 1)


def test_rare_words_and_too_many_words(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("c c c b b b a a d\n", encoding="utf-8")
    assert list(counted(text(path, min_count=2))) == ["b", "c", "a"]
    assert list(counted(text(path, max_words=1))) == ["b"]
    vocabulary = count_words(text(path, min_count=3), lambda read, types: None)
    assert encoded(text(path), vocabulary, tmp_path)[:7] == [1, 1, 1, 0, 0, 0, END]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.txt").write_text("three\n")
    (folder / "a.txt").write_text("one")
    (folder / "sub" / "a.txt").write_text("four four\n")
    (folder / "a.txt.gz").write_bytes(gzip.compress(b"two\n"))
    (folder / ".hidden").write_text("never\n")
    other = tmp_path / "z.txt"
    other.write_text("zero\n")
    config = WordText((str(other), str(folder)), min_count=1)
    names = ["z.txt", "a.txt", "a.txt.gz", "b.txt", "a.txt"]
    assert [path.name for path in text_files(config)] == names
    vocabulary = Vocabulary(["zero", "one", "two", "three", "four"], np.ones(5, dtype=np.int64))
    ids = encoded(config, vocabulary, tmp_path)
    assert [number for number in ids if number != END] == [0, 1, 2, 3, 4, 4]
    assert ids[ids.index(1) + 1] == END  # a file that does not end with a line end


def test_there_must_be_files_with_words(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no file in this folder"):
        counted(text(tmp_path / "empty"))
    with pytest.raises(UsageError, match="no such file"):
        counted(text(tmp_path / "absent.txt"))
    for name, content in (("empty.txt", ""), ("blank.txt", " \n\n\t\r\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match="there is no word") as found:
            counted(text(tmp_path / name))
        assert found.value.where == str(tmp_path / name)


def test_no_word_occurs_often_enough(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a b a\n")
    with pytest.raises(DataError, match=r"min_count = 3.* the most frequent one occurs 2 times") as found:
        counted(text(path, min_count=3))
    assert "--data.min-count 1" in found.value.cure


@pytest.mark.parametrize(("bad", "problem"), [(b"\xe9t\xe9", "byte 0xe9 at column 5"), (b"a\0b", "NUL")])
@pytest.mark.parametrize("before", [0, 1, 40_009])
def test_bytes_that_are_no_text(tmp_path, bad, problem, before):
    path = tmp_path / "a.txt"
    path.write_bytes(b"some more words\n" * before + b"the " + bad + b" of\n" + b"and so on\n" * 99)
    assert before < 2 or path.stat().st_size > 9 * BLOCK
    with pytest.raises(DataError, match=problem) as found:
        counted(text(path))
    assert found.value.where == f"{path}:{before + 1}"
    assert found.value.cure


def test_the_column_of_a_bad_byte_is_that_in_its_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x\n" + b"ab " * 40_009 + b"\xe9")
    with pytest.raises(DataError) as found:
        counted(text(path))
    assert found.value.where == f"{path}:2"
    assert found.value.problem.endswith(f"at column {3 * 40_009 + 1}")


def test_a_text_without_white_space(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"a b\n" + b"x" * (1 << 21))
    with pytest.raises(DataError, match="without white space") as found:
        counted(text(path))
    assert found.value.where == f"{path}:2"


def test_forgetting_rare_words_keeps_frequent_ones(tmp_path):
    frequent = [f"often{n}" for n in range(17)]
    rare = [f"once{n}" for n in range(60_013)]
    path = tmp_path / "a.txt"
    with path.open("w") as file:
        for at, word in enumerate(rare):
            file.write(f"{word} {frequent[at % 17]} {frequent[at % 5]}\n")
    whole, pruned = counted(text(path)), counted(text(path), types=101)
    assert len(whole) == 17 + len(rare)
    assert len(pruned) <= 101
    assert {word: pruned[word] for word in frequent} == {word: whole[word] for word in frequent}
    assert all(count <= whole[word] for word, count in pruned.items())


def test_what_is_said_meanwhile(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a b a\n" * 40_009)
    reports: list[tuple[int, int]] = []
    vocabulary = count_words(text(path), lambda read, types: reports.append((read, types)))
    assert len(reports) > 3
    assert reports == sorted(reports)
    assert reports[-1][0] == 3 * 40_009
    done: list[int] = []
    ids = encode_words(text(path), vocabulary, tmp_path, done.append)
    assert done == sorted(done)
    assert done[-1] == ids.size >= 4 * 40_009


@pytest.mark.parametrize(
    "options", [{"train": ()}, {"min_count": 0}, {"max_words": -1}, {"phrases": -1}, {"threshold": 0.0}], ids=str
)
def test_values_that_make_no_sense(options):
    with pytest.raises(ValueError, match="must"):
        WordText(**({"train": ("a",)} | options))
