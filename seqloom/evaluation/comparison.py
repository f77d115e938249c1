"""Compares translations of one test set by several systems: what differs, and whether the difference is significant."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqloom.errors import DataError
from seqloom.evaluation.tokenization import Words, bleu_tokenization, words_by
from seqloom.evaluation.translation import References, corpus_bleu, every, exact_match, length_classes, streams
from seqloom.files import Json
from seqloom.measures import LEAST, certain

Systems = Mapping[str, Sequence[str]]
"""The translations of each system, by its name."""
_FREQUENCIES = (0, 1, 5, 10, 100, 1000, 1 << 30)


def compare_translations(
    systems: Systems,
    sources: Sequence[str],
    references: References,
    training: Sequence[str],
    samples: int = 1000,
    language: str = "",
) -> Json:
    """Compares the translations of the same sources by several systems.

    Args:
        systems: the translations of each, by name; the others are tested against the first.
        sources, references: the test set.
        training: the targets of the training data, whose words are counted.
        samples: the samples of the paired bootstrap (Koehn 2004).
        language: the code of the language of the references.

    Returns:
        Plain values. "tokenization": that of BLEU; "systems": BLEU (lowercased) and chrF with the half-widths of their
        95 % intervals and the p-value of the difference from the first, None for fewer than `LEAST` sentences;
        "by_length": the same for each class of source length, of as many sentences or more; "by_frequency": F1 of the
        words of the references by their frequency in training, if that is given; "gains": BLEU above the first on
        sources of fewer than 10 words and of 20 and more, if there are both; "ngrams": those that each system gets
        right more and less often than the first; "differ": the sentences whose chrF differs most.
    """
    if not references:
        raise DataError("there is no sentence to compare")
    tokenization = bleu_tokenization([text for row in references for text in every(row)], language)
    words, source_words = words_by(tokenization), words_by(bleu_tokenization(sources))
    classes = length_classes(sources, LEAST, source_words)
    lengths = [len(source_words(source)) for source in sources]
    seen = Counter(word for text in training for word in words(text))

    def scores(rows: Sequence[int], samples: int) -> list[Json]:
        chosen = {name: [texts[i] for i in rows] for name, texts in systems.items()}
        return _scores(chosen, [references[i] for i in rows], samples, tokenization)

    return {
        "sentences": len(references),
        "tokenization": tokenization,
        "systems": scores(range(len(references)), samples),
        "by_length": [
            {"from": low, "below": below, "sentences": len(rows), "systems": scores(rows, min(samples, 300))}
            for (low, below), rows in classes
        ],
        "gains": _gains(systems, lengths, references, tokenization),
        "by_frequency": _by_frequency(systems, references, seen, words) if training else [],
        "ngrams": _ngrams(systems, references, words),
        "differ": _differing(systems, sources, references),
    }


def _scores(systems: Systems, references: References, samples: int, tokenization: str) -> list[Json]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    named: list[tuple[str, Sequence[str]]] = [(name, list(texts)) for name, texts in systems.items()]
    metrics = {"BLEU": BLEU(lowercase=True, tokenize=tokenization), "chrF": CHRF()}
    results: Any
    expected: Any = streams(references)
    _, results = PairedTest(named, metrics, expected, test_type="bs", n_samples=samples)()
    rows: list[Json] = []
    count = len(references)
    for i, (name, texts) in enumerate(named):
        bleu, chrf = (next(v[i] for k, v in results.items() if k.startswith(key)) for key in ("BLEU", "chrF"))
        same = i > 0 and bleu.score == rows[0]["bleu"]  # for equal systems sacreBLEU reports its lowest possible p
        rows.append(
            {
                "name": name,
                "bleu": float(bleu.score),
                "bleu_interval": certain(float(bleu.ci), count),
                "p": None if i == 0 else certain(1.0 if same else float(bleu.p_value), count),
                "chrf": float(chrf.score),
                "chrf_interval": certain(float(chrf.ci), count),
                "exact_match": exact_match(texts, references),
            }
        )
    return rows


def _gains(systems: Systems, lengths: Sequence[int], references: References, tokenization: str) -> list[Json]:
    short, long = ([i for i, n in enumerate(lengths) if low <= n < below] for low, below in ((0, 10), (20, 1 << 30)))
    if not (short and long):
        return []

    def bleu(texts: Sequence[str], rows: Sequence[int]) -> float:
        sides = [texts[i] for i in rows], [references[i] for i in rows]
        return corpus_bleu(*sides, lowercase=True, tokenize=tokenization)[0]

    scores = [(name, bleu(texts, short), bleu(texts, long)) for name, texts in systems.items()]
    (_, base_short, base_long), *others = scores
    return [{"name": name, "short": a - base_short, "long": b - base_long} for name, a, b in others]


def _by_frequency(systems: Systems, references: References, seen: Mapping[str, int], words: Words) -> list[Json]:
    rows = []
    for low, below in itertools.pairwise(_FREQUENCIES):
        expected, *produced = (
            [_most([w for w in words(text) if low <= seen.get(w, 0) < below] for text in every(row)) for row in rows]
            for rows in (references, *systems.values())
        )
        if not (count := sum(c.total() for c in expected)):
            continue
        f1 = {}
        for name, counts in zip(systems, produced, strict=True):
            right = sum((a & b).total() for a, b in zip(counts, expected, strict=True))
            f1[name] = 200 * right / max(1, count + sum(c.total() for c in counts))
        rows.append({"from": low, "below": below if below < 1 << 30 else None, "words": count, "f1": f1})
    return rows


def _ngrams(systems: Systems, references: References, words: Words, most: int = 10) -> list[Json]:
    expected = [_most(_grams(words(text)) for text in every(row)) for row in references]
    right = {}
    for name, texts in systems.items():
        right[name] = Counter[str]()
        for text, reference in zip(texts, expected, strict=True):
            right[name].update(Counter(_grams(words(text))) & reference)
    first, *others = systems
    rows = []
    for name in others:
        gains = {gram: right[name][gram] - right[first][gram] for gram in {*right[name], *right[first]}}
        # Of two with the same difference, the longer one is more informative.
        ranked = sorted(gains, key=lambda gram: (-gains[gram], -len(gram), gram))
        more = [[gram, gains[gram]] for gram in ranked[:most] if gains[gram] > 0]
        less = [[gram, gains[gram]] for gram in ranked[::-1][:most] if gains[gram] < 0]
        rows.append({"name": name, "more": more, "less": less})
    return rows


def _grams(words: Sequence[str]) -> list[str]:
    return [" ".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)]


def _most(texts: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each word, or n-gram, occurs in the one of several references that has it most often, as in BLEU."""
    counts = Counter[str]()
    for words in texts:
        counts |= Counter(words)
    return counts


def _differing(systems: Systems, sources: Sequence[str], references: References, most: int = 10) -> list[Json]:
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    rows = []
    for i, (source, reference) in enumerate(zip(sources, references, strict=True)):
        texts = {name: translations[i] for name, translations in systems.items()}
        scores = {name: metric.sentence_score(text, every(reference)).score for name, text in texts.items()}
        spread = max(scores.values()) - min(scores.values())
        row = {"source": source, "reference": every(reference)[0], "spread": spread}
        rows.append({**row, "translations": texts, "chrf": scores})
    return sorted(rows, key=lambda row: -row["spread"])[:most]
