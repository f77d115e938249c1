"""Scores of translations: BLEU and chrF through sacreBLEU, with their signatures, and exact match."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from seqloom.errors import DataError, optional
from seqloom.evaluation.captions import LEAST, cider_d
from seqloom.evaluation.tokenization import Words, bleu_tokenization, words_by

_CHANCE = 10.0  # the chrF of translations that share nothing with their references but letters
_EDGES = (0, 5, 10, 15, 20, 30, 50, 100, 1 << 30)


References = Sequence[str | tuple[str, ...]]
"""The right answer to each source, or all of them."""


def every(reference: str | tuple[str, ...]) -> tuple[str, ...]:
    """All right answers to a source."""
    return (reference,) if isinstance(reference, str) else reference


def corpus_bleu(hypotheses: Sequence[str], references: References, **options: Any) -> tuple[float, str]:
    """The BLEU of a corpus, and its signature."""
    from sacrebleu.metrics.bleu import BLEU

    return _scored(BLEU(**options), hypotheses, references)


def corpus_chrf(hypotheses: Sequence[str], references: References) -> tuple[float, str]:
    """The chrF of a corpus, and its signature."""
    from sacrebleu.metrics.chrf import CHRF

    return _scored(CHRF(), hypotheses, references)


def streams(references: References) -> list[list[str | None]]:
    """References as sacreBLEU takes them: the first of each source, the second of each, ...; None = there is none."""
    return [list(row) for row in itertools.zip_longest(*map(every, references))]


def _scored(metric: Any, hypotheses: Sequence[str], references: References) -> tuple[float, str]:
    score = metric.corpus_score(list(hypotheses), streams(references)).score
    return float(score), str(metric.get_signature())


def score_translations(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: References,
    kinds: Sequence[str] = (),
    language: str = "",
) -> dict[str, Any]:
    """All scores of translations; `language`: the code of the language of the references.

    Without sources, as for images, there are no classes of length.

    Returns:
        bleu: sacreBLEU, cased, with the tokenization of the language (Papineni et al. 2002; Post 2018), 0 to 100.
        bleu_lowercased: the same without case.
        chrf: character F-score (Popovic 2015), 0 to 100.
        cider: CIDEr-D, where most have several references; None where there are too few; see captions.py.
        exact_match: percentage of translations equal to their reference, or to one of them.
        distinct_1, distinct_2: percentage of distinct words and word pairs among those of all translations (Li et al.
            2016): low if a model answers everything with the same text.
        signature, signature_lowercased, chrf_signature, cider_signature: what exactly was computed.
        sentences: the number of sentences.
        by_length: for each class of source length in words: its bounds, sentences, BLEU and exact match.
        by_kind: the same for each kind of sentence, if kinds are known.
    """
    if not references:
        raise DataError("there is no sentence to score")
    tokenization = bleu_tokenization([text for row in references for text in every(row)], language)
    words, source_words = words_by(tokenization), words_by(bleu_tokenization(sources))
    bleu, signature = corpus_bleu(hypotheses, references, tokenize=tokenization)
    lower, lower_signature = corpus_bleu(hypotheses, references, tokenize=tokenization, lowercase=True)
    chrf, chrf_signature = corpus_chrf(hypotheses, references)
    classes = length_classes(sources, words=source_words)

    def group(rows: Sequence[int]) -> dict[str, Any]:
        texts, expected = [hypotheses[i] for i in rows], [references[i] for i in rows]
        # If no reference has four words, there is no 4-gram to match, and BLEU means nothing.
        sound = any(len(words(text)) > 3 for row in expected for text in every(row))
        return {
            "sentences": len(rows),
            "bleu": round(corpus_bleu(texts, expected, tokenize=tokenization)[0], 2) if sound else None,
            "exact_match": round(exact_match(texts, expected), 2),
        }

    return {
        "bleu": bleu,
        "bleu_lowercased": lower,
        "chrf": chrf,
        **cider(hypotheses, references, tokenization),
        "exact_match": exact_match(hypotheses, references),
        "distinct_1": distinct(hypotheses, 1, words),
        "distinct_2": distinct(hypotheses, 2, words),
        "signature": signature,
        "signature_lowercased": lower_signature,
        "chrf_signature": chrf_signature,
        "sentences": len(references),
        "by_length": [{"from": low, "below": below, **group(rows)} for (low, below), rows in classes],
        "by_kind": [
            {"kind": kind, **group([i for i, k in enumerate(kinds) if k == kind])}
            for kind in sorted(set(kinds), key=_by_number)
        ],
    }


def cider(hypotheses: Sequence[str], references: References, tokenization: str) -> dict[str, Any]:
    """CIDEr-D and its signature, if most sources have several references; None if there are too few sources."""
    if 2 * sum(len(every(row)) > 1 for row in references) <= len(references):
        return {}
    if len(references) < LEAST:
        return {"cider": None}
    score, signature = cider_d(hypotheses, [every(row) for row in references], tokenization)
    return {"cider": score, "cider_signature": signature}


def _by_number(kind: str) -> list[str | int]:
    """A sort key that puts "length 10" after "length 2"."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", kind)]


def moses_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> tuple[float, str]:
    """Tokenized BLEU as papers on Multi30k report it: Moses tokens, lowercased. Needs the extra "moses"."""
    tokenizer = optional("sacremoses", "Moses-tokenized BLEU", "moses").MosesTokenizer(lang=language)

    def cut(texts: Sequence[str]) -> list[str]:
        return [tokenizer.tokenize(text.lower(), return_str=True, escape=False) for text in texts]

    score, signature = corpus_bleu(cut(hypotheses), cut(references), tokenize="none", force=True)
    return score, f"{signature}|moses:{language}|case:lc"


def exact_match(hypotheses: Sequence[str], references: References) -> float:
    """The percentage of translations that equal their reference, or one of them."""
    return 100 * sum(h in every(r) for h, r in zip(hypotheses, references, strict=True)) / max(1, len(references))


def zero_bleu(bleu: float, hypotheses: Sequence[str], references: References) -> str:
    """A warning where BLEU is 0 although translations are right, in whole or in part; else ""."""
    if round(bleu, 2) or not references:
        return ""
    exact = exact_match(hypotheses, references)
    chrf, _ = corpus_chrf(hypotheses, references)
    if not exact and chrf < _CHANCE:
        return ""
    return (
        f"BLEU is 0, but exact match is {exact:.1f} % and chrF {chrf:.1f}: no four words in a row are right, or the "
        f"references are shorter; training.metric = {'exact_match' if exact else 'loss'!r} can choose the checkpoint"
    )


def distinct(texts: Sequence[str], n: int, words: Words = str.split) -> float:
    """The percentage of distinct n-grams among the n-grams of words of all texts."""
    grams = [tuple(row[i : i + n]) for row in map(words, texts) for i in range(len(row) - n + 1)]
    return 100 * len({*grams}) / max(1, len(grams))


def length_classes(
    sources: Sequence[str], least: int = 1, words: Words = str.split
) -> list[tuple[tuple[int, int | None], list[int]]]:
    """The classes of source length in words that occur, from (inclusive) and below, each with its sentences.

    A class of fewer than `least` sentences is merged with the next longer one, the longest with the one before it.
    """
    lengths = [len(words(source)) for source in sources]
    classes: list[tuple[tuple[int, int | None], list[int]]] = []
    for low, below in itertools.pairwise(_EDGES):
        if rows := [i for i, n in enumerate(lengths) if low <= n < below]:
            classes.append(((low, below if below < _EDGES[-1] else None), rows))
    for i in range(len(classes) - 2, -1, -1):
        (shorter, rows), (longer, more) = classes[i : i + 2]
        if len(rows) < least or (i == len(classes) - 2 and len(more) < least):
            classes[i : i + 2] = [((shorter[0], longer[1]), rows + more)]
    return classes
