"""Running text: documents of lines in files, read again as often as needed or held in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from seqloom.data.batches.shards import Keeping, find_shards, write_shards
from seqloom.data.batches.stream import Layout, Stream, encode_text
from seqloom.data.checks.pairs import Finding, Parse, scan_texts
from seqloom.data.formats.lines import (
    RECORD_BYTES,
    LineError,
    decode,
    expand,
    file_format,
    is_blank,
    is_text,
    json_object,
    raw_lines,
)
from seqloom.data.rows import Piece, ReportProgress, Text
from seqloom.data.sources.source import Reading, SplitFiles, TextSource, TextSplit
from seqloom.errors import DataError, counted
from seqloom.limits import Bounds
from seqloom.text.tokenizer import Tokenizer

DocumentUnit = Literal["blocks", "files", "lines"]

_EVERY = 1000  # lines between reports of progress
_FEW, _MOST_DOCUMENTS, _MOST_LINES = 20, 10_000, 100_000

S = TypeVar("S", bound=TextSplit)


@dataclass(frozen=True)
class Source(TextSplit):
    """Documents in files, which are read again each time.

    Args:
        files: in order.
        read: (file, watch) -> its pieces; see `raw_lines` for `watch`.
        documents: the unit of the documents of each file.
        first, last: the first piece, and the one after the last: for text that is held out.
    """

    files: tuple[Path, ...]
    read: Callable[[Path, Callable[[Any], object]], Iterator[Piece]]
    documents: tuple[DocumentUnit, ...] = ()
    first: int = 0
    last: int | None = None

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces()

    def pieces(self, report: ReportProgress = lambda share, done: None) -> Iterator[Piece]:
        """See TextSplit."""
        piece: Piece = (None, 0)
        for piece in islice(self._all(report), self.first, self.last):
            yield piece
        if piece[0] is not None:  # cut within a document
            yield None, piece[1] + 1

    def _all(self, report: ReportProgress) -> Iterator[Piece]:
        sizes, done = [size for _, size, _ in self._files()], 0
        for i, path in enumerate(self.files):
            opened: list[Any] = []
            for piece in self.read(path, opened.append):
                yield piece
                done += 1
                if done % _EVERY == 0 and not opened[-1].closed:
                    report((sum(sizes[:i]) + opened[-1].tell()) / sum(sizes), done)

    def stamp(self) -> list[Any]:
        """Name, size, time and unit of each file, and the part: while unchanged, so is the text, by assumption."""
        return [*self._files(), *self.documents, self.first, self.last]

    def _files(self) -> list[list[Any]]:
        return [[str(path), at.st_size, at.st_mtime_ns] for path, at in ((path, path.stat()) for path in self.files)]

    @cached_property
    def text(self) -> Text:
        """The whole text in memory."""
        return Text.of(self)

    def digest(self) -> str:
        """See TextSplit."""
        return self.text.digest()

    def batches(self, tokenizer: Tokenizer, layout: Layout, keeping: Keeping) -> tuple[Stream, str]:
        """See TextSplit; text that was tokenized before is not tokenized again."""
        shards = find_shards(keeping.folder, self, tokenizer) or write_shards(self, tokenizer, keeping)
        return layout.stream(shards.ids, shards.lines, tokenizer), shards.digest

    def reading(self, tokenizer: Tokenizer, layout: Layout, lanes: int) -> Reading:
        """See TextSplit; the prompts are the first words of some lines."""
        ids, numbers = encode_text(self.text, tokenizer)
        long = [line for line in self.text.lines if line and len(line.split()) > 3]
        prompts = [" ".join(line.split()[:4]) for line in long[len(long) // 6 :: max(1, len(long) // 3)][:3]]
        layout = replace(layout, config=replace(layout.config, lanes=min(lanes, len(ids))))
        stream = layout.stream(ids, numbers, tokenizer)
        return Reading(stream, int((ids == tokenizer.unknown).sum()), self.text.sizes(), prompts)


def text_source(paths: Sequence[str], documents: Sequence[DocumentUnit] | None = None) -> Source:
    """The text of some files (plain, .gz, .xz, .jsonl); `documents` is the unit of each file, None = blocks.

    Raises UsageError for a missing file.

    Reading it raises UsageError for a file that cannot be opened, DataError for one that cannot be read or is blank.
    """
    files = tuple(map(expand, paths))
    for path in files:
        next(raw_lines(path), b"")
    units = dict(zip(files, documents or list[DocumentUnit](["blocks"]) * len(files), strict=True))
    return Source(files, lambda path, watch: read_file(path, watch, units[path]), tuple(units.values()))


def read_file(
    path: Path, watch: Callable[[Any], object] = lambda file: None, documents: DocumentUnit = "blocks"
) -> Iterator[Piece]:
    """The pieces of one file. Raises UsageError or DataError."""
    records = file_format(path) == ".jsonl"
    most = {"max_bytes": RECORD_BYTES} if records else {}
    number, inside, has_text = 0, False, False
    for number, raw in enumerate(raw_lines(path, watch=watch, **most), 1):
        line = decode(raw, path, number, **most)
        blank = is_blank(line)
        has_text |= not blank
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
        raise DataError("the file is empty", where=str(path), cure="name files with text")
    if not has_text:
        raise DataError("all its lines are blank", where=str(path), cure="name files with text")
    if inside:
        yield None, number + 1


def as_document(text: str, number: int) -> Iterator[Piece]:
    """The pieces of a document that is one string; all of them get the same line number."""
    for line in text.removesuffix("\n").split("\n"):
        yield line.removesuffix("\r"), number
    yield None, number


def record_text(line: str, where: str) -> str:
    """The text of a JSON record. Raises LineError."""
    form = '{"text": "..."}'
    text = json_object(line, where, form).get("text")
    if not is_text(text):
        raise LineError("lines without a text", 'no text under "text"', where=where, cure=f"write {form}")
    return str(text)


@dataclass(frozen=True)
class DocumentFiles(SplitFiles[S], TextSource):
    """Files of text for a language model."""

    parsers: ClassVar[Mapping[str, Parse]]
    """The parser of a line, by the format of the file; "" = all other formats."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train:
            raise ValueError("train must name at least one file")

    def scan(self) -> list[Finding]:
        """See TextSource."""
        return [finding for paths in (self.train, self.valid, self.test) for finding in scan_texts(paths, self.parsers)]

    def tested(self, files: Sequence[str]) -> S:
        """See TextSource."""
        files = files or self.test or self.valid
        return self.read(files) if files else self.hold_out(self.read(self.train), 0)[1]

    @property
    def title(self) -> str:
        """See TextSource."""
        return "test" if self.test else "valid"


@dataclass(frozen=True)
class TextFiles(DocumentFiles[Source]):
    """Text in files, plain, .gz or .xz; in a .jsonl file, the "text" of each record is a document.

    Args:
        train, valid, test: the files; ${VARIABLES} of the environment are expanded.
        held_out: without `valid`, the share of `train` that is held out: its last documents, or lines if it has few.
        documents: what separates documents, besides ends of files: "blocks" = blank lines; "files" = nothing, and a
            blank line is a line like any other; "lines" = each line is a document. A list has one for each file of
            `train`; other files are read as the first of them.
    """

    kind: ClassVar[str] = "text"
    parsers: ClassVar[Mapping[str, Parse]] = {".jsonl": record_text}
    held_out: Annotated[float, Bounds(1e-9, 1, below=True)] = 0.05
    documents: DocumentUnit | tuple[DocumentUnit, ...] = "blocks"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self._units) not in (1, len(self.train)):
            numbers = f"{counted(len(self._units), 'value')}, train {counted(len(self.train), 'file')}"
            raise ValueError(f"documents has {numbers}: give one value for all, or one for each")
        units = {*zip(self.train, self._units, strict=False)}
        if len(self._units) > 1 and len(units) > len({*self.train}):
            raise ValueError("documents has two values for one file of train")
        if len(self._units) == 1:  # typed or not, it is the same
            object.__setattr__(self, "documents", self._units[0])

    def read(self, files: Sequence[str]) -> Source:
        """See SplitFiles."""
        units = dict(zip(self.train, self._units, strict=False))
        return text_source(files, [units.get(file, self._units[0]) for file in files])

    @property
    def _units(self) -> tuple[DocumentUnit, ...]:
        return (self.documents,) if isinstance(self.documents, str) else self.documents

    def hold_out(self, train: Source, seed: int) -> tuple[Source, Source, str]:
        """Holds out the last documents, or lines if there are fewer than 20. Raises DataError for a single line."""
        ends = array("q", (n for n, (line, _) in enumerate(train, 1) if line is None))
        documents, lines = len(ends), ends[-1]
        if documents >= _FEW:
            count = min(max(1, int(documents * self.held_out)), _MOST_DOCUMENTS)
            cut, what = ends[-count - 1], f"{count:,} of {counted(documents, 'document')}"
        else:
            count = min(max(1, int((lines - documents) * self.held_out)), _MOST_LINES)
            cut, what = lines - 1 - count, f"{count:,} of {counted(lines - documents, 'line')}"
        if not cut:
            cure = "name a text with --data.valid"
            raise DataError("a single line: nothing can be held out", where=str(train.files[0]), cure=cure)
        return replace(train, last=cut), replace(train, first=cut), f"the last {what} held out as validation data"
