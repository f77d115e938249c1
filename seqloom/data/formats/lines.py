r"""Strict reading of lines of text: UTF-8, "\n" or "\r\n", no NUL, bounded length; also from .gz and .xz."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import re
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from seqloom.errors import DataError, UsageError, nearest
from seqloom.files import digest_of
from seqloom.limits import NOT_TEXT, check_regular, finite, not_text_in

MAX_BYTES = 1_000_000
"""The longest line accepted as a sentence, in bytes."""

RECORD_BYTES = 1 << 27
"""The longest line accepted as a whole document, in bytes."""

# The characters that Unicode renders as nothing (Default_Ignorable_Code_Point), controls, and the empty braille cell.
_VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]"
)

STANDARD_INPUT = "standard input"
"""What messages call the lines that come without a file."""

_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 16
_JSON = (".json", ".jsonl")
_UNPACK = {".gz": "gzip -dc", ".xz": "xz -dc"}
_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}

T = TypeVar("T")


class LineError(DataError):
    """A line that cannot be read. `kind` names the kind of fault in the plural ("undecodable bytes")."""

    def __init__(self, kind: str, problem: str, *, where: str, cure: str) -> None:
        self.kind = kind
        super().__init__(problem, where=where, cure=cure)


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: it is empty, or only white space and invisible characters (U+200B).

    This is what a blank line, an empty side of a pair and a text without content are everywhere.
    """
    return not _VISIBLE.search(text)


def expand(path: str) -> Path:
    """The path with ~/ and environment variables ($NAME, ${NAME}) expanded; UsageError for one that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            cure = f"set it to a folder first: export {name}=/path/to/folder"
            raise UsageError(f"the environment variable {name} is not set", where=path, cure=cure)
        return os.environ[name]

    if is_blank(path):  # which Path reads as the current folder
        raise UsageError("the name of a file is empty", cure="name a file, or a folder")
    if not os.path.lexists(path):
        path = re.sub(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", value, path)
    return Path(path).expanduser() if path.startswith("~/") else Path(path)


def content_digests(paths: Iterable[str]) -> list[str]:
    """The SHA-256 of each file, and of those in each folder; nothing for one that does not exist."""
    files: list[Path] = []
    for path in map(expand, paths):
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [digest_of(path) for path in files if path.is_file()]


def file_format(path: Path | str) -> str:
    """The suffix that determines how a file is read, in lower case and without .gz or .xz: ".tsv", ".de", ""."""
    name = Path(str(path).lower())
    return name.with_suffix("").suffix if name.suffix in _COMPRESSED else name.suffix


def to_utf8(path: Path, encoding: str = "WINDOWS-1252") -> str:
    """The cure for a file in another encoding."""
    return "convert it: " + through(f"iconv -f {encoding} -t UTF-8", path)


def through(program: str, path: Path) -> str:
    """A line for the shell that passes the text of a file through a program."""
    if str(path) == STANDARD_INPUT:
        return f"... | {program} | seqloom ..."
    name, unpack = shlex.quote(str(path)), _UNPACK.get(path.suffix.lower())
    return f"{unpack} {name} | {program} > NEW_FILE" if unpack else f"{program} < {name} > NEW_FILE"


@contextmanager
def _opened(path: Path, watch: Callable[[Any], object] = lambda file: None) -> Iterator[Any]:
    """The file's bytes, decompressed; whatever the system refuses becomes one error."""
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise UsageError("this is a folder, not a file", where=str(path), cure="name a file in it")
        check_regular(path)
        with path.open("rb") as stream:
            watch(stream)
            yield io.BufferedReader(_COMPRESSED[suffix](stream)) if suffix in _COMPRESSED else stream
    except FileNotFoundError:
        raise missing(path) from None
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        cure = "download or compress it again"
        if not isinstance(error, EOFError):
            cure += f"; if it is not compressed, drop the {suffix}"
        raise DataError(f"the {suffix} file is damaged or cut off: {error}", where=str(path), cure=cure) from None
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UsageError(problem, where=str(path), cure="check its path and its permissions") from None


def missing(path: Path) -> UsageError:
    """The error for a file that there is not, with the name that is nearest."""
    try:
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return UsageError("no such file", where=str(path), cure=f"there is no folder {path.parent}")
    return UsageError("no such file", where=str(path), cure=near if near.startswith("did") else "check its path")


def blocks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file, block by block."""
    with _opened(path) as stream:
        while block := stream.read(_BLOCK):
            yield block


def raw_lines(
    path: Path, max_bytes: int = MAX_BYTES, watch: Callable[[Any], object] = lambda file: None
) -> Iterator[bytes]:
    r"""The lines of a file without their ends (\n, \r\n) and without a leading BOM.

    A line over `max_bytes` is cut soon after, so that no file can fill the memory; `decode` rejects it. Raises
    LineError for a file whose lines end in CR alone.
    `watch` receives the open file, whose tell() shows how far it has been read.
    """
    with _opened(path, watch) as stream:
        yield from _split(stream, path, max_bytes)


def _split(stream: Any, path: Path, max_bytes: int) -> Iterator[bytes]:
    room = max_bytes + len(_BOM) + 2
    line, first = stream.readline(room).removeprefix(_BOM), True
    while line:
        rest = line
        while not rest.endswith(b"\n") and (rest := stream.readline(room)):
            pass
        if first:
            _check_first(line, path, alone=not rest)
        first = False
        yield line.removesuffix(b"\n").removesuffix(b"\r")
        line = stream.readline(room)


def _check_first(line: bytes, path: Path, alone: bool) -> None:
    """Raises LineError for a first line that shows that no line can be read: that of another kind of file."""
    where = f"{path}:1"
    for suffix, magic in ((".gz", b"\x1f\x8b"), (".xz", b"\xfd7zXZ")):
        if line.startswith(magic):
            cure = f"this is a compressed file: its name must end in {suffix}"
            raise LineError("undecodable bytes", "not UTF-8 but compressed", where=where, cure=cure)
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LineError("undecodable bytes", "not UTF-8 but UTF-16", where=where, cure=to_utf8(path, "UTF-16"))
    if alone and b"\r" in line[:-1] and file_format(path) not in _JSON:  # where CR is white space
        problem = "the whole file is one line: its lines end in a carriage return (CR) alone, and only LF ends a line"
        cure = "end lines in LF: " + through(r"tr '\r' '\n'", path)
        raise LineError("lines that end in CR", problem, where=str(path), cure=cure)


def decoded_stream(stream: Any, name: str, max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """The lines of an open binary stream, decoded as they arrive; messages call it `name`."""
    for number, raw in enumerate(_split(stream, Path(name), max_bytes), 1):
        yield decode(raw, Path(name), number, max_bytes)


def decode(raw: bytes, path: Path, number: int, max_bytes: int = MAX_BYTES, before: int = 0) -> str:
    """One line, or the part of it after `before` characters, as text.

    Raises LineError if it is too long, is not UTF-8, or contains a NUL.
    """
    where = f"{path}:{number}"
    if len(raw) > max_bytes:
        cure = "cut it into sentences; lines must end in LF or CRLF"
        raise LineError("over-long lines", f"the line is longer than {max_bytes:,} bytes", where=where, cure=cure)
    if b"\0" in raw:  # first: UTF-16 without its mark has NUL in nearly each line, decodable or not
        column = before + len(raw[: raw.index(b"\0")].decode(errors="replace")) + 1
        cure = f"remove it; if the file is UTF-16, {to_utf8(path, 'UTF-16')}"
        raise LineError("NUL characters", f"a NUL character at column {column}", where=where, cure=cure)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        column = before + len(raw[: error.start].decode()) + 1
        problem = f"not UTF-8: byte 0x{raw[error.start]:02x} at column {column}"
        raise LineError("undecodable bytes", problem, where=where, cure=to_utf8(path)) from None


def json_value(text: str, where: str = "", form: str = "JSON") -> Any:
    """What a text has in JSON, in which infinity and NaN are no numbers. Raises LineError; see `json_object`."""
    try:
        return json.loads(text, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise LineError("lines that are not JSON", f"not JSON: {error}", where=where, cure=f"write {form}") from None


def json_object(line: str, where: str, form: str = "one JSON object per line") -> dict[str, Any]:
    """The JSON object of a line, or of a whole file. Raises LineError, whose cure is to write the required `form`."""
    record = json_value(line, where, form)
    # Only an escape can be what no text holds: the line itself was decoded.
    odd = not_text_in(record) if "\\u" in line else None
    if not isinstance(record, dict):
        raise LineError("lines that are not JSON", "not a JSON object", where=where, cure=f"write {form}")
    if odd is not None:
        problem = f"a text with a NUL or half a character: {odd[:60]!r}"
        raise LineError("NUL characters", problem, where=where, cure=f"write {form}")
    return record


def is_text(value: object) -> bool:
    """Whether a JSON value is a text that can be encoded: no NUL, no half of a character, not blank."""
    return isinstance(value, str) and not NOT_TEXT.search(value) and not is_blank(value)


def text_of(path: Path, cure: str = "name files that have examples") -> Iterator[tuple[str, str]]:
    """The lines of a file of examples, each with its place; DataError, with this cure, if the file is empty."""
    number = 0
    for number, raw in enumerate(raw_lines(path, RECORD_BYTES), 1):
        yield decode(raw, path, number, RECORD_BYTES), f"{path}:{number}"
    if not number:
        raise DataError("the file is empty", where=str(path), cure=cure)


def json_records(path: Path, form: str = "one JSON object per line") -> Iterator[tuple[dict[str, Any], str]]:
    """The JSON objects of a file, one per line, each with its place; `form`: see `json_object`."""
    lines = text_of(path, f"write {form}")
    return ((json_object(line, where, form), where) for line, where in lines if not is_blank(line))


def read_each(paths: Sequence[str], read: Callable[[Path], Iterable[T]], problem: str, cure: str) -> list[T]:
    """The items that `read` yields for some files; DataError, with problem and cure, for a file without any."""
    items: list[T] = []
    for path in map(expand, paths):
        if not path.exists():
            raise missing(path)
        before = len(items)
        items += read(path)
        if len(items) == before:
            raise DataError(problem, where=str(path), cure=cure)
    return items


def text_lines(path: Path, max_bytes: int = MAX_BYTES) -> list[str]:
    """All lines of a file, decoded; DataError at the first that cannot be decoded, and for an empty file."""
    lines = [decode(raw, path, number, max_bytes) for number, raw in enumerate(raw_lines(path, max_bytes), 1)]
    if not lines:
        item = "JSON object" if file_format(path) in _JSON else "sentence"
        raise DataError("the file is empty", where=str(path), cure=f"write one {item} per line")
    return lines


def read_lines(path: str, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """The lines of one text file (also .gz, .xz; environment variables are expanded), for text with a single side."""
    return text_lines(expand(path), max_bytes)
