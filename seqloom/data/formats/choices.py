"""Questions with answers to choose from: {"context": "...", "choices": ["...", "..."], "answer": 0}."""

from __future__ import annotations

from seqloom.data.formats.lines import json_object, read_lines
from seqloom.data.rows import MultipleChoice
from seqloom.errors import DataError


def read_questions(path: str) -> list[MultipleChoice]:
    """Questions from JSON lines: {"context": "...", "choices": ["...", ...], "answer": 0}, or the answer's text.

    Raises DataError, with the line, for any other.
    """
    cure = 'write {"context": "...", "choices": ["...", "..."], "answer": 0}'
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        row = json_object(line, f"{path}:{number}", cure.removeprefix("write "))
        try:
            context, choices, answer = row["context"], tuple(row["choices"]), row["answer"]
            answer = choices.index(answer) if isinstance(answer, str) else int(answer)
            if not isinstance(context, str) or not all(isinstance(c, str) and c for c in choices):
                raise ValueError("context and choices must be texts")
            if len(choices) < 2 or not 0 <= answer < len(choices):
                raise ValueError("there must be two choices or more, and the answer one of them")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"not a question: {what}", where=f"{path}:{number}", cure=cure) from None
        found.append(MultipleChoice(context, choices, answer))
    if not found:
        raise DataError("there is no question in it", where=path, cure=cure)
    return found
