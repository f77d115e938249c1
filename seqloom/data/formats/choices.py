"""Multiple-choice questions: {"context": "...", "choices": ["...", "..."], "answer": 0}."""

from __future__ import annotations

from seqloom.data.formats.lines import is_blank, is_text, json_object, read_lines
from seqloom.data.rows import MultipleChoice
from seqloom.errors import DataError


def read_multiple_choice(path: str) -> list[MultipleChoice]:
    """Questions from JSON lines: {"context": "...", "choices": ["...", ...], "answer": 0}, or the answer's text.

    Raises DataError, with the line, for anything else.
    """
    form = '{"context": "...", "choices": ["...", "..."], "answer": 0}'
    questions = []
    for number, line in enumerate(read_lines(path), start=1):
        if is_blank(line):
            continue
        row = json_object(line, f"{path}:{number}", form)
        try:
            context, choices, answer = row["context"], row["choices"], row["answer"]
            if not isinstance(context, str) or not isinstance(choices, list) or not all(map(is_text, choices)):
                raise ValueError("context must be a text, and choices a list of texts")
            answer = choices.index(answer) if isinstance(answer, str) else answer
            if len(choices) < 2 or type(answer) is not int or not 0 <= answer < len(choices):
                raise ValueError("there must be at least two choices, and the answer must be one of them, or its index")
        except (ValueError, KeyError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"not a question: {what}", where=f"{path}:{number}", cure=f"write {form}") from None
        questions.append(MultipleChoice(context, tuple(choices), answer))
    if not questions:
        raise DataError("the file has no questions", where=path, cure=f"write {form}")
    return questions
