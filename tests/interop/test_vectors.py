from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from seqloom.errors import DataError
from seqloom.interop.vectors import read_vectors, vector_rows
from seqloom.tasks.word_vectors.task import load_words

WORDS = {"dog": 5, "cat": 7, "émeu": 9}
LINES = ["the 1 2 3", "cat 0.5 -1 2e-1", "émeu 1 1 1", "cat 9 9 9"]


def written(path: Path, *lines: str) -> str:
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("header", [(), ("4 3",)], ids=["GloVe", "word2vec"])
@pytest.mark.parametrize("name", ["v.txt", "v.vec.gz"])
def test_the_vectors_of_the_words_asked_for(tmp_path, header, name):
    rows, at = read_vectors(written(tmp_path / name, *header, *LINES), WORDS)
    assert at.tolist() == [7, 9]
    assert np.array_equal(rows, np.array([[0.5, -1, 0.2], [1, 1, 1]], dtype=np.float32))


@pytest.mark.parametrize("name", ["v.txt", "v.vec.gz"])
def test_a_header_gives_the_width_so_that_words_may_contain_spaces(tmp_path, name):
    """The vector is at the end of the line; what is before it is the word, also if it ends in a number."""
    lines = ["4 3", "New York 1 2 3", "at 7 8 4 5 6", " 7 8 9", ". . . 1 1 1"]
    rows = dict(vector_rows(written(tmp_path / name, *lines)))
    assert {word: row.tolist() for word, row in rows.items()} == {
        "New York": [1, 2, 3],
        "at 7 8": [4, 5, 6],
        "": [7, 8, 9],
        ". . .": [1, 1, 1],
    }


@pytest.mark.parametrize("stated", [2, 4, 5])
def test_a_header_that_counts_wrong_is_read_by_option_alone(tmp_path, stated):
    text = written(tmp_path / "v.txt", f"{stated} 3", *LINES[:3])
    binary = tmp_path / "v.bin"
    rows = [(line.split()[0].encode(), np.array(line.split()[1:], dtype="<f4").tobytes()) for line in LINES[:3]]
    binary.write_bytes(f"{stated} 3\n".encode() + b"".join(word + b" " + row + b"\n" for word, row in rows))
    for path in (text, str(binary)):
        with pytest.raises(
            DataError, match=r"(?s)(words instead of|ends after 3 words of|continues after).*--any-size"
        ):
            list(vector_rows(path))
        read = list(vector_rows(path, any_size=True))
        assert [word for word, _ in read] == ["the", "cat", "émeu"]
        assert read_vectors(path, WORDS, any_size=True)[1].tolist() == [7, 9]
        assert len(load_words(path, any_size=True).vocabulary) == 3


def test_a_file_cut_within_a_word_is_refused_with_the_option_too(tmp_path):
    binary = tmp_path / "v.bin"
    binary.write_bytes(b"2 3\na " + bytes(12) + b"\nb " + bytes(11))
    with pytest.raises(DataError, match="ends within word 2 of 2"):
        list(vector_rows(str(binary), any_size=True))
    with pytest.raises(DataError, match="1 numbers instead of 2"):
        list(vector_rows(written(tmp_path / "v.txt", "2 2", "a 1 2", "b 1"), any_size=True))


def test_no_word_of_the_vocabulary(tmp_path):
    rows, at = read_vectors(written(tmp_path / "v.txt", *LINES), {"zebra": 1})
    assert rows.shape == (0, 3)
    assert at.shape == (0,)


@pytest.mark.parametrize(
    ("lines", "line", "problem"),
    [
        (["a 1 2", "b 1"], 2, "1 numbers instead of 2"),
        (["2 3", "a 1 2"], 2, "2 numbers instead of 3"),
        (["a 1 2", "dog 1 x"], 2, "finite"),
        (["a 1 2", "dog 1 nan"], 2, "finite"),
        (["word"], 1, "0 numbers"),
    ],
)
def test_lines_that_are_no_vector(tmp_path, lines, line, problem):
    path = written(tmp_path / "v.txt", *lines)
    with pytest.raises(DataError, match=problem) as error:
        read_vectors(path, WORDS)
    assert error.value.where == f"{path}:{line}"
