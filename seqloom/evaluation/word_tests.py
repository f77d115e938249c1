"""Word vectors against what people think: analogies (Mikolov et al. 2013a) and lists of similar words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqloom.data.formats.lines import expand, text_lines
from seqloom.errors import DataError
from seqloom.evaluation.correlation import rank_correlation
from seqloom.models.word_vectors import WordVectors

_QUESTIONS = 256  # answered at a time


def word_test(vectors: WordVectors, path: str, restrict: int) -> dict[str, Any]:
    """What a file asks: analogies, if its first line is ": section", else how similar two words are.

    `restrict`: only so many of the most frequent words count in analogies; 0 = all.
    """
    file = expand(path)
    lines = [(number, line) for number, line in enumerate(text_lines(file), 1) if line.strip()]
    if lines and lines[0][1].startswith(":"):
        return analogies(vectors, file, lines, restrict)
    return similarities(vectors, file, lines)


def analogies(
    vectors: WordVectors, file: Path, lines: Sequence[tuple[int, str]], restrict: int = 30_000
) -> dict[str, Any]:
    """Four words a line under ": section" lines: is the fourth the nearest to second - first + third, of all words
    but these three? Questions with a word that is not known, or too rare, are left out.

    Gives a row for each section, and for the sections whose names begin with "gram" (syntactic), the others, and all.
    """
    size = min(restrict or len(vectors.vectors), len(vectors.vectors))
    units = vectors.vectors[:size] / vectors.norms[:size, None]
    sections: list[tuple[str, list[list[int]], int]] = []
    for number, line in lines:
        if line.startswith(":"):
            sections.append((line[1:].strip(), [], 0))
            continue
        words = line.split()
        if len(words) != 4 or not sections:
            raise DataError("not four words", where=f"{file}:{number}", cure="a line is a question of four words")
        name, known, asked = sections[-1]
        ids = [_known(vectors, word, size) for word in words]
        if all(i is not None for i in ids):
            known.append([i for i in ids if i is not None])
        sections[-1] = name, known, asked + 1
    rows: list[dict[str, Any]] = [
        {"section": name, "asked": asked, "known": len(known), "right": _right(units, np.array(known, dtype=np.int64))}
        for name, known, asked in sections
    ]
    syntactic = [row for row in rows if row["section"].startswith("gram")]
    semantic = [row for row in rows if row not in syntactic]
    groups = (("semantic", semantic), ("syntactic", syntactic), ("all", rows))
    sums = [
        {"section": name} | {k: sum(r[k] for r in own) for k in ("asked", "known", "right")} for name, own in groups
    ]
    for row in (*rows, *sums):
        row["accuracy"] = 100 * row["right"] / row["known"] if row["known"] else None
    return {"kind": "analogies", "file": file.name, "restrict": size, "sections": rows + sums}


def _known(vectors: WordVectors, word: str, size: int) -> int | None:
    found = vectors.vocabulary.place(word)
    return found if found is not None and found < size else None


def _right(units: NDArray[np.float32], questions: NDArray[np.int64]) -> int:
    right = 0
    for at in range(0, len(questions), _QUESTIONS):
        part = questions[at : at + _QUESTIONS]
        scores = (units[part[:, 1]] - units[part[:, 0]] + units[part[:, 2]]) @ units.T
        np.put_along_axis(scores, part[:, :3], -np.inf, axis=1)
        right += int((scores.argmax(1) == part[:, 3]).sum())
    return right


def similarities(vectors: WordVectors, file: Path, lines: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Two words and a score a line, between tabs, commas or blanks: Spearman's rank correlation with the cosines, over
    the pairs of known words. A first line without a number is a heading.
    """
    people: list[float] = []
    ours: list[float] = []
    asked = 0
    for number, line in lines:
        parts = line.replace(",", "\t").split("\t") if "\t" in line or "," in line else line.split()
        try:
            first, second, score = parts[0].strip(), parts[1].strip(), float(parts[2])
            if not math.isfinite(score):
                raise ValueError
        except (IndexError, ValueError):
            if number == lines[0][0] and len(parts) >= 3:
                continue
            cure = "a line is two words and a score, with tabs between"
            raise DataError("not two words and a score", where=f"{file}:{number}", cure=cure) from None
        asked += 1
        if all(_known(vectors, word, len(vectors.vectors)) is not None for word in (first, second)):
            people.append(score)
            ours.append(vectors.similarity(first, second))
    rho = 100 * rank_correlation(people, ours) if len(people) > 1 else math.nan
    spearman = rho if math.isfinite(rho) else None
    return {"kind": "similarity", "file": file.name, "pairs": asked, "known": len(people), "spearman": spearman}
