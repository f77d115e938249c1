"""Word vectors written and read in each format, by us and by gensim."""

from __future__ import annotations

import gzip
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import example, given
from hypothesis import strategies as st

from seqloom.data.formats import lines
from seqloom.errors import DataError, MissingExtra, SeqloomError, UsageError
from seqloom.interop.vectors import from_gensim, load_vectors, save_vectors, to_gensim, vector_rows
from seqloom.models.word_vectors import WordVectors
from seqloom.text.vocabulary import Vocabulary

KINDS = ["word2vec", "binary", "glove"]
# Text cannot hold a NUL; a byte order mark in front of a file is no part of its first word.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
WORDS = st.text(LETTERS, min_size=1, max_size=7).filter(lambda word: word.split() == [word])
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], np.ndarray]:
    words = draw(st.lists(WORDS | st.sampled_from(["3", "17", "#", '"', "0x1", "nan"]), min_size=1, unique=True))
    width = draw(st.integers(1, 7))
    numbers = draw(st.lists(NUMBERS, min_size=width, max_size=width * len(words)))
    return words, np.resize(np.array(numbers, dtype=np.float32), (len(words), width))


def vectors(words: list[str], table: np.ndarray) -> WordVectors:
    counts = np.arange(len(words), 0, -1) * 13
    return WordVectors(Vocabulary(words, counts), np.ascontiguousarray(table, dtype=np.float32))


def some(words: int = 11, width: int = 5) -> WordVectors:
    table = np.random.default_rng(1).normal(size=(words, width))
    return vectors([f"wörd{n}" for n in range(words)], table)


def assert_same(loaded: WordVectors, expected: WordVectors) -> None:
    assert loaded.vocabulary.words == expected.vocabulary.words
    assert loaded.vectors.dtype == np.float32
    assert loaded.vectors.tobytes() == expected.vectors.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@given(table=tables(), block=st.sampled_from([500, 1 << 16]))
@example(table=(["0"], np.array([[0.02]], dtype=np.float32)), block=500)  # whose bytes are a line feed and letters
def test_what_is_written_is_read_back_to_the_bit(tmp_path_factory, kind, table, block):
    saved, path = vectors(*table), str(tmp_path_factory.getbasetemp() / f"vectors.{kind}")
    save_vectors(saved, path, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", block)
        assert_same(load_vectors(path), saved)


@pytest.mark.parametrize("block", range(20, 40))
def test_text_stays_text_wherever_a_block_cuts_a_character(tmp_path, monkeypatch, block):
    saved, path = vectors(["0", "ࠀࠀࠀࠀ𐀀𐀀𐀀𐀀"], np.ones((2, 2), dtype=np.float32)), str(tmp_path / "vectors.txt")
    save_vectors(saved, path, "word2vec")
    monkeypatch.setattr(lines, "_BLOCK", block)
    assert_same(load_vectors(path), saved)


@pytest.mark.parametrize("width", [1, 2, 3, 997, 7919])
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_across_the_borders_of_blocks(tmp_path, kind, width):
    """Files are read 64 KiB at a time; a vector may be longer than that."""
    saved = some(words=1 + 2 * (1 << 16) // (4 * width), width=width)
    path = str(tmp_path / "v")
    save_vectors(saved, path, kind)
    assert_same(load_vectors(path), saved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_file(tmp_path, kind):
    save_vectors(some(), str(tmp_path / "v"), kind)
    path = tmp_path / "v.gz"
    path.write_bytes(gzip.compress((tmp_path / "v").read_bytes()))
    assert_same(load_vectors(str(path)), some())


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("number", ["1", "-0.5", "3e-05", "1234"])
def test_text_of_a_small_width_is_not_taken_for_binary(tmp_path, width, number):
    path = tmp_path / "v.vec"
    rows = [f"{word} {' '.join([number] * width)}\n" for word in ("a", "7", "cat")]
    path.write_text(f"3 {width}\n" + "".join(rows))
    loaded = load_vectors(str(path))
    assert loaded.vocabulary.words == ["a", "7", "cat"]
    assert np.array_equal(loaded.vectors, np.full((3, width), float(number), dtype=np.float32))


@pytest.mark.parametrize("width", [1, 2, 5, 31])
@pytest.mark.parametrize("begin", [b"\n\n\n\n", b"    ", b"5\n\x80?", b"12 4", b" \n\x80?", b"\0\0\0\0", b"nan\n"])
def test_binary_numbers_that_look_like_text(tmp_path, width, begin):
    """The bytes of a number may be digits, spaces and line ends: those of 1.0003115 begin with "5" and a line end."""
    table = np.full((3, width), 0.1, dtype=np.float32)
    table[0, 0] = np.frombuffer(begin, dtype="<f4")[0]
    saved = vectors(["the", "of", "and"], table)
    path = str(tmp_path / "v.bin")
    save_vectors(saved, path, "binary")
    assert_same(load_vectors(path), saved)


def test_binary_without_a_line_end_after_each_vector(tmp_path):
    """As the vectors that Google published."""
    saved = some()
    path = tmp_path / "v.bin"
    rows = zip(saved.vocabulary.words, saved.vectors, strict=True)
    path.write_bytes(b"11 5\n" + b"".join(word.encode() + b" " + row.tobytes() for word, row in rows))
    assert_same(load_vectors(str(path)), saved)


def test_of_a_word_that_occurs_twice_the_first_vector_counts(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2\nb 3 4\na 5 6\n")
    assert_same(load_vectors(str(path)), vectors(["a", "b"], np.array([[1, 2], [3, 4]])))


@pytest.mark.parametrize("kind", ["word2vec", "binary"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, kind):
    save_vectors(some(words=3, width=2), str(tmp_path / "v"), kind)
    data, cut = (tmp_path / "v").read_bytes(), tmp_path / "cut"
    # Of text, nobody can tell whether the last number had more digits; of binary, the last line end is not needed.
    end = len(data) - 1 if kind == "binary" else data.rindex(b" ")
    for size in range(data.index(b"\n") + 1, end):
        cut.write_bytes(data[:size])
        with pytest.raises(DataError) as error:
            load_vectors(str(cut))
        assert str(cut) in error.value.where
        assert error.value.cure


def test_text_cut_off_within_a_line(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2 3\nb 1 2")
    with pytest.raises(DataError, match="2 numbers instead of 3") as error:
        load_vectors(str(path))
    assert error.value.where == f"{path}:2"


@pytest.mark.parametrize("kind", ["word2vec", "binary"])
@pytest.mark.parametrize("header", ["10 5", "12 5", "1011 5", "11 4", "11 6"])
def test_a_header_with_another_number_of_words_or_another_width(tmp_path, kind, header):
    path = tmp_path / "v"
    save_vectors(some(), str(path), kind)
    data = path.read_bytes()
    path.write_bytes(f"{header}\n".encode() + data[data.index(b"\n") + 1 :])
    with pytest.raises(DataError) as error:
        load_vectors(str(path))
    assert str(path) in error.value.where


HUGE = b"1" * 5000  # more digits than int() reads


@pytest.mark.parametrize(
    "content", [b"", b"3 2\n", b"0 2\n", b"\n", b"0 0\n", b"\n3 2\na 1 2\n", HUGE + b" 2\na 1 2\n", b"2 " + HUGE]
)
def test_files_without_vectors(tmp_path, content):
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(DataError):
        load_vectors(str(path))


@pytest.mark.parametrize("number", ["x", "nan", "inf", "1e39", "-1e60"])
def test_numbers_that_are_not_finite(tmp_path, number):
    path = tmp_path / "v.txt"
    path.write_text(f"a 1 2\nb 1 {number}\n")
    with pytest.raises(DataError, match="finite") as error:
        load_vectors(str(path))
    assert error.value.where == f"{path}:2"


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_binary_numbers_that_are_not_finite(tmp_path, number):
    saved = some()
    saved.vectors[7, 2] = number
    save_vectors(saved, str(tmp_path / "v.bin"), "binary")
    with pytest.raises(DataError, match="finite") as error:
        load_vectors(str(tmp_path / "v.bin"))
    assert "word 8" in error.value.where


def test_a_first_line_of_two_odd_digits(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("² 5\na 7\n", encoding="utf-8")
    assert_same(load_vectors(str(path)), vectors(["²", "a"], np.array([[5], [7]])))


def test_a_pickle_is_refused(tmp_path):
    """A pickle in gensim's format, and any other; also in an archive."""
    made = to_gensim(some())
    made.save(str(tmp_path / "v.kv"))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps({"a": [1.0]}, protocol))
    np.savez(tmp_path / "v.npz", some().vectors)
    files = [path for path in tmp_path.iterdir() if path.suffix in (".kv", ".pkl", ".npz")]
    assert len(files) > 4
    for path in files:
        with pytest.raises(DataError, match="a pickle or archive") as error:
            load_vectors(str(path))
        assert error.value.where == str(path)


@pytest.mark.parametrize("word", ["new york", "a\tb", "a\u00a0b", "x\n", "\x85", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_words_with_white_space_are_not_written(tmp_path, kind, word):
    path = tmp_path / "v"
    path.write_text("what was there")
    with pytest.raises(UsageError, match="white space"):
        save_vectors(vectors(["a", word], np.ones((2, 3))), str(path), kind)
    assert path.read_text() == "what was there"
    assert [file.name for file in tmp_path.iterdir()] == ["v"]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(SeqloomError, match="cannot be written"):
        save_vectors(some(), str(tmp_path / "absent" / "v"))


def test_a_file_is_read_row_by_row(tmp_path):
    """The first words of a file are there before its end is looked at."""
    for kind in ("word2vec", "binary"):
        path = tmp_path / f"v.{kind}"
        save_vectors(some(words=10_007, width=3), str(path), kind)
        path.write_bytes(path.read_bytes()[:-70_001])
        rows = vector_rows(str(path))
        word, row = next(rows)
        assert (word, row.tolist()) == ("wörd0", some(10_007, 3).vectors[0].tolist())
        with pytest.raises(DataError):
            list(rows)


@pytest.mark.filterwarnings(
    "ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # raised by gensim
@pytest.mark.parametrize("kind", KINDS)
def test_gensim_reads_what_we_write(tmp_path, kind):
    saved, path = some(), str(tmp_path / "v")
    save_vectors(saved, path, kind)
    loaded = KeyedVectors.load_word2vec_format(path, binary=kind == "binary", no_header=kind == "glove")
    assert loaded.index_to_key == saved.vocabulary.words
    assert np.array_equal(loaded.vectors, saved.vectors)


@pytest.mark.parametrize(("binary", "header"), [(False, True), (False, False), (True, True)])
def test_we_read_what_gensim_writes(tmp_path, binary, header):
    saved, path = some(), str(tmp_path / "v")
    made = KeyedVectors(5)
    made.add_vectors(saved.vocabulary.words, saved.vectors)
    made.save_word2vec_format(path, binary=binary, write_header=header)
    assert_same(load_vectors(path), saved)


def test_without_gensim_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(MissingExtra, match=r"seqloom\[gensim\]"):
        to_gensim(some())


def test_to_gensim_and_back():
    saved = some()
    made = to_gensim(saved)
    assert made.index_to_key == saved.vocabulary.words
    assert np.array_equal(made.vectors, saved.vectors)
    assert all(np.array_equal(made[word], saved[word]) for word in saved.vocabulary.words)
    for count in (3, 10):
        theirs, ours = made.most_similar("wörd3", topn=count), saved.similar(["wörd3"], count)
        assert [word for word, _ in theirs] == [word for word, _ in ours]
        assert [value for _, value in theirs] == pytest.approx([value for _, value in ours], abs=1e-6)
    loaded = from_gensim(made)
    assert_same(loaded, saved)
    assert loaded.vocabulary.counts.tolist() == saved.vocabulary.counts.tolist()


def test_from_gensim_without_counts():
    made = KeyedVectors(3)
    made.add_vectors(["a", "b"], np.ones((2, 3), dtype=np.float32))
    loaded = from_gensim(made)
    assert loaded.vocabulary.words == ["a", "b"]
    assert loaded.vocabulary.counts.tolist() == [0, 0]


def test_the_vectors_of_a_trained_gensim_model():
    from gensim.models import Word2Vec

    trained = Word2Vec([["a", "b", "c", "a"]] * 5, vector_size=3, min_count=1, workers=1, epochs=1)
    loaded = from_gensim(trained.wv)
    assert dict(zip(loaded.vocabulary.words, loaded.vocabulary.counts.tolist(), strict=True)) == {
        "a": 10,
        "b": 5,
        "c": 5,
    }
    assert np.array_equal(loaded["c"], trained.wv["c"])


def test_words_of_a_file_that_is_no_utf_8(tmp_path: Path):
    path = tmp_path / "v.txt"
    path.write_bytes(b"a 1 2\ncaf\xe9 3 4\n")
    with pytest.raises(DataError, match="UTF-8") as error:
        load_vectors(str(path))
    assert error.value.where == f"{path}:2"
