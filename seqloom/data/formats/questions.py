"""Questions about passages, whose answers are spans of them: SQuAD's JSON, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqloom.data.formats.lines import file_format, is_blank, json_object, json_records, read_each, text_of
from seqloom.data.rows import Question
from seqloom.errors import DataError


def read_questions(paths: Sequence[str], no_answer: bool) -> list[Question]:
    """The questions of some files.

    Raises:
        DataError: a file that cannot be read, an answer that is not at its place in the passage, or a question without
            an answer where `no_answer` does not allow it.
    """

    def read(path: Path) -> Iterator[Question]:
        if file_format(path) != ".jsonl":
            return _nested(path)
        return (_question(record, record.get("context"), where) for record, where in json_records(path))

    questions = read_each(paths, read, "has no questions", 'write {"question", "context", "answers"} on each line')
    for question in questions:
        for text, start in question.answers:
            if start < 0 or question.passage[start : start + len(text)] != text or is_blank(text):
                problem = f"the answer {text[:60]!r} is not at character {start} of its passage"
                raise DataError(problem, where=question.where, cure="fix its answer_start, or remove the question")
        if not question.answers and not no_answer:
            cure = "if questions may have none: --data.no-answer true"
            raise DataError("a question without an answer", where=question.where, cure=cure)
    return questions


def _nested(path: Path) -> Iterator[Question]:
    record = json_object("\n".join(line for line, _ in text_of(path)), str(path))
    for article in _list(record, "data", str(path)):
        for paragraph in _list(article, "paragraphs", str(path)):
            for question in _list(paragraph, "qas", str(path)):
                where = f"{path}, question {question.get('id', '?') if isinstance(question, dict) else '?'}"
                yield _question(question, paragraph.get("context"), where)


def _list(record: Any, key: str, where: str) -> list[Any]:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, list):
        raise DataError(f"no list under {key!r}", where=where, cure="write SQuAD's data > paragraphs > qas > answers")
    return value


def _question(record: Any, passage: Any, where: str) -> Question:
    question = record.get("question") if isinstance(record, Mapping) else None
    if not all(isinstance(text, str) and not is_blank(text) for text in (question, passage)):
        raise DataError("no question or no passage", where=where, cure='write "question" and "context"')
    answers = record.get("answers", [])
    pairs: Iterable[tuple[Any, Any]]
    try:
        if isinstance(answers, Mapping):  # as the `datasets` library writes them
            pairs = zip(answers["text"], answers["answer_start"], strict=True)
        else:
            pairs = ((answer["text"], answer["answer_start"]) for answer in answers)
        spans = tuple(dict.fromkeys((str(text), int(start)) for text, start in pairs))
    except (KeyError, TypeError, ValueError):
        cure = 'write "answers": [{"text": "...", "answer_start": 0}]'
        raise DataError("answers without text or place", where=where, cure=cure) from None
    return Question(str(question), str(passage), spans, where)
