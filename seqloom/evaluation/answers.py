"""Answers as the SQuAD script scores them (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """In lower case, without punctuation, articles and superfluous blanks."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION)).split())


def word_f1(answer: str, reference: str) -> float:
    """The F1 of the words in common, from 0 to 1; of an empty side 1 if both are empty."""
    one, other = normalized(answer).split(), normalized(reference).split()
    if not one or not other:
        return float(one == other)
    return 2 * sum((Counter(one) & Counter(other)).values()) / (len(one) + len(other))


def score_answers(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Exact match and F1 in percent: of each answer against the best of its references; none = "" is right."""
    known = [own or ("",) for own in references]
    pairs = list(zip(answers, known, strict=True))
    return {
        "examples": len(pairs),
        "exact_match": 100 * sum(any(normalized(a) == normalized(r) for r in own) for a, own in pairs) / len(pairs),
        "f1": 100 * sum(max(word_f1(a, r) for r in own) for a, own in pairs) / len(pairs),
    }
