from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from seqloom.errors import DataError
from seqloom.interop.vectors import read_vectors

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
