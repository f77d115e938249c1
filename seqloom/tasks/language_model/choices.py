"""Multiple-choice questions for a language model, which chooses the most probable answer, zero-shot or few-shot."""

from __future__ import annotations

import math

from seqloom.data.formats.choices import read_multiple_choice
from seqloom.errors import DataError
from seqloom.files import Json
from seqloom.tasks.language_model.predictor import Generator
from seqloom.training.log import Reporter


def score_choices(generator: Generator, file: str, shots: int, reporter: Reporter) -> Json:
    """How often the correct choice has the highest log-probability, in total and per byte.

    Args:
        generator: the predictor of a language model.
        file: see `read_multiple_choice`.
        shots: the number of questions from the file that precede each other question, with their answers, unscored.
        reporter: prints progress.
    """
    questions = read_multiple_choice(file)
    if not 0 <= shots < len(questions):
        problem = f"{shots} examples out of {len(questions)} questions leave none to score"
        raise DataError(problem, where=file, cure=f"--shots 0 to {len(questions) - 1}")
    before = "".join(f"{q.solved()}\n\n" for q in questions[:shots])
    scored = questions[shots:]
    reporter.say(f"{len(scored):,} questions after {shots} examples")
    texts = [q.joined(c) for q in scored for c in q.choices]
    scores = [log_p for log_p, _ in generator.score(texts, [before + q.context for q in scored for _ in q.choices])]
    correct, correct_by_byte, rows, at = 0, 0, [], 0
    for q in scored:
        log_ps = scores[at : at + len(q.choices)]
        by_byte = [log_p / len(q.joined(c).encode()) for log_p, c in zip(log_ps, q.choices, strict=True)]
        at += len(q.choices)
        best = log_ps.index(max(log_ps))
        correct += best == q.answer
        correct_by_byte += by_byte.index(max(by_byte)) == q.answer
        rows.append({"context": q.context, "chosen": q.choices[best], "answer": q.choices[q.answer]})
    return {
        "questions": len(scored),
        "shots": shots,
        "accuracy": 100 * correct / len(scored),
        "accuracy_by_byte": 100 * correct_by_byte / len(scored),
        "standard_error": 100 * math.sqrt(correct / len(scored) * (1 - correct / len(scored)) / len(scored)),
        "by_chance": 100 * sum(1 / len(q.choices) for q in scored) / len(scored),
        "answers": rows,
    }
