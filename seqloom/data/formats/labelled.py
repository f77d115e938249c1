"""Labelled data: tables (.tsv) and JSON lines (.jsonl) of texts or pairs of texts, and sentences of labelled words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqloom.data.formats.lines import file_format, json_records, read_each, text_of
from seqloom.data.rows import Example, TaggedWords
from seqloom.errors import DataError, counted, nearest


def _records(path: Path, header: bool) -> Iterator[tuple[Mapping[str, Any], str]]:
    names: list[str] | None = None
    if file_format(path) == ".jsonl":
        yield from json_records(path)
        return
    for line, where in text_of(path):
        if not line.strip():
            continue
        cells = line.split("\t")
        if names is None:
            names = cells if header else [str(i) for i in range(1, len(cells) + 1)]
            if header:
                continue
        if len(cells) != len(names):
            problem = f"{counted(len(cells), 'column')} instead of {len(names)}"
            raise DataError(problem, where=where, cure=f"each line must have: {', '.join(names)}")
        yield dict(zip(names, cells, strict=True)), where


def _cell(record: Mapping[str, Any], name: str, where: str, option: str) -> str:
    if name not in record:
        cure = f"{nearest(name, record)}; choose it with --data.{option} COLUMN"
        raise DataError(f"no column {name!r}", where=where, cure=cure)
    value = record[name]
    if isinstance(value, (dict, list)) or value is None or not str(value).strip() or "\0" in str(value):
        raise DataError(f"{name!r} is empty or not a text", where=where, cure="fix or remove the example")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise DataError(f"{name!r} has half a character", where=where, cure="fix or remove the example") from None
    return value if isinstance(value, str) else json.dumps(value)


def read_examples(paths: Sequence[str], columns: Mapping[str, str], header: bool) -> list[Example]:
    """The labelled texts of some files. Raises DataError or UsageError at the first fault.

    Args:
        paths: the files.
        columns: the names of the columns for "text", "label" and, in pairs, "second".
        header: whether the first line of a table names its columns; see LabelledFiles.
    """

    def read(path: Path) -> Iterator[Example]:
        for record, where in _records(path, header):
            cells = {option: _cell(record, name, where, option) for option, name in columns.items()}
            yield Example(**{**cells, "label": cells["label"].strip()}, where=where)

    return read_each(paths, read, "has no examples", "if its first line is an example: --data.header false")


def read_tagged(paths: Sequence[str]) -> list[TaggedWords]:
    """The sentences of some files. Raises DataError or UsageError at the first fault."""

    def read(path: Path) -> Iterator[TaggedWords]:
        return _json_sentences(path) if file_format(path) == ".jsonl" else _column_sentences(path)

    return read_each(paths, read, "has no sentences", "write one word and its label per line")


def _json_sentences(path: Path) -> Iterator[TaggedWords]:
    for record, where in json_records(path):
        words, labels = record.get("words"), record.get("labels")
        if not _is_text_list(words) or not _is_text_list(labels) or len(words) != len(labels):  # type: ignore[arg-type]
            cure = 'write {"words": ["..."], "labels": ["..."]}, a label for each word'
            raise DataError("no words with a label each", where=where, cure=cure)
        yield TaggedWords(tuple(words), tuple(labels), where)  # type: ignore[arg-type]


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v.strip() for v in value)


def _column_sentences(path: Path) -> Iterator[TaggedWords]:
    words: list[tuple[str, str]] = []
    start = ""
    for line, where in (*text_of(path), ("", "")):
        cells = line.split()
        if len(cells) == 1:
            raise DataError("a word without a label", where=where, cure="write WORD LABEL")
        if cells and cells[0] != "-DOCSTART-":
            start = start if words else where
            words.append((cells[0], cells[-1]))
        elif words:
            yield TaggedWords(tuple(word for word, _ in words), tuple(label for _, label in words), start)
            words = []
