"""Sequences of nucleotides: the other strand, and words of k letters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from seqloom.errors import DataError
from seqloom.limits import Bounded, Bounds

_LETTERS = "ACGTURYSWKMBDHVN"  # IUPAC: bases, and sets of them (Cornish-Bowden 1985)
_COMPLEMENTS = "TGCAAYRSWMKVHDBN"
_COMPLEMENT = str.maketrans(_LETTERS + _LETTERS.lower(), _COMPLEMENTS + _COMPLEMENTS.lower())
UPPER = str.maketrans(_LETTERS.lower(), _LETTERS)


@dataclass(frozen=True)
class Kmers(Bounded):
    """Words of k letters, as of DNA, overlapping or not (Ji et al. 2021); those not seen in training become <unk>.

    Args:
        size: k.
        stride: letters from the start of a word to that of the next: 1 = at each letter, k = without overlap.
        lowercase: whether text is lowercased first.
    """

    kind: ClassVar[str] = "kmers"
    joint: ClassVar[bool] = True
    size: Annotated[int, Bounds(1, 12)] = 6
    stride: Annotated[int, Bounds(1, 12)] = 1
    lowercase: bool = False


def of_nucleotides(tokens: Iterable[str]) -> bool:
    """Whether the letters of a vocabulary are those of DNA or RNA in upper case; the first other one decides."""
    letters = set[str]()
    for token in tokens:
        letters.update("" if token.startswith("<") else token)
        if not letters <= {*_LETTERS}:
            return False
    return {*"ACG"} < letters


def reverse_complement(sequence: str, where: str = "") -> str:
    """The other strand, in its own direction. Raises DataError for what is no nucleotide."""
    if wrong := next((c for c in sequence if ord(c) not in _COMPLEMENT), ""):
        cure = "data.strands = 'both' is for DNA: A, C, G, T, and the letters of IUPAC for uncertain ones"
        raise DataError(f"{wrong!r} is no nucleotide", where=where, cure=cure)
    return sequence.translate(_COMPLEMENT)[::-1]


def kmers(sequence: str, size: int, stride: int) -> str:
    """The words of `size` letters that begin every `stride` letters, with spaces between; a shorter one is whole."""
    text = "".join(sequence.split())
    return " ".join(text[i : i + size] for i in range(0, max(len(text) - size, 0) + 1, stride))
