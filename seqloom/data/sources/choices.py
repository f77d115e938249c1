"""Questions with answers to choose from: {"context": "...", "choices": ["...", "..."], "answer": 0}."""

from __future__ import annotations

import json
from dataclasses import dataclass

from seqloom.data.formats.lines import read_lines
from seqloom.errors import DataError


@dataclass(frozen=True)
class Question:
    """What is asked, what may be answered, and which of these is right."""

    context: str
    choices: tuple[str, ...]
    answer: int

    def solved(self) -> str:
        """The question with its right answer."""
        return self.context + self.joined(self.choices[self.answer])

    def joined(self, choice: str) -> str:
        """A choice as it follows the context: after a space, unless there is white space already."""
        return choice if not self.context or self.context[-1].isspace() or choice[:1].isspace() else f" {choice}"


def read_questions(path: str) -> list[Question]:
    """Questions from JSON lines: {"context": "...", "choices": ["...", ...], "answer": 0}, or the answer's text.

    Raises DataError, with the line, for any other.
    """
    cure = 'write {"context": "...", "choices": ["...", "..."], "answer": 0}'
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            context, choices, answer = row["context"], tuple(row["choices"]), row["answer"]
            answer = choices.index(answer) if isinstance(answer, str) else int(answer)
            if not isinstance(context, str) or not all(isinstance(c, str) and c for c in choices):
                raise ValueError("context and choices must be texts")
            if len(choices) < 2 or not 0 <= answer < len(choices):
                raise ValueError("there must be two choices or more, and the answer one of them")
        except (ValueError, KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"not a question: {what}", where=f"{path}:{number}", cure=cure) from None
        found.append(Question(context, choices, answer))
    if not found:
        raise DataError("there is no question in it", where=path, cure=cure)
    return found
