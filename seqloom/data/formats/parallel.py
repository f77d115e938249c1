"""Parallel text from files: two text files, or one of .tsv, .jsonl, .tmx, .po; each also as .gz or .xz.

Every reader is strict: at the first fault it raises a DataError with file, line and cure.
`seqloom.data.checks.pairs.scan_files` lists all faults at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from seqloom.data.formats.lines import (
    MAX_BYTES,
    LineError,
    blocks,
    expand,
    file_format,
    is_blank,
    json_object,
    text_lines,
    to_utf8,
)
from seqloom.data.rows import Pairs
from seqloom.errors import ConfigError, DataError, counted

BOTH_SIDES = (".tsv", ".jsonl", ".tmx", ".po")
"""The formats whose files hold both source and target."""

_NOT_A_PAIR = "lines that are not a JSON pair"
_PO_LINE = re.compile(r'(?:(msg(?:id|id_plural|ctxt|str|str\[[0-9]\]))[ \t]*)?"(?:[^"\\]|\\.)*"')
_PLURALS = tuple(f"msgstr[{i}]" for i in range(10))
_PO_ENDS = ("", "msgstr", *_PLURALS)
_PO_ORDER = {
    "msgctxt": _PO_ENDS,
    "msgid": (*_PO_ENDS, "msgctxt"),
    "msgid_plural": ("msgid",),
    "msgstr": ("msgid",),
    "msgstr[0]": ("msgid_plural",),
    **{key: (before,) for before, key in pairwise(_PLURALS)},
}
"""What each keyword may stand after; a line without one goes on with the keyword before."""

NumberedPair = tuple[int, str, str]
"""The line of a pair in its file, from 1, its source and its target."""


def match_language(language: str, candidates: Iterable[str]) -> str | None:
    """The candidate that names the language; "en" and "en-US" match, "en-GB" and "en-US" do not."""
    code = language.lower().replace("_", "-")
    names = {name.lower().replace("_", "-"): name for name in candidates if name}
    near = (name for name in names if f"{code}-".startswith(f"{name}-") or f"{name}-".startswith(f"{code}-"))
    return names.get(code if code in names else next(near, "")) if code else None


def _one_line(text: str) -> str:
    """The text on one line: line breaks inside it, and the blanks around them, become one space."""
    if "\n" not in text and "\r" not in text:
        return text
    return " ".join(filter(None, (part.strip(" \t") for part in re.split(r"[\r\n]+", text))))


def parse_tsv(line: str, where: str) -> tuple[str, str]:
    """Source and target of a TSV line: its first two columns. A blank line is a pair of empty sides."""
    source, tab, rest = line.partition("\t")
    if not tab and not is_blank(source):
        raise LineError("lines without a tab", "no tab in the line", where=where, cure="write SOURCE<TAB>TARGET")
    return source, rest.partition("\t")[0]


def parse_json(languages: tuple[str, str]) -> Callable[[str, str], tuple[str, str]]:
    """A parser of JSON lines with the two languages as keys, or "source" and "target", also inside "translation"."""

    def parse(line: str, where: str) -> tuple[str, str]:
        record = json_object(line, where, '{"source": "...", "target": "..."} a line')
        if isinstance(record.get("translation"), dict):
            record = record["translation"]
        keys = [match_language(language, record) for language in languages]
        if None in keys:
            keys = [key if key in record else None for key in ("source", "target")]
        if None in keys:
            keys_read = " nor ".join(f"{a!r} and {b!r}" for a, b in (("source", "target"), languages))
            problem = f"neither {keys_read}" if languages[0] else "no 'source' and 'target'"
            cure = f"its keys are: {', '.join(record)[:200]}; name two: --data.source KEY --data.target KEY"
            raise LineError(_NOT_A_PAIR, problem, where=where, cure=cure)
        sides = [record[str(key)] for key in keys]
        if not all(isinstance(side, str) for side in sides):
            problem = f"{keys[0]!r} or {keys[1]!r} is not a text"
            raise LineError(_NOT_A_PAIR, problem, where=where, cure="write strings")
        return _one_line(sides[0]), _one_line(sides[1])

    return parse


def check_po() -> Callable[[str, str], None]:
    """A check of the lines of a gettext PO file, in order: LineError for one that the catalog reader would pass over,
    or take for another one.
    """
    before = ""

    def check(line: str, where: str) -> None:
        nonlocal before
        text = line.strip()
        if not text or text.startswith("#"):
            return
        match = _PO_LINE.fullmatch(text)
        if match is None:
            cure = 'write msgid "...", msgstr "..." or "..."'
            raise LineError("lines that are not PO", "not a line of a PO file", where=where, cure=cure)
        key = match[1] or "a text alone"
        if (before not in _PO_ORDER[key]) if match[1] else not before:
            problem = f"{key} after {before or 'nothing'}"
            cure = "a message is msgid and msgstr, or msgid, msgid_plural and msgstr[0], msgstr[1], ..."
            raise LineError("lines out of order in PO", problem, where=where, cure=cure)
        before = match[1] or before

    return check


_CODES = ("bpt", "ept", "ph", "it", "ut")  # what they enclose is code of the original format; <hi> and <sub> are text


class _Tmx:
    """The expat handlers that collect the translation units of a TMX 1.4 file; no tree is built."""

    def __init__(self, path: Path, languages: tuple[str, str], max_chars: int) -> None:
        self.path, self.languages, self.max_chars = path, languages, max_chars
        self.rows: list[NumberedPair] = []
        self.all_languages: dict[str, None] = {}
        self.unit: dict[str, str] = {}
        self.parts: list[str] = []
        self.language, self.line, self.size, self.inside = "", 0, 0, False
        self.codes: list[str] = []  # the elements around the text, from outside to inside, that decide what it is
        self.dropped = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.SkippedEntityHandler, self.parser.ExternalEntityRefHandler = self.skipped, self.external

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "tu":
            self.unit, self.line = {}, self.parser.CurrentLineNumber
        elif tag == "tuv":
            self.language = attributes.get("xml:lang") or attributes.get("lang", "")
            if not self.language:
                self.fail("a <tuv> without xml:lang: its language is unknown", 'write <tuv xml:lang="en">')
        elif tag == "seg":
            self.inside, self.size, self.parts, self.codes = True, 0, [], []
        elif self.inside and tag in (*_CODES, "sub"):
            self.codes.append(tag)
            self.dropped += tag != "sub"

    def text(self, text: str) -> None:
        if self.inside:
            self.size += len(text)
            if self.size > self.max_chars:
                self.fail(f"the segment is longer than {self.max_chars:,} characters", "cut it into sentences")
            if not self.codes or self.codes[-1] == "sub":
                self.parts.append(text)

    def skipped(self, name: str, is_parameter: int) -> None:
        if not is_parameter:
            self.fail(f"the entity &{name}; is not defined in the file", "write the character itself")

    def external(self, context: str, *_: object) -> int:
        self.fail(f"the entity {context} refers to another file, which is not read", "write its text instead")

    def end(self, tag: str) -> None:
        if self.inside and tag in (*_CODES, "sub"):
            self.codes.pop()
        elif tag == "seg":
            self.inside = False
            self.unit.setdefault(self.language, _one_line("".join(self.parts)))
        elif tag == "tu":
            self.all_languages.update(dict.fromkeys(self.unit))
            if not self.languages[0] and len(self.unit) > 1:
                first, second, *_ = self.unit
                self.languages = first, second
            keys = [match_language(language, self.unit) for language in self.languages]
            if any(keys):
                source, target = (self.unit[key] if key else "" for key in keys)
                self.rows.append((self.line, source, target))

    def fail(self, problem: str, cure: str) -> NoReturn:
        raise DataError(problem, where=f"{self.path}:{self.parser.CurrentLineNumber}", cure=cure)


def _read_tmx(path: Path, languages: tuple[str, str], max_bytes: int) -> tuple[list[NumberedPair], int]:
    """The pairs, and the number of inline codes left out."""
    tmx = _Tmx(path, languages, max_bytes)
    try:
        for block in blocks(path):
            tmx.parser.Parse(block)
        tmx.parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an unknown encoding
        where, cure = f"{path}:{tmx.parser.ErrorLineNumber}", f"fix the XML; if it is the encoding, {to_utf8(path)}"
        raise DataError(f"not well-formed XML: {error}", where=where, cure=cure) from None
    if not tmx.rows:
        problem = f"no unit in {languages[0]} or {languages[1]}" if languages[0] else "no unit in two languages"
        names = ", ".join(filter(None, tmx.all_languages)) or "none"
        raise DataError(problem, where=str(path), cure=f"its languages are: {names[:200]}")
    return tmx.rows, tmx.dropped


def _read_po(path: Path, max_bytes: int) -> list[NumberedPair]:
    from babel.messages.pofile import PoFileError, read_po

    lines = text_lines(path, max_bytes)
    check = check_po()
    for number, line in enumerate(lines, 1):
        check(line, f"{path}:{number}")
    try:
        catalog = read_po(lines, ignore_obsolete=True, abort_invalid=True)
    except (PoFileError, ValueError, LookupError, TypeError, AttributeError) as error:
        place = f":{error.lineno + 1}" if isinstance(error, PoFileError) else ""
        raise DataError(f"not a PO file: {error}", where=f"{path}{place}", cure="msgfmt --check reports more") from None
    rows: list[NumberedPair] = []
    for message in catalog:
        if message.id and not message.fuzzy:
            rows += [(message.lineno or 0, _one_line(a), _one_line(b)) for a, b in _forms(message) if not is_blank(b)]
    if not rows:
        cure = "untranslated, fuzzy and obsolete messages do not count"
        raise DataError("no translated message in the file", where=str(path), cure=cure)
    return rows


def _forms(message: Any) -> Iterator[tuple[str, str]]:
    """(msgid, msgstr); of several forms of a plural, the first belongs to the singular, the others to the plural."""
    if isinstance(message.id, str):
        yield message.id, message.string
        return
    singular, plural = message.id
    for index, form in enumerate(message.string):
        yield (plural if index or len(message.string) == 1 else singular), form


def _read_two(source: Path, target: Path, max_bytes: int) -> Pairs:
    sources, targets = text_lines(source, max_bytes), text_lines(target, max_bytes)
    if len(sources) != len(targets):
        problem = f"{source} has {counted(len(sources), 'line')}, {target} has {len(targets):,}"
        cure = "line N of one must be the translation of line N of the other; seqloom check shows where they diverge"
        raise DataError(problem, cure=cure)
    return Pairs(sources, targets, (str(source), str(target)))


def _read_one(path: Path, languages: tuple[str, str], max_bytes: int) -> tuple[list[NumberedPair], int]:
    """The pairs, and the number of inline codes left out."""
    kind = file_format(path)
    if kind == ".tmx":
        return _read_tmx(path, languages, max_bytes)
    if kind == ".po":
        return _read_po(path, max_bytes), 0
    parse = parse_tsv if kind == ".tsv" else parse_json(languages)
    lines = enumerate(text_lines(path, max_bytes), 1)
    return [(n, *parse(s, f"{path}:{n}")) for n, s in lines if kind == ".tsv" or not is_blank(s)], 0


def corpus_files(paths: Sequence[str], languages: tuple[str, str] = ("", "")) -> list[Path]:
    """The files of one corpus; ConfigError unless they are one file of a format with two sides, or two text files."""
    cure = f"name two text files, or one of {', '.join(BOTH_SIDES)} (also compressed as .gz or .xz)"
    if len(paths) not in (1, 2):
        raise ConfigError(f"a corpus is one file or two, not {len(paths)}", cure=cure)
    for path in paths:
        if (file_format(path) in BOTH_SIDES) != (len(paths) == 1):
            sides = "one side" if len(paths) == 1 else "both sides"
            raise ConfigError(f"this format holds {sides}", where=path, cure=cure)
    if bool(languages[0]) != bool(languages[1]):
        raise ConfigError("one of the two languages is not named", cure="name both or neither")
    return [expand(path) for path in paths]


def read_pairs(paths: Sequence[str], *, languages: tuple[str, str] = ("", ""), max_bytes: int = MAX_BYTES) -> Pairs:
    """Sentence pairs from two parallel text files or from one .tsv, .jsonl, .tmx or .po file.

    Pairs with an empty side are kept, so that nothing disappears silently: see `usable`. A line break inside a JSON,
    TMX or PO text becomes a space. A TMX unit in only one of the two languages is a pair with an empty side; what its
    inline elements bpt, ept, ph, it and ut enclose is code, not text, and is left out and counted, while hi and sub are
    text. Untranslated, fuzzy and obsolete PO messages and blank lines
    of JSON are skipped.

    Args:
        paths: one or two files, also .gz or .xz; environment variables are expanded.
        languages: which two languages of a TMX or JSON file are source and target ("en", "de"); if empty, the keys
            "source" and "target" in JSON, and the languages of the first TMX unit that has two.
        max_bytes: the longest line accepted as a sentence.

    Raises:
        UsageError: a path that cannot be opened, an unset variable, an unknown format (exit 2).
        DataError: text that cannot be read faithfully, with file and line (exit 3).
    """
    files = corpus_files(paths, languages)
    if len(files) == 2:
        return _read_two(files[0], files[1], max_bytes)
    rows, codes = _read_one(files[0], languages, max_bytes)
    if not rows:
        raise DataError("no pair in the file", where=str(files[0]), cure="all its lines are blank: name another file")
    numbers, sources, targets = zip(*rows, strict=True)
    return Pairs(sources, targets, (str(files[0]), str(files[0])), numbers, codes=codes)


def usable(pairs: Pairs) -> tuple[Pairs, int]:
    """The pairs with text on both sides, and the number of pairs dropped; DataError if none is left."""
    keep = [i for i, both in enumerate(zip(pairs.sources, pairs.targets, strict=True)) if not any(map(is_blank, both))]
    if not keep:
        cure = "check that these are the right files"
        raise DataError("no pair has text on both sides", where=pairs.files[0], cure=cure)
    if len(keep) == len(pairs):
        return pairs, 0
    return pairs.select(keep), len(pairs) - len(keep)
