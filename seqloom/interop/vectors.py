"""Word vectors in the formats of word2vec (text and binary), fastText (.vec) and GloVe, and as gensim objects."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seqloom.data.formats.lines import blocks, decode, expand, raw_lines
from seqloom.errors import DataError, UsageError, counted, optional
from seqloom.files import writing
from seqloom.models.word_vectors import WordVectors
from seqloom.text.vocabulary import Vocabulary

Row = tuple[str, NDArray[np.float32]]
VectorFormat = Literal["word2vec", "binary", "glove"]
_CUT = "the file may be cut off: download it, or write the vectors, again"
_MISCOUNTED = f"{_CUT}; if it is whole and only its header is wrong: --any-size, or vectors_any_size = true in a config"


def vector_rows(path: str, *, any_size: bool = False) -> Iterator[Row]:
    """The words of a file and their vectors (D), one by one; the file is never in memory as a whole.

    A first line of two numbers ("words dimensions") is a header; what follows it may be text or binary. In text, the
    last D items of a line are the vector and what is before them is the word, which may contain spaces; without a
    header, D is that of the first line.

    Args:
        path: the file.
        any_size: whether there may be more or fewer words than the header states, as in files of exporters that count
            a word too many. A file cut off between two words is then not noticed.

    Raises:
        UsageError: the file cannot be opened.
        DataError: it is cut off, has another number of words than its header states, or is not a file of vectors.
    """
    file = expand(path)
    ahead = blocks(file)
    head = next(ahead, b"")
    if not head:
        raise DataError("the file is empty", where=str(file), cure=_CUT)
    if head.startswith(b"\x80") or head.startswith(b"PK\x03\x04"):
        cure = "if you trust it, convert it: KeyedVectors.load(FILE).save_word2vec_format(NEW_FILE, binary=True)"
        raise DataError("is a pickle or archive, which can run any code when it is loaded", where=str(file), cure=cure)
    first, newline, rest = head.partition(b"\n")
    size = [int(part) for part in first.split()] if all(map(_is_count, first.split())) else []
    if len(size) == 2 and newline and _is_binary(rest, size[1], cut=next(ahead, None) is not None):
        yield from _binary_rows(file, *size, any_size=any_size)
    else:
        yield from _text_rows(file, any_size=any_size)


def _is_binary(rest: bytes, width: int, *, cut: bool) -> bool:
    """Whether the block after the header is binary: not UTF-8, with a NUL, or without numbers at the end of a line.

    If more of the file follows (`cut`), the last character may be incomplete.
    """
    try:
        rest.decode()
    except UnicodeDecodeError as error:
        if not cut or error.start < len(rest) - 3:
            return True
    first, whole, _ = rest.partition(b"\n")
    numbers = first.split()[1:][-width:] if whole else []
    missing = bool(whole) and not numbers
    return b"\0" in rest or missing or not all(_is_number(number.decode()) for number in numbers)


def _text_rows(file: Path, *, any_size: bool) -> Iterator[Row]:
    width, size, number, fits = 0, None, 0, False
    for number, raw in enumerate(raw_lines(file), 1):
        word, *values = decode(raw, file, number).rstrip(" ").split(" ")
        if number == 1 and len(values) == 1 and _is_count(word.encode()) and _is_count(values[0].encode()):
            size, width = int(word), int(values[0])
            continue
        width = width or len(values)
        if 0 < width < len(values) and (size is not None or not _is_number(values[-width - 1])):
            fits |= not _is_number(values[-width - 1])
            word, values = " ".join([word, *values[:-width]]), values[-width:]  # as in glove.840B
        else:
            fits = True
        if len(values) != width or not width:
            cure = "a line is a word and its numbers, separated by single spaces; the file may be cut off"
            raise DataError(f"{len(values)} numbers instead of {width}", where=f"{file}:{number}", cure=cure)
        yield word, _numbers(values, f"{file}:{number}")
    if size is not None and not fits and number > 1:
        problem = f"each line has more than the {counted(width, 'number')} that the header states"
        raise DataError(problem, where=f"{file}:1", cure="write the number of dimensions there")
    if size not in (None, number - 1) and not any_size:
        raise DataError(f"{number - 1:,} words instead of {size:,}", where=str(file), cure=_MISCOUNTED)


def _is_count(text: bytes) -> bool:
    return text.isdigit() and len(text) < 16


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(values: list[str], where: str) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            row = np.array(values, dtype=np.float32)
    except ValueError:
        row = np.array([np.nan], dtype=np.float32)
    if not np.isfinite(row).all():
        raise DataError("not all values are finite numbers", where=where, cure="write the vectors again, as text")
    return row


def _binary_rows(file: Path, size: int, width: int, *, any_size: bool) -> Iterator[Row]:
    ahead = blocks(file)
    data = next(ahead)
    at = data.index(b"\n") + 1
    for word in itertools.count():
        if word == size and not any_size:
            break
        while (space := data.find(b" ", at)) < 0 or len(data) < space + 1 + 4 * width:
            more = next(ahead, None)
            if more is None and not data[at:].strip(b"\n"):
                if any_size:
                    return
                raise DataError(f"ends after {counted(word, 'word')} of {size:,}", where=str(file), cure=_MISCOUNTED)
            if more is None:
                raise DataError(f"ends within word {word + 1:,} of {size:,}", where=str(file), cure=_CUT)
            data, at = data[at:] + more, 0
        row = np.frombuffer(data, "<f4", width, space + 1)
        if not np.isfinite(row).all():
            raise DataError("not all values are finite numbers", where=f"{file}, word {word + 1:,}", cure=_CUT)
        yield data[at:space].lstrip(b"\n").decode("utf-8", errors="replace"), row
        at = space + 1 + 4 * width
    if (data[at:] + next(ahead, b"")).strip(b"\n"):
        raise DataError(f"continues after its {size:,} words of {width}", where=str(file), cure=_MISCOUNTED)


def read_vectors(
    path: str, words: Mapping[str, int], *, any_size: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The vectors (N E) of the words that a file shares with `words`, and their ids in `words` (N).

    If a word occurs twice, its first vector counts. For `any_size` and errors see `vector_rows`.
    """
    vectors: dict[int, NDArray[np.float32]] = {}
    width = 0
    for word, row in vector_rows(path, any_size=any_size):
        width = len(row)
        if (i := words.get(word)) is not None:
            vectors.setdefault(i, row)
    rows = np.array(list(vectors.values()), dtype=np.float32).reshape(len(vectors), width)
    return rows, np.array(list(vectors), dtype=np.int64)


def load_vectors(path: str, *, any_size: bool = False) -> WordVectors:
    """All vectors of a file. If a word occurs twice, its first vector counts. For `any_size` see `vector_rows`."""
    vectors: dict[str, NDArray[np.float32]] = {}
    for word, row in vector_rows(path, any_size=any_size):
        vectors.setdefault(word, row)
    if not vectors:
        raise DataError("has no words", where=path, cure=_CUT)
    vocabulary = Vocabulary(list(vectors), np.zeros(len(vectors), dtype=np.int64))
    return WordVectors(vocabulary, np.stack(list(vectors.values())))


def save_vectors(vectors: WordVectors, path: str, kind: VectorFormat = "word2vec") -> None:
    """Writes all vectors: word2vec = text with a header, like fastText's .vec; binary; glove = text without a header.

    Raises UsageError for a word that is empty or contains white space, which other programs could not read back.
    """
    words, (size, width) = vectors.vocabulary.words, vectors.vectors.shape
    spaced = next((word for word in words if word.split() != [word]), None)
    if spaced is not None:
        problem = f"the word {spaced!r} is empty or contains white space, which separates words in these formats"
        raise UsageError(problem, where=path, cure="remove it from the vectors")
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    with writing(target):
        with part.open("wb") as file:
            if kind != "glove":
                file.write(f"{size} {width}\n".encode())
            for word, row in zip(words, vectors.vectors, strict=True):
                numbers = row.astype("<f4").tobytes() if kind == "binary" else " ".join(map(str, row)).encode()
                file.write(word.encode() + b" " + numbers + b"\n")
        part.replace(target)


def to_gensim(vectors: WordVectors) -> Any:
    """The vectors as gensim.models.KeyedVectors. Raises MissingExtra if gensim is not installed."""
    keyed = optional("gensim.models", "to_gensim", "gensim").KeyedVectors(vectors.vectors.shape[1])
    keyed.add_vectors(vectors.vocabulary.words, vectors.vectors)
    for word, count in zip(vectors.vocabulary.words, vectors.vocabulary.counts.tolist(), strict=True):
        keyed.set_vecattr(word, "count", count)
    return keyed


def from_gensim(keyed: Any) -> WordVectors:
    """The vectors of a gensim.models.KeyedVectors, which share its memory."""
    words = list(keyed.index_to_key)
    has_counts = "count" in getattr(keyed, "expandos", {})
    counts = [int(keyed.get_vecattr(word, "count")) if has_counts else 0 for word in words]
    return WordVectors(Vocabulary(words, np.array(counts, dtype=np.int64)), keyed.vectors)
