"""Tests of word vectors against human judgments: analogies (Mikolov et al. 2013a) and word similarities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqloom.data.formats.lines import expand, is_blank, text_of
from seqloom.errors import DataError
from seqloom.evaluation.classification import rank_correlation
from seqloom.models.word_vectors import WordVectors

_QUESTIONS = 256  # per matrix product


def word_test(vectors: WordVectors, path: str, restrict: int) -> dict[str, Any]:
    """The test of a file: analogies if its first line is ": section", else word similarities.

    `restrict`: analogies use only this many of the most frequent words; 0 = all.
    """
    file = expand(path)
    lines = [(number, line) for number, (line, _) in enumerate(text_of(file), 1) if not is_blank(line)]
    if lines and lines[0][1].startswith(":"):
        return analogies(vectors, file, lines, restrict)
    return similarities(vectors, file, lines)


def analogies(
    vectors: WordVectors, file: Path, lines: Sequence[tuple[int, str]], restrict: int = 30_000
) -> dict[str, Any]:
    """Four words per line, separated by tabs or blanks, under ": section" lines: is the fourth the nearest to second -
    first + third, of all words but these three? Questions with an unknown or too rare word are skipped.

    Returns a row for each section, for the sections whose names begin with "gram" (syntactic), the others, and all.
    """
    size = min(restrict or len(vectors.vectors), len(vectors.vectors))
    units = vectors.vectors[:size] / vectors.norms[:size, None]
    sections: list[tuple[str, list[list[int]], int]] = []
    for number, line in lines:
        if line.startswith(":"):
            sections.append((line[1:].strip(), [], 0))
            continue
        words = _cells(line, "\t")
        if len(words) != 4 or not sections:
            raise DataError("not four words", where=f"{file}:{number}", cure="a line is a question of four words")
        name, questions, asked = sections[-1]
        ids = [i for word in words if (i := vectors.vocabulary.place(word)) is not None and i < size]
        if len(ids) == len(words):
            questions.append(ids)
        sections[-1] = name, questions, asked + 1
    rows: list[dict[str, Any]] = [
        {"section": name, "asked": asked, "known": len(ids), "right": _right(units, np.array(ids, dtype=np.int64))}
        for name, ids, asked in sections
    ]
    syntactic = [row for row in rows if row["section"].startswith("gram")]
    semantic = [row for row in rows if row not in syntactic]
    groups, keys = {"semantic": semantic, "syntactic": syntactic, "all": rows}, ("asked", "known", "right")
    sums = [{"section": name} | {k: sum(row[k] for row in part) for k in keys} for name, part in groups.items()]
    for row in (*rows, *sums):
        row["accuracy"] = 100 * row["right"] / row["known"] if row["known"] else None
    return {"kind": "analogies", "file": file.name, "restrict": size, "sections": rows + sums}


def _cells(line: str, *separators: str) -> list[str]:
    """The parts of a line between the first of the separators that it has, or else between blanks."""
    separator = next((s for s in separators if s in line), None)
    return [part.strip() for part in line.split(separator)]


def _right(units: NDArray[np.float32], questions: NDArray[np.int64]) -> int:
    right = 0
    for at in range(0, len(questions), _QUESTIONS):
        part = questions[at : at + _QUESTIONS]
        scores = (units[part[:, 1]] - units[part[:, 0]] + units[part[:, 2]]) @ units.T
        np.put_along_axis(scores, part[:, :3], -np.inf, axis=1)
        right += int((scores.argmax(1) == part[:, 3]).sum())
    return right


def similarities(vectors: WordVectors, file: Path, lines: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Two words and a score per line, separated by tabs, commas or blanks: Spearman's rank correlation with the cosines
    of the pairs of known words. A first line without a score is a heading.
    """
    judgments: list[float] = []
    cosines: list[float] = []
    asked = 0
    for number, line in lines:
        parts = _cells(line, "\t", ",")
        try:
            first, second, score = parts[0], parts[1], float(parts[2])
            if not math.isfinite(score):
                raise ValueError
        except (IndexError, ValueError):
            if number == lines[0][0] and len(parts) >= 3:
                continue
            cure = "a line is two words and a score, separated by tabs"
            raise DataError("not two words and a score", where=f"{file}:{number}", cure=cure) from None
        asked += 1
        if all(vectors.vocabulary.place(word) is not None for word in (first, second)):
            judgments.append(score)
            cosines.append(vectors.similarity(first, second))
    rho = 100 * rank_correlation(judgments, cosines) if len(judgments) > 1 else math.nan
    spearman = rho if math.isfinite(rho) else None
    return {"kind": "similarity", "file": file.name, "pairs": asked, "known": len(judgments), "spearman": spearman}
