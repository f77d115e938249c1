"""Word alignments that somebody has drawn: a line for each pair of sentences, "0-0 1-2 2?1"."""

from __future__ import annotations

import re
from typing import NamedTuple

from seqloom.data.formats.lines import expand, missing, text_of
from seqloom.errors import DataError

Links = frozenset[tuple[int, int]]
_LINK = re.compile(r"([0-9]{1,6})([-?p])([0-9]{1,6})")


class Gold(NamedTuple):
    """The links (source word, target word) of a pair, and where they stand; every sure one is possible, too."""

    sure: Links
    possible: Links
    where: str


def read_alignments(path: str) -> list[Gold]:
    """The links of each pair: i-j is sure, i?j (or ipj) possible, with words from 0; a blank line has none.

    Raises DataError, with the line, for anything else.
    """
    if not (file := expand(path)).exists():
        raise missing(file)
    return [_read(line, where) for line, where in text_of(file)]


def _read(line: str, where: str) -> Gold:
    matched = [(word, _LINK.fullmatch(word)) for word in line.split()]
    if wrong := [word for word, match in matched if match is None]:
        cure = "write links of words from 0, i-j for sure ones and i?j for possible ones: 0-0 1-2 2?1"
        raise DataError(f"not a link: {wrong[0][:40]!r}", where=where, cure=cure)
    links = [(match[2], (int(match[1]), int(match[3]))) for _, match in matched if match is not None]
    return Gold(frozenset(link for kind, link in links if kind == "-"), frozenset(link for _, link in links), where)
