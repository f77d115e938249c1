"""Translations of one test set by several systems: what differs, and whether by chance."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from seqloom.errors import DataError
from seqloom.evaluation.translation import corpus_bleu, exact_match, length_classes

_LEAST = 20  # sentences of a class of length: of fewer the score says little
_FREQUENCIES = (0, 1, 5, 10, 100, 1000, 1 << 30)


def compare_translations(
    systems: Mapping[str, Sequence[str]],
    sources: Sequence[str],
    references: Sequence[str],
    seen: Mapping[str, int],
    samples: int = 1000,
) -> dict[str, Any]:
    """What several systems made of the same sources.

    Args:
        systems: the translations of each, by name; the first is what the others are tested against.
        sources, references: of the test set.
        seen: how often training showed each word of the target.
        samples: of the paired bootstrap (Koehn 2004).

    Returns:
        "systems": BLEU (13a, lowercased) and chrF with the half-widths of their 95 % intervals and the p-value of
        the difference from the first; "by_length": BLEU for each class of source length, of 20 sentences or more;
        "by_frequency": F1 of the words of the references by how often training showed them; "gains": BLEU above the
        first on sources of fewer than 10 words and of 20 and more, where there are both; "ngrams": what each system
        has more and less often right than the first; "differ": the sentences whose chrF differs most. Plain values.
    """
    if not references:
        raise DataError("there is no sentence to compare")
    classes = length_classes(sources, _LEAST)
    return {
        "sentences": len(references),
        "systems": _scores(systems, references, samples),
        "by_length": [
            {
                "from": low,
                "below": below,
                "sentences": len(rows),
                "systems": _scores(
                    {name: [texts[i] for i in rows] for name, texts in systems.items()},
                    [references[i] for i in rows],
                    min(samples, 300),
                ),
            }
            for (low, below), rows in classes
        ],
        "gains": _gains(systems, sources, references),
        "by_frequency": _by_frequency(systems, references, seen),
        "ngrams": _ngrams(systems, references),
        "differ": _differing(systems, sources, references),
    }


def _scores(systems: Mapping[str, Sequence[str]], references: Sequence[str], samples: int) -> list[dict[str, Any]]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    named: list[tuple[str, Sequence[str]]] = [(name, list(texts)) for name, texts in systems.items()]
    metrics = {"BLEU": BLEU(lowercase=True), "chrF": CHRF()}
    found: Any
    _, found = PairedTest(named, metrics, [list(references)], test_type="bs", n_samples=samples)()
    rows: list[dict[str, Any]] = []
    for i, (name, texts) in enumerate(named):  # sacreBLEU calls equal systems different: its p is the least there is
        bleu, chrf = (next(v[i] for k, v in found.items() if k.startswith(key)) for key in ("BLEU", "chrF"))
        rows.append(
            {
                "name": name,
                "bleu": float(bleu.score),
                "bleu_interval": float(bleu.ci),
                "p": None if i == 0 else 1.0 if bleu.score == rows[0]["bleu"] else float(bleu.p_value),
                "chrf": float(chrf.score),
                "chrf_interval": float(chrf.ci),
                "exact_match": exact_match(texts, references),
            }
        )
    return rows


def _gains(
    systems: Mapping[str, Sequence[str]], sources: Sequence[str], references: Sequence[str]
) -> list[dict[str, Any]]:
    lengths = [len(source.split()) for source in sources]
    short, long = ([i for i, n in enumerate(lengths) if low <= n < below] for low, below in ((0, 10), (20, 1 << 30)))
    if not (short and long):
        return []
    found = {
        name: [
            corpus_bleu([texts[i] for i in rows], [references[i] for i in rows], lowercase=True)[0]
            for rows in (short, long)
        ]
        for name, texts in systems.items()
    }
    first, *others = found
    return [
        {"name": name, "short": found[name][0] - found[first][0], "long": found[name][1] - found[first][1]}
        for name in others
    ]


def _by_frequency(
    systems: Mapping[str, Sequence[str]], references: Sequence[str], seen: Mapping[str, int]
) -> list[dict[str, Any]]:
    rows = []
    for low, below in itertools.pairwise(_FREQUENCIES):
        wanted = [Counter(w for w in text.split() if low <= seen.get(w, 0) < below) for text in references]
        if not (count := sum(c.total() for c in wanted)):
            continue
        row: dict[str, Any] = {"from": low, "below": below if below < 1 << 30 else None, "words": count, "f1": {}}
        for name, texts in systems.items():
            given = [Counter(w for w in text.split() if low <= seen.get(w, 0) < below) for text in texts]
            right = sum((a & b).total() for a, b in zip(given, wanted, strict=True))
            row["f1"][name] = 200 * right / max(1, count + sum(c.total() for c in given))
        rows.append(row)
    return rows


def _ngrams(systems: Mapping[str, Sequence[str]], references: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    wanted = [_counted(text) for text in references]
    right = {}
    for name, texts in systems.items():
        right[name] = Counter[str]()
        for text, reference in zip(texts, wanted, strict=True):
            right[name].update(_counted(text) & reference)
    first, *others = systems
    rows = []
    for name in others:
        gains = {gram: right[name][gram] - right[first][gram] for gram in {*right[name], *right[first]}}
        # Where two differ by as much, the longer one says more.
        ranked = sorted(gains, key=lambda gram: (-gains[gram], -len(gram), gram))
        rows.append(
            {
                "name": name,
                "more": [[gram, gains[gram]] for gram in ranked[:most] if gains[gram] > 0],
                "less": [[gram, gains[gram]] for gram in ranked[::-1][:most] if gains[gram] < 0],
            }
        )
    return rows


def _counted(text: str) -> Counter[str]:
    words = text.split()
    return Counter(" ".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def _differing(
    systems: Mapping[str, Sequence[str]], sources: Sequence[str], references: Sequence[str], most: int = 10
) -> list[dict[str, Any]]:
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    rows = []
    for i, (source, reference) in enumerate(zip(sources, references, strict=True)):
        texts = {name: translations[i] for name, translations in systems.items()}
        scores = {name: metric.sentence_score(text, [reference]).score for name, text in texts.items()}
        spread = max(scores.values()) - min(scores.values())
        rows.append({"source": source, "reference": reference, "spread": spread, "translations": texts, "chrf": scores})
    return sorted(rows, key=lambda row: -row["spread"])[:most]
