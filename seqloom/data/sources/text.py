"""Running text: documents of lines in files, gone through as often as needed or held in memory."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from seqloom.data.formats.lines import RECORD_BYTES, LineError, decode, expand, file_format, json_object, raw_lines
from seqloom.errors import DataError
from seqloom.text.tokenizer import Tokenizer

Documents = Literal["blocks", "files", "lines"]
Piece = tuple[str | None, int]
"""A line of a document, or None after its last one; and the number of the line in its file, from 1."""

Say = Callable[[float, int], None]
"""Is told which share of a text is done, and how many lines or words that is."""

_BLOCK_LINES, _BLOCK_CHARACTERS = 10_000, 1 << 22  # encoded at a time
_EVERY = 1000  # lines between words about progress
_FEW, _MOST_DOCUMENTS, _MOST_LINES = 20, 10_000, 100_000
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class TextFiles:
    """Text in files, plain, .gz or .xz; of a .jsonl file the "text" of each record is a document.

    Args:
        train, valid, test: the files; ${VARIABLES} of the environment are filled in.
        held_out: without `valid`, which share of `train` is held out: its last documents, or lines if these are few.
        documents: what parts them, beside ends of files: "blocks" = blank lines; "files" = nothing, and a blank line
            is a line like any other; "lines" = each line is one.
    """

    kind: ClassVar[str] = "text"
    train: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    held_out: float = 0.05
    documents: Documents = "blocks"

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train must name at least one file")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be above 0 and below 1, not {self.held_out}")


@dataclass(frozen=True)
class Source:
    """Documents in files, which are read anew each time.

    Args:
        files: in order.
        read: (file, watch) -> its pieces; see `raw_lines` for `watch`.
        first, last: from which piece on, and before which one: for text that is held out.
    """

    files: tuple[Path, ...]
    read: Callable[[Path, Callable[[Any], object]], Iterator[Piece]]
    first: int = 0
    last: int | None = None

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces()

    def pieces(self, say: Say = lambda share, done: None) -> Iterator[Piece]:
        """All pieces; `say` is told now and then which share of the files has been read, and how many pieces."""
        piece: Piece = (None, 0)
        for piece in islice(self._all(say), self.first, self.last):
            yield piece
        if piece[0] is not None:  # cut within a document
            yield None, piece[1] + 1

    def _all(self, say: Say) -> Iterator[Piece]:
        sizes, done = [size for _, size, _ in self.stamp()], 0
        for i, path in enumerate(self.files):
            opened: list[Any] = []
            for piece in self.read(path, opened.append):
                yield piece
                done += 1
                if done % _EVERY == 0 and not opened[-1].closed:
                    say((sum(sizes[:i]) + opened[-1].tell()) / sum(sizes), done)

    def stamp(self) -> list[list[Any]]:
        """Name, size and time of each file: while they stay, the text is taken to stay."""
        return [[str(path), at.st_size, at.st_mtime_ns] for path, at in ((path, path.stat()) for path in self.files)]


def text_source(paths: Sequence[str], documents: Documents = "blocks") -> Source:
    """The text of some files (plain, .gz, .xz, .jsonl). Raises UsageError for one that is not there.

    Going through it raises UsageError for one that cannot be opened, DataError for one that cannot be read or is blank.
    """
    files = tuple(map(expand, paths))
    for path in files:
        next(raw_lines(path), b"")
    return Source(files, partial(read_file, documents=documents))


def read_file(
    path: Path, watch: Callable[[Any], object] = lambda file: None, documents: Documents = "blocks"
) -> Iterator[Piece]:
    """The pieces of one file. Raises UsageError or DataError."""
    records = file_format(path) == ".jsonl"
    most = {"max_bytes": RECORD_BYTES} if records else {}
    number, inside, found = 0, False, False
    for number, raw in enumerate(raw_lines(path, watch=watch, **most), 1):
        line = decode(raw, path, number, **most)
        blank = not line.strip()
        found |= not blank
        if records:
            if not blank:
                yield from as_document(record_text(line, f"{path}:{number}"), number)
        elif not blank or documents == "files":
            yield line, number
            inside = documents != "lines"
            if not inside:
                yield None, number
        elif inside:
            yield None, number
            inside = False
    if not number:
        raise DataError("the file is empty", where=str(path), cure="name files with text in them")
    if not found:
        raise DataError("all its lines are blank", where=str(path), cure="name files with text in them")
    if inside:
        yield None, number + 1


def as_document(text: str, number: int) -> Iterator[Piece]:
    """The pieces of a document that is held as one string, of which all have the number."""
    for line in text.removesuffix("\n").split("\n"):
        yield line.removesuffix("\r"), number
    yield None, number


def is_text(value: object) -> bool:
    """Whether a JSON value is a text that can be encoded: no NUL, no half of a character, not blank."""
    return isinstance(value, str) and not _NOT_TEXT.search(value) and bool(value.strip())


def record_text(line: str, where: str) -> str:
    """The text of a JSON record. Raises LineError."""
    wanted = '{"text": "..."}'
    text = json_object(line, where, wanted).get("text")
    if not is_text(text):
        raise LineError("lines without a text", 'no text under "text"', where=where, cure=f"write {wanted}")
    return str(text)


def held_out(source: Source, share: float) -> tuple[Source, Source, str]:
    """The text without the last share of it, this, and words about it: whole documents, or lines if there are under 20.

    Raises DataError for a text of a single line.
    """
    ends = array("q", (n for n, (line, _) in enumerate(source, 1) if line is None))
    documents, lines = len(ends), ends[-1]
    if documents >= _FEW:
        count = min(max(1, int(documents * share)), _MOST_DOCUMENTS)
        cut, what = ends[-count - 1], f"{count:,} of {documents:,} documents"
    else:
        count = min(max(1, int((lines - documents) * share)), _MOST_LINES)
        cut, what = lines - 1 - count, f"{count:,} of {lines - documents:,} lines"
    if not cut:
        cure = "name a text with --data.valid"
        raise DataError("a single line: nothing can be held out", where=str(source.files[0]), cure=cure)
    return replace(source, last=cut), replace(source, first=cut), f"the last {what} are held out as validation data"


@dataclass(frozen=True)
class Text:
    """Documents of lines in memory.

    Args:
        lines: None after each document.
        numbers: where each stands in its file, from 1.
    """

    lines: Sequence[str | None]
    numbers: Sequence[int] = field(repr=False)

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Text:
        """All of it."""
        lines, numbers = zip(*pieces, strict=True)
        return cls(lines, numbers)

    def __iter__(self) -> Iterator[Piece]:
        return zip(self.lines, self.numbers, strict=True)

    def digest(self) -> str:
        """SHA-256; equal digests mean equal documents."""
        return text_digest(self)

    def sizes(self) -> dict[str, int]:
        """How many "words" (between blanks; each end of a line or document is one), "characters" and "bytes"."""
        lines = [line or "" for line in self.lines]
        return {
            "words": sum(len(line.split()) + 1 for line in lines),
            "characters": sum(len(line) + 1 for line in lines),
            "bytes": sum(len(line.encode()) + 1 for line in lines),
        }


def blocks_of(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Some pieces at a time, so many as are well encoded together."""
    block: list[Piece] = []
    size = 0
    for piece in pieces:
        block.append(piece)
        size += len(piece[0] or "")
        if len(block) >= _BLOCK_LINES or size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def text_digest(pieces: Iterable[Piece]) -> str:
    """SHA-256 of a text; equal digests mean equal documents."""
    sha = hashlib.sha256()
    for block in blocks_of(pieces):
        sha.update(as_bytes(block))
    return sha.hexdigest()


def as_bytes(block: Sequence[Piece]) -> bytes:
    """The block as it enters a digest."""
    return "".join("\0" if line is None else f"{line}\n" for line, _ in block).encode()


def encode_block(block: Sequence[Piece], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a block, and how many belong to each piece.

    A line ends with the tokenizer's end token, or with what a published one has for the end of a line. Its start token
    stands after each document, and so before the next one.
    """
    own = tokenizer.special is None
    rows = tokenizer.encode(["" if line is None else line if own else f"{line}\n" for line, _ in block])
    marked = np.array([own or line is None for line, _ in block])
    sizes = np.fromiter(map(len, rows), np.int64, len(rows)) + marked
    last = np.zeros(sizes.sum(), dtype=bool)
    last[sizes.cumsum()[marked] - 1] = True
    ids = np.empty(len(last), dtype=np.int32)
    ids[~last] = np.concatenate(rows)
    ids[last] = [tokenizer.start if line is None else tokenizer.end for line, _ in block if own or line is None]
    return ids, sizes


def encode_text(text: Text, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the whole text, and the line that each belongs to."""
    ids, sizes = zip(*(encode_block(block, tokenizer) for block in blocks_of(text)), strict=True)
    return np.concatenate(ids), np.repeat(np.asarray(text.numbers, dtype=np.int32), np.concatenate(sizes))
