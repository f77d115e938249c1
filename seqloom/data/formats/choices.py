"""Multiple-choice questions: {"context": "...", "choices": ["...", "..."], "answer": 0}."""

from __future__ import annotations

from typing import Any

from seqloom.data.formats.lines import expand, is_blank, json_records
from seqloom.data.rows import MultipleChoice, continued
from seqloom.errors import DataError

_FORM = '{"context": "...", "choices": ["...", "..."], "answer": 0}'


def read_multiple_choice(path: str) -> list[MultipleChoice]:
    """Questions from JSON lines: {"context": "...", "choices": ["...", ...], "answer": 0}, or the answer's text.

    Raises DataError, with the line, for anything else.
    """
    questions = []
    for row, where in json_records(expand(path), _FORM):
        if fault := _fault(row):
            raise DataError(f"not a question: {fault}", where=where, cure=f"write {_FORM}")
        choices, answer = row["choices"], row["answer"]
        answer = choices.index(answer) if isinstance(answer, str) else answer
        questions.append(MultipleChoice(row["context"], tuple(choices), answer, where))
    if not questions:
        raise DataError("the file has no questions", where=path, cure=f"write {_FORM}")
    return questions


def _fault(row: dict[str, Any]) -> str:
    """What is wrong with a question; "" = nothing."""
    if missing := [key for key in ("context", "choices", "answer") if key not in row]:
        return f"no {missing[0]!r}"
    context, choices, answer = row["context"], row["choices"], row["answer"]
    if not isinstance(context, str):
        return "context must be a text"
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        return "choices must be a list of texts"
    if any(map(is_blank, choices)):
        return "a choice is empty"
    if len(choices) < 2:
        return "there must be at least two choices"
    texts = [continued(context, choice) for choice in choices]
    if twice := [choice for choice, text in zip(choices, texts, strict=True) if texts.count(text) > 1]:
        return f"the choice {twice[-1][:60]!r} is there twice"
    if answer in choices or (type(answer) is int and 0 <= answer < len(choices)):
        return ""
    number = "; an index is written without quotes" * (isinstance(answer, str) and answer.isdecimal())
    return f"the answer {str(answer)[:60]!r} is neither a choice nor an index from 0 to {len(choices) - 1}{number}"
