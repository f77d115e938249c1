"""Scores of translations: BLEU and chrF through sacreBLEU, with their signatures, and exact match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seqloom.errors import DataError, MissingExtra

_EDGES = (0, 5, 10, 15, 20, 30, 50, 100, 1 << 30)


@dataclass(frozen=True)
class Scores:
    """What a set of translations reached.

    Args:
        bleu: sacreBLEU, 13a, cased (Papineni et al. 2002; Post 2018), 0 to 100.
        bleu_lowercased: the same without case.
        chrf: character F-score (Popovic 2015), 0 to 100.
        exact_match: percentage of translations equal to their reference.
        signature, signature_lowercased, chrf_signature: what exactly was computed.
        sentences: how many.
        by_length: for each class of source length in words: its bounds, sentences, BLEU and exact match.
        by_kind: the same for each kind of sentence, where kinds are known.
    """

    bleu: float
    bleu_lowercased: float
    chrf: float
    exact_match: float
    signature: str
    signature_lowercased: str
    chrf_signature: str
    sentences: int
    by_length: list[dict[str, Any]]
    by_kind: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str], **options: Any) -> tuple[float, str]:
    """BLEU of a corpus and its signature."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(**options)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return float(score), str(metric.get_signature())


def score_translations(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], kinds: Sequence[str] = ()
) -> Scores:
    """All scores of translations against one reference each."""
    from sacrebleu.metrics.chrf import CHRF

    if not references:
        raise DataError("there is no sentence to score")
    bleu, signature = corpus_bleu(hypotheses, references)
    lower, lower_signature = corpus_bleu(hypotheses, references, lowercase=True)
    chrf = CHRF()
    character = float(chrf.corpus_score(list(hypotheses), [list(references)]).score)
    lengths = [len(source.split()) for source in sources]
    classes = [next(i for i, edge in enumerate(_EDGES[1:]) if n < edge) for n in lengths]
    by_length = [
        {"from": _EDGES[c], "below": _EDGES[c + 1] if c + 2 < len(_EDGES) else None, **row}
        for c, row in _groups(classes, hypotheses, references)
    ]
    by_kind = [{"kind": kind, **row} for kind, row in _groups(kinds, hypotheses, references)] if kinds else []
    return Scores(
        bleu=bleu,
        bleu_lowercased=lower,
        chrf=character,
        exact_match=_exact(hypotheses, references),
        signature=signature,
        signature_lowercased=lower_signature,
        chrf_signature=str(chrf.get_signature()),
        sentences=len(references),
        by_length=by_length,
        by_kind=by_kind,
    )


def moses_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> tuple[float, str]:
    """Tokenized BLEU as papers on Multi30k report it: Moses tokens, lowercased. Needs the extra "moses"."""
    try:
        from sacremoses import MosesTokenizer
    except ImportError:
        raise MissingExtra("Moses-tokenized BLEU", "moses") from None
    tokenizer = MosesTokenizer(lang=language)

    def cut(texts: Sequence[str]) -> list[str]:
        return [tokenizer.tokenize(text.lower(), return_str=True, escape=False) for text in texts]

    score, signature = corpus_bleu(cut(hypotheses), cut(references), tokenize="none", force=True)
    return score, f"{signature}|moses:{language}|case:lc"


def _exact(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    return 100 * sum(h == r for h, r in zip(hypotheses, references, strict=True)) / max(1, len(references))


def _groups(keys: Sequence[Any], hypotheses: Sequence[str], references: Sequence[str]) -> list[tuple[Any, Any]]:
    rows = []
    for key in sorted(set(keys)):
        chosen = [i for i, k in enumerate(keys) if k == key]
        ours, theirs = [hypotheses[i] for i in chosen], [references[i] for i in chosen]
        row = {
            "sentences": len(chosen),
            # Where no reference has four words there is no 4-gram to match, and BLEU says nothing.
            "bleu": round(corpus_bleu(ours, theirs)[0], 2) if any(len(t.split()) > 3 for t in theirs) else None,
            "exact_match": round(_exact(ours, theirs), 2),
        }
        rows.append((key, row))
    return rows
