"""A language model asked to choose: it takes the answer it finds likeliest, with or without examples before it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.data.formats.lines import read_lines
from seqloom.errors import DataError
from seqloom.run import Run, title_of, write_json
from seqloom.tasks.language_model.task import load_generator
from seqloom.training.log import Reporter


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


def evaluate_choices(path: str | Path, file: str, shots: int, name: str, reporter: Reporter) -> dict[str, Any]:
    """How often the right choice is the likeliest, as a whole and a byte; saved as eval/NAME.json.

    Args:
        path: the run of a language model.
        file: see `read_questions`.
        shots: how many questions of the file, the first ones, stand solved before each other one; they do not count.
        name: what to save it as; by default the name of the file.
        reporter: where progress goes.
    """
    title, questions = title_of(name, (file,)), read_questions(file)
    if not 0 <= shots < len(questions):
        raise DataError(f"{shots} examples of {len(questions)} questions leave none to ask", where=file, cure="--shots")
    before = "".join(f"{q.solved()}\n\n" for q in questions[:shots])
    asked = questions[shots:]
    generator = load_generator(path, precision="fp32", say=reporter.warn)
    reporter.say(f"{len(asked):,} questions after {shots} examples")
    texts = [q.joined(c) for q in asked for c in q.choices]
    scores = [log_p for log_p, _ in generator.score(texts, [before + q.context for q in asked for _ in q.choices])]
    right, right_a_byte, rows, at = 0, 0, [], 0
    for q in asked:
        own = scores[at : at + len(q.choices)]
        a_byte = [s / len(q.joined(c).encode()) for s, c in zip(own, q.choices, strict=True)]
        at += len(q.choices)
        best, best_a_byte = own.index(max(own)), a_byte.index(max(a_byte))
        right, right_a_byte = right + (best == q.answer), right_a_byte + (best_a_byte == q.answer)
        rows.append({"context": q.context, "chosen": q.choices[best], "answer": q.choices[q.answer]})
    run = Run.open(path)
    result = {
        "test": title,
        "questions": len(asked),
        "shots": shots,
        "accuracy": 100 * right / len(asked),
        "accuracy_by_byte": 100 * right_a_byte / len(asked),
        "standard_error": 100 * math.sqrt(right / len(asked) * (1 - right / len(asked)) / len(asked)),
        "by_chance": 100 * sum(1 / len(q.choices) for q in asked) / len(asked),
        "checkpoint": run.best(lambda text: None).path.name,
        "files": [file],
        "answers": rows,
    }
    write_json(run.evaluation_path(title), result)
    return result
