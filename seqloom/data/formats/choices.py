"""Multiple-choice questions: {"context": "...", "choices": ["...", "..."], "answer": 0}."""

from __future__ import annotations

from seqloom.data.formats.lines import is_blank, json_object, read_lines
from seqloom.data.rows import MultipleChoice
from seqloom.errors import DataError


def read_multiple_choice(path: str) -> list[MultipleChoice]:
    """Questions from JSON lines: {"context": "...", "choices": ["...", ...], "answer": 0}, or the answer's text.

    Raises DataError, with the line, for anything else.
    """
    cure = 'write {"context": "...", "choices": ["...", "..."], "answer": 0}'
    questions = []
    for number, line in enumerate(read_lines(path), start=1):
        if is_blank(line):
            continue
        row = json_object(line, f"{path}:{number}", cure.removeprefix("write "))
        try:
            context, choices, answer = row["context"], tuple(row["choices"]), row["answer"]
            answer = choices.index(answer) if isinstance(answer, str) else int(answer)
            if not isinstance(context, str) or not all(isinstance(c, str) and c for c in choices):
                raise ValueError("context and choices must be texts")
            if len(choices) < 2 or not 0 <= answer < len(choices):
                raise ValueError("there must be at least two choices, and the answer must be one of them")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"not a question: {what}", where=f"{path}:{number}", cure=cure) from None
        questions.append(MultipleChoice(context, choices, answer))
    if not questions:
        raise DataError("the file has no questions", where=path, cure=cure)
    return questions
