"""Answers scored as by the SQuAD script (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """The answer in lower case, without punctuation, articles and extra spaces."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION)).split())


def word_f1(answer: str, reference: str) -> float:
    """The F1 of the words in common, from 0 to 1; if one side is empty, 1 if both are, else 0."""
    words, expected = normalized(answer).split(), normalized(reference).split()
    if not words or not expected:
        return float(words == expected)
    return 2 * (Counter(words) & Counter(expected)).total() / (len(words) + len(expected))


def score_answers(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Exact match and F1 in percent, of each answer against the best of its references; no reference = "" is right.

    If there are questions without an answer, also apart: those with an answer (the script's HasAns) and those without
    one (NoAns), whose exact match and F1 are the same.
    """
    pairs = list(zip(answers, references, strict=True))
    parts = {"": pairs}
    if not all(references):
        parts |= {"has_answer_": [p for p in pairs if p[1]], "no_answer_": [p for p in pairs if not p[1]]}
    scores: dict[str, Any] = {"examples": len(pairs)}
    for name, part in parts.items():
        if part:
            scores |= {f"{name}questions": len(part)} if name else {}
            scores |= {f"{name}{key}": value for key, value in _means(part).items()}
    return scores


def _means(pairs: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float]:
    rows = [(answer, references or ("",)) for answer, references in pairs]
    return {
        "exact_match": 100 * sum(normalized(a) in map(normalized, correct) for a, correct in rows) / len(rows),
        "f1": 100 * sum(max(word_f1(a, r) for r in correct) for a, correct in rows) / len(rows),
    }
