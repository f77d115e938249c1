"""Pronouns with the nouns that they may stand for: the Winograd schemas, and GAP (Webster et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from seqloom.data.formats.lines import is_blank, read_each, text_of
from seqloom.data.rows import Pronoun, Span
from seqloom.errors import DataError

_WINOGRAD = ("correct", "before", "pronoun", "after", "candidate0", "candidate1")
_GAP = ("Text", "Pronoun", "Pronoun-offset", "A", "A-offset", "A-coref", "B", "B-offset", "B-coref")


def read_pronouns(path: str) -> list[Pronoun]:
    """The pronouns of a table whose first line names its columns, those of one of the two data sets.

    Left out are texts in which a noun does not occur, or whose pronoun stands for neither. Raises DataError.
    """
    cure = f"the columns are {', '.join(_WINOGRAD)}; or {', '.join(_GAP)}"
    return read_each([path], _read, "there are no pronouns with a noun that they stand for", cure)


def _read(path: Path) -> Iterator[Pronoun]:
    lines = text_of(path)
    names = next(lines)[0].split("\t")
    read = next((each for keys, each in ((_WINOGRAD, _winograd), (_GAP, _gap)) if {*keys} <= {*names}), None)
    for line, where in lines if read is not None else ():
        if is_blank(line):
            continue
        try:
            row = read(dict(zip(names, line.split("\t"), strict=True)), where)  # type: ignore[misc]
        except ValueError as error:
            raise DataError(f"not a pronoun: {error}", where=where, cure="see the first line of the file") from None
        if row is not None:
            yield row


def _winograd(row: Mapping[str, str], where: str) -> Pronoun | None:
    before = row["before"] if row["before"][-1:].isspace() else row["before"] + " "
    after = row["after"] if row["after"][:1] in " ,.;:!?'" else " " + row["after"]
    text = before + row["pronoun"] + after
    if row["correct"] not in ("0", "1"):
        raise ValueError(f"correct must be 0 or 1, not {row['correct']!r}")
    begins = [text.lower().find(row[f"candidate{i}"].lower()) for i in (0, 1)]
    if min(begins) < 0:
        return None
    nouns: tuple[Span, ...] = tuple((at, at + len(row[f"candidate{i}"])) for i, at in enumerate(begins))
    return Pronoun(text, (len(before), len(before) + len(row["pronoun"])), nouns, int(row["correct"]), where)


def _gap(row: Mapping[str, str], where: str) -> Pronoun | None:
    right = [row[f"{name}-coref"].upper() == "TRUE" for name in "AB"]
    spans = list[Span]()
    for name in ("Pronoun", "A", "B"):
        begin = int(row[f"{name}-offset"])
        spans.append((begin, begin + len(row[name])))
        if row["Text"][slice(*spans[-1])] != row[name]:
            raise ValueError(f"{row[name]} is not at {begin}")
    pronoun, *nouns = spans
    return Pronoun(row["Text"], pronoun, tuple(nouns), right.index(True), where) if any(right) else None
