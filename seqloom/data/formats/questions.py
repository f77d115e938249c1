"""Questions about passages, with answers that stand in them: SQuAD's JSON, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqloom.data.formats.lines import file_format, json_object, json_records, read_each, text_of
from seqloom.data.rows import Question
from seqloom.errors import DataError


def read_questions(paths: Sequence[str], no_answer: bool) -> list[Question]:
    """The questions of some files.

    Raises:
        DataError: what cannot be read, an answer that is not where it should be in its passage, a question without
            an answer unless there may be such.
    """

    def read(path: Path) -> Iterator[Question]:
        if file_format(path) != ".jsonl":
            return _nested(path)
        return (_question(record, record.get("context"), where) for record, where in json_records(path))

    found = read_each(paths, read, "has no questions", 'write {"question", "context", "answers"} a line')
    for question in found:
        for text, start in question.answers:
            if question.passage[start : start + len(text)] != text or not text.strip():
                problem = f"the answer {text[:60]!r} does not stand at character {start} of its passage"
                raise DataError(problem, where=question.where, cure="mend its answer_start, or remove the question")
        if not question.answers and not no_answer:
            cure = "if some have none: --data.no-answer true"
            raise DataError("a question without an answer", where=question.where, cure=cure)
    return found


def _nested(path: Path) -> Iterator[Question]:
    record = json_object("\n".join(line for line, _ in text_of(path)), str(path))
    for article in _list(record, "data", str(path)):
        for paragraph in _list(article, "paragraphs", str(path)):
            for asked in _list(paragraph, "qas", str(path)):
                where = f"{path}, question {asked.get('id', '?') if isinstance(asked, dict) else '?'}"
                yield _question(asked, paragraph.get("context"), where)


def _list(record: Any, key: str, where: str) -> list[Any]:
    found = record.get(key) if isinstance(record, dict) else None
    if not isinstance(found, list):
        raise DataError(f"no list under {key!r}", where=where, cure="write SQuAD's data > paragraphs > qas > answers")
    return found


def _question(record: Any, passage: Any, where: str) -> Question:
    asked = record.get("question") if isinstance(record, Mapping) else None
    if not all(isinstance(text, str) and text.strip() for text in (asked, passage)):
        raise DataError("no question or no passage", where=where, cure='write "question" and "context"')
    given = record.get("answers", [])
    try:
        if isinstance(given, Mapping):  # as the `datasets` library writes them
            given = [{"text": t, "answer_start": s} for t, s in zip(given["text"], given["answer_start"], strict=True)]
        answers = tuple(dict.fromkeys((str(one["text"]), int(one["answer_start"])) for one in given))
    except (KeyError, TypeError, ValueError):
        cure = 'write "answers": [{"text": "...", "answer_start": 0}]'
        raise DataError("answers without text or place", where=where, cure=cure) from None
    return Question(str(asked), str(passage), answers, where)
