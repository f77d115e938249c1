"""Multiple-choice questions for a language model, which chooses the most probable answer, zero-shot or few-shot."""

from __future__ import annotations

import math

from seqloom.data.formats.choices import read_questions
from seqloom.errors import DataError
from seqloom.files import Json
from seqloom.tasks.language_model.predictor import Generator
from seqloom.training.log import Reporter


def score_choices(generator: Generator, file: str, shots: int, reporter: Reporter) -> Json:
    """How often the correct choice is the most probable, in total and per byte.

    Args:
        generator: the predictor of a language model.
        file: see `read_questions`.
        shots: the number of questions from the file that precede each other question, with their answers, unscored.
        reporter: prints progress.
    """
    questions = read_questions(file)
    if not 0 <= shots < len(questions):
        raise DataError(f"{shots} examples of {len(questions)} questions leave none to ask", where=file, cure="--shots")
    before = "".join(f"{q.solved()}\n\n" for q in questions[:shots])
    asked = questions[shots:]
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
    return {
        "questions": len(asked),
        "shots": shots,
        "accuracy": 100 * right / len(asked),
        "accuracy_by_byte": 100 * right_a_byte / len(asked),
        "standard_error": 100 * math.sqrt(right / len(asked) * (1 - right / len(asked)) / len(asked)),
        "by_chance": 100 * sum(1 / len(q.choices) for q in asked) / len(asked),
        "answers": rows,
    }
