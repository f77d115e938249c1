"""CIDEr-D: how much a caption agrees with what several people wrote about the same image (Vedantam et al. 2015)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from seqloom.errors import DataError

LEAST = 20
"""The fewest images: with fewer, a word of one image weighs little more than those of all."""
_LONGEST, _SIGMA = 4, 6.0  # n of the longest n-grams; the deviation of the penalty for length, in words

Grams = Counter[tuple[str, ...]]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]], tokenize: str = "13a") -> tuple[float, str]:
    """The mean CIDEr-D of captions, from 0 to 10, and its signature.

    For each n from 1 to 4, captions are vectors of the counts of their n-grams, each times log(images / images whose
    references have it). An image scores the mean over n and over its references of

        10 exp(-(difference in words)^2 / (2 sigma^2)) min(caption, reference) . reference / (|caption| |reference|)

    Section 5 of the paper; counts are not divided by the length, as in the program that its authors published.

    Args:
        captions: one for each image.
        references: those of each image.
        tokenize: sacreBLEU's name of what cuts texts into words; they are lowercased.

    Raises:
        DataError: fewer than 20 images, from which no weights can be estimated.
    """
    if len(captions) < LEAST:
        problem = (
            f"CIDEr-D weighs words by how many images they are written about, and there are {len(captions)} images"
        )
        raise DataError(problem, cure=f"give at least {LEAST}")
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = BLEU(tokenize=tokenize).tokenizer

    def grams(text: str) -> Grams:
        words = str(tokenizer(text.lower())).split()
        return Counter(tuple(words[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(words) - n + 1))

    right = [[grams(text) for text in texts] for texts in references]
    images = Counter(gram for each in right for gram in {gram for counts in each for gram in counts})
    scores = []
    for text, each in zip(captions, right, strict=True):
        said = grams(text)
        scores.append(10 * math.fsum(_agreement(said, other, images, len(captions)) for other in each) / len(each))
    sizes = {len(each) for each in references}
    refs = str(*sizes) if len(sizes) == 1 else "var"
    signature = (
        f"CIDEr-D|images:{len(captions)}|nrefs:{refs}|n:{_LONGEST}|sigma:{_SIGMA:g}|idf:refs|case:lc|tok:{tokenize}"
    )
    return math.fsum(scores) / len(scores), signature


def _agreement(said: Grams, other: Grams, images: Mapping[tuple[str, ...], int], count: int) -> float:
    """The mean over n of the similarity of two captions, from 0 to 1."""
    both = [0.0] * _LONGEST
    squares = [[0.0] * _LONGEST for _ in (said, other)]
    for square, counts in zip(squares, (said, other), strict=True):
        for gram, times in counts.items():
            weight = math.log(count / max(1, images.get(gram, 0)))
            square[len(gram) - 1] += (times * weight) ** 2
            if counts is other:
                both[len(gram) - 1] += min(said[gram], times) * times * weight**2
    words = [sum(times for gram, times in counts.items() if len(gram) == 1) for counts in (said, other)]
    penalty = math.exp(-((words[0] - words[1]) ** 2) / (2 * _SIGMA**2))
    cosines = (dot / math.sqrt(a * b) for dot, a, b in zip(both, *squares, strict=True) if a and b)
    return penalty * math.fsum(cosines) / _LONGEST
