"""Multiple-choice questions for a language model, which chooses the most probable answer, zero-shot or few-shot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqloom.data.formats.choices import read_multiple_choice
from seqloom.data.rows import MultipleChoice
from seqloom.errors import DataError, counted
from seqloom.files import Json
from seqloom.tasks.language_model.predictor import Generator, Joined
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
    examples, scored = [f"{q.solved()}\n\n" for q in questions[:shots]], questions[shots:]
    reporter.say(f"{len(scored):,} questions after {shots} examples")
    joined = [_joined(generator, "".join(examples), q) for q in scored]
    cut = _cut(generator, examples, scored, joined, reporter)
    scores = [log_p for log_p, _ in generator.score_joined([row for rows in joined for row in rows])]
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
        "cut": cut,
        "accuracy": 100 * correct / len(scored),
        "accuracy_by_byte": 100 * correct_by_byte / len(scored),
        "standard_error": 100 * math.sqrt(correct / len(scored) * (1 - correct / len(scored)) / len(scored)),
        "by_chance": 100 * sum(1 / len(q.choices) for q in scored) / len(scored),
        "answers": rows,
    }


def _joined(generator: Generator, before: str, question: MultipleChoice) -> list[Joined]:
    """What is scored of each choice of a question."""
    rows = []
    for choice in question.choices:
        try:
            rows.append(generator.joined(before + question.context, question.joined(choice)))
        except DataError as error:
            problem = f"the choice {choice[:40]!r}: {error.problem}"
            raise DataError(problem, where=question.where, cure="shorten it, or leave the question out") from None
    return rows


def _cut(
    generator: Generator,
    examples: Sequence[str],
    questions: Sequence[MultipleChoice],
    joined: Sequence[Sequence[Joined]],
    reporter: Reporter,
) -> int:
    """How many questions exceed the model's context, with a warning. Raises DataError if none has a whole example."""
    cuts = [max(row.cut for row in rows) for rows in joined]
    if examples and min(cuts) > len(generator.encode("".join(examples[:-1]))):
        problem = f"no question has room for an example in the model's context of {generator.context} tokens"
        cure = "leave --shots out, or put shorter questions first in the file"
        raise DataError(problem, where=f"--shots {len(examples)}", cure=cure)
    if longer := [question.where for question, cut in zip(questions, cuts, strict=True) if cut]:
        what = f"the question{' with its examples' * bool(examples)} exceeds the model's context"
        share = f"{len(longer):,} of {counted(len(questions), 'question')}"
        reporter.warn(f"{longer[0]}: {what} of {generator.context} tokens: its beginning is left out (of {share})")
    return len(longer)
