"""Labelled data: tables (.tsv) and JSON lines (.jsonl) of texts or pairs of texts, and sentences of labelled words."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from seqloom.data.formats.lines import file_format, is_blank, is_text, json_records, read_each, text_of, through
from seqloom.data.rows import Example, TaggedWords
from seqloom.errors import DataError, counted, nearest


def _refuse_separated(line: str, path: Path, where: str, needed: int) -> None:
    """Raises DataError for a first line with too few tabs, namely none, that commas or semicolons part instead."""
    found = next((sign for sign in _SEPARATORS if sign in line), None)
    if needed < 2 or TAB in line or found is None:
        return
    problem = f"the line seems to be separated by {_SEPARATORS[found]}, but columns are separated by tabs"
    code = "import csv, sys; csv.writer(sys.stdout, 'excel-tab').writerows(csv.reader(sys.stdin, delimiter='%s'))"
    raise DataError(problem, where=where, cure="convert it: " + through(f'python3 -c "{code % found}"', path))


def _refuse_twice(names: Sequence[str], where: str) -> None:
    """Raises DataError for two columns of one name, of which only one would be read."""
    for i, name in enumerate(names):
        if not is_blank(name) and name in names[:i]:
            problem = f"columns {names.index(name) + 1} and {i + 1} are both called {name[:40]!r}"
            raise DataError(problem, where=where, cure="give each a name of its own, or remove one")


def records(path: Path, header: bool, needed: int, separator: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The lines of a table, by the names of its columns, or those of JSON lines, each with its place.

    Raises DataError for a line with another number of columns. `needed`, `separator`: see `read_examples`.
    """
    names: list[str] | None = None
    if file_format(path) == ".jsonl":
        yield from json_records(path)
        return
    for line, where in text_of(path):
        if is_blank(line):
            continue
        cells = line.split(TAB) if separator == TAB else next(csv.reader([line], delimiter=separator))
        if names is None:
            names = cells if header else [str(i) for i in range(1, len(cells) + 1)]
            if separator == TAB:
                _refuse_separated(line, path, where, needed)
            if header:
                _refuse_twice(names, where)
                continue
        if len(cells) != len(names):
            problem = f"{counted(len(cells), 'column')} instead of {len(names)}"
            raise DataError(problem, where=where, cure=f"each line must have: {', '.join(names)}")
        yield dict(zip(names, cells, strict=True)), where


def _cell(record: Mapping[str, Any], name: str, where: str, option: str, header: bool) -> str:
    if name not in record:
        cure = f"choose it with --data.{option} COLUMN"
        if header:
            cure += ", or add --data.header false if line 1 is an example: it was taken as the names of the columns"
        cure += f"; {nearest(name, record)}"
        raise DataError(f"no column {name!r}", where=where, cure=cure)
    value = record[name]
    if isinstance(value, (dict, list)) or value is None or is_blank(str(value)):
        raise DataError(f"{name!r} is empty or not a text", where=where, cure="fix or remove the example")
    return value if isinstance(value, str) else json.dumps(value)


def read_examples(
    paths: Sequence[str], columns: Mapping[str, str], header: bool, separator: str = "\t"
) -> list[Example]:
    """The labelled texts of some files. Raises DataError or UsageError at the first fault.

    Args:
        paths: the files.
        columns: the names of the columns for "text" (or "image"), "label" and, in pairs, "second".
        header: whether the first line of a table names its columns; see LabelledFiles.
        separator: what parts the columns of a table; other than a tab, cells may be quoted.
    """

    def read(path: Path) -> Iterator[Example]:
        named = header and "text" in columns and file_format(path) != ".jsonl"
        for record, where in records(path, header, len(columns), separator):
            cells = {option: _cell(record, name, where, option, named) for option, name in columns.items()}
            text = cells.get("text") or cells["image"]
            yield Example(text, cells.get("second", ""), cells["label"].strip(), where)

    cure = "if its first line is an example: --data.header false" if "text" in columns else "write a line for each"
    return read_each(paths, read, "has no examples", cure)


def read_tagged(paths: Sequence[str], word: int = 0, label: int = 0) -> list[TaggedWords]:
    """The sentences of some files; `word` and `label`: see `tag_columns`.

    Raises DataError or UsageError at the first fault.
    """

    def read(path: Path) -> Iterator[TaggedWords]:
        if file_format(path) == ".jsonl":
            return _json_sentences(path)
        return _column_sentences(path, tag_columns(path, word, label))

    return read_each(paths, read, "has no sentences", "write one word and its label per line")


def _json_sentences(path: Path) -> Iterator[TaggedWords]:
    for record, where in json_records(path):
        words, labels = record.get("words"), record.get("labels")
        if not _is_text_list(words) or not _is_text_list(labels) or len(words) != len(labels):  # type: ignore[arg-type]
            cure = 'write {"words": ["..."], "labels": ["..."]}, a label for each word'
            raise DataError("no words with a label each", where=where, cure=cure)
        yield TaggedWords(tuple(words), tuple(labels), where)  # type: ignore[arg-type]


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_text, value))


@dataclass(frozen=True)
class TagColumns:
    """The columns of a file of words with labels, one word per line.

    Args:
        separator: a tab, so that words may contain spaces, or a space, of which several are like one.
        word, label: the columns that are read, from 1.
        count: the number of columns of each line; 0 = at least those that are read.
        conllu: whether it is CoNLL-U, which has comments, and lines for parts and groups of words.
    """

    separator: str
    word: int
    label: int
    count: int
    conllu: bool = False

    def __str__(self) -> str:
        separator = "tabs" if self.separator == TAB else "spaces"
        separated = "CoNLL-U" if self.conllu else f"columns separated by {separator}"
        return f"{separated}; words from {self._named(self.word)}, labels from {self._named(self.label)}"

    def _named(self, column: int) -> str:
        name = f" ({_CONLLU[column - 1]})" if self.conllu and column <= len(_CONLLU) else ""
        return f"column {column}{name}"

    def split(self, line: str, where: str) -> tuple[str, str] | None:
        """The word and the label of a line; None for a line that has none. Raises DataError."""
        if self.conllu and (line.startswith("#") or _PART.match(line)):
            return None
        cells = _cells(line, self.separator)
        cure = f"these columns were read: {self}; choose others with --data.word and --data.label"
        if len(cells) == 1:
            raise DataError("a word without a label", where=where, cure="write WORD<TAB>LABEL")
        if len(cells) < max(self.word, self.label) or self.count not in (0, len(cells)):
            problem = f"{counted(len(cells), 'column')} instead of {self.count or max(self.word, self.label)}"
            raise DataError(problem, where=where, cure=f"separate columns by tabs; {cure}")
        pair = cells[self.word - 1], cells[self.label - 1]
        if any(map(is_blank, pair)):
            raise DataError("the word or its label is empty", where=where, cure=cure)
        return pair


TAB = "\t"
_SEPARATORS = {";": "semicolons", ",": "commas"}
_CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_ID = re.compile(r"\d+(?:[-.]\d+)?")
_PART = re.compile(r"\d+[-.]\d+\t")  # "3-4" = the words 3 and 4 as they are written, "3.1" = a word that is not


_OUTSIDE = re.compile(r"-DOCSTART-|# ?(?:id|sent_id|text|newdoc|newpar|global\.columns)\b")  # between sentences


def _cells(line: str, separator: str) -> list[str]:
    return [c.strip(" ") for c in line.split(TAB)] if separator == TAB else re.split(" +", line.strip(" "))


def tag_columns(path: Path, word: int = 0, label: int = 0) -> TagColumns:
    """The columns of a file, from its first line with a word: CoNLL-U; else separated by tabs, if it has one; else by
    spaces. The word is the first column (CoNLL-U: FORM), its label the last one (UPOS), unless others are chosen.

    Args:
        path: the file.
        word, label: the chosen columns, from 1; 0 = those of the format.
    """
    first = ""
    for line, _ in text_of(path):
        if not is_blank(line) and not _OUTSIDE.match(line):
            first = line
            if not line.startswith("#"):  # which may be a comment, or a word
                break
    cells = _cells(first, TAB if TAB in first else " ")
    conllu = file_format(path) == ".conllu" or (len(cells) == len(_CONLLU) and bool(_ID.fullmatch(cells[0])))
    chosen = word or (2 if conllu else 1), label or (4 if conllu else len(cells))
    count = len(_CONLLU) if conllu else 0 if word and label else len(cells)
    return TagColumns(TAB if conllu or TAB in first else " ", *chosen, count, conllu)


def _column_sentences(path: Path, columns: TagColumns) -> Iterator[TaggedWords]:
    words: list[tuple[str, str]] = []
    start, labels = "", set[str]()
    for line, where in chain(text_of(path), [("", "")]):
        if is_blank(line) or _OUTSIDE.match(line):
            if words:
                yield TaggedWords(tuple(word for word, _ in words), tuple(label for _, label in words), start)
            words = []
        elif pair := columns.split(line, where):
            start = start if words else where
            words.append(pair)
            labels.add(pair[1])
    if columns.conllu and labels == {"_"}:
        cure = "choose another column with --data.label 5 (1 to 10)"
        raise DataError(f"no word has a label: {columns}", where=str(path), cure=cure)
