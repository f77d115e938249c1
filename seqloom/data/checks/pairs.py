"""Faults of parallel data, found before training: each with its file, line and cure."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from seqloom.data.checks.evidence import LanguageProfiles, find_shift, length_outliers
from seqloom.data.formats.lines import (
    MAX_BYTES,
    RECORD_BYTES,
    LineError,
    decode,
    expand,
    file_format,
    is_blank,
    raw_lines,
    through,
)
from seqloom.data.formats.parallel import check_po, corpus_files, parse_json, parse_tsv, read_pairs
from seqloom.data.rows import Pairs, Splits
from seqloom.errors import DataError, counted, first_of

Severity = Literal["error", "warning", "note"]
Parse = Callable[[str, str], object]
"""(line, its place) -> its content. Raises LineError."""

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN = 3
"""How many places a finding names."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one file or split.

    Args:
        severity: "error" = training on it makes no sense; "warning" = it does harm; "note" = worth knowing.
        what: the kind of fault in a few words ("duplicated pairs").
        where: file and lines ("train.de:17, :29, :31 and 12 more").
        detail: what exactly is wrong, with numbers.
        cure: what to do about it.
        count: how many lines or pairs it affects.
    """

    severity: Severity
    what: str
    where: str
    detail: str
    cure: str
    count: int


def _lines(file: str, numbers: Sequence[int]) -> str:
    return file + first_of([f":{number}" for number in numbers], SHOWN)


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} pairs ({100 * count / max(1, total):.3g} %)"


@dataclass(frozen=True)
class _Split:
    """Pairs and the name of their split, for findings about some of them."""

    pairs: Pairs
    name: str

    @cached_property
    def filled(self) -> list[tuple[int, str, str]]:
        """The pairs with text on both sides, and their indices."""
        rows = enumerate(zip(self.pairs.sources, self.pairs.targets, strict=True))
        return [(i, source, target) for i, (source, target) in rows if not (is_blank(source) or is_blank(target))]

    @cached_property
    def profiles(self) -> LanguageProfiles:
        """How the languages of the two sides look."""
        return LanguageProfiles(self.pairs.sources, self.pairs.targets)

    def where(self, indices: Iterable[int], side: int = 0) -> str:
        return _lines(self.pairs.files[side] or self.name, [self.pairs.line(i) for i in indices])

    def files(self) -> str:
        return " and ".join(dict.fromkeys(filter(None, self.pairs.files))) or self.name

    def findings(
        self, what: str, indices: Sequence[int], cure: str, *, side: int = 0, severity: Severity | None = None
    ) -> list[Finding]:
        """One finding about these pairs, or none; by default a note, and a warning from 1 % of the pairs on."""
        count, total = len(indices), len(self.pairs)
        if not count:
            return []
        severity = severity or ("warning" if count * 100 >= total else "note")
        detail = f"{_share(count, total)} of {self.name}"
        return [Finding(severity, what, self.where(indices, side), detail, cure, count)]


def check_pairs(pairs: Pairs, name: str) -> list[Finding]:
    """The faults within a split called `name`, errors first."""
    return _check(_Split(pairs, name))


def _check(split: _Split, texts: bool = True) -> list[Finding]:
    if not len(split.pairs):
        detail, cure = f"{split.name} is empty", "name files that have sentences"
        return [Finding("error", "no pairs", split.files(), detail, cure, 0)]
    checks = (_empty_sides, _codes, _repeats, _copies, _odd_lengths, _swapped_pairs, _shifted)
    return by_severity(finding for check in (checks if texts else checks[:3]) for finding in check(split))


def check_splits(splits: Splits, texts: bool = True, several: bool = False) -> list[Finding]:
    """The faults within each split, and between splits: pairs in two of them, swapped sides.

    Args:
        splits: the pairs.
        texts: whether the sources are texts, which can be compared with the targets.
        several: whether a source may have several targets.
    """
    named = [("train", splits.train), ("valid", splits.valid), ("test", splits.test)]
    parts = [_Split(pairs, name) for name, pairs in named if pairs is not None]
    findings = [finding for part in parts for finding in _check(part, texts)]
    fine = {"duplicated pairs": splits.fresh is not None, "sources with several targets": several}  # draws repeat pairs
    findings = [finding for finding in findings if not fine.get(finding.what)]
    for earlier, later in combinations(parts, 2):
        findings += _overlap(earlier, later)
    for part in parts[1:] if texts else ():
        count = len(parts[0].profiles.swapped(part.pairs.sources, part.pairs.targets))
        if 2 * count > len(part.pairs):
            detail = f"{_share(count, len(part.pairs))} of {part.name} have their sides swapped compared with train"
            cure = f"swap source and target of {part.name}"
            findings.append(Finding("error", "swapped sides", part.files(), detail, cure, count))
    return by_severity(findings)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, errors first."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def _empty_sides(split: _Split) -> list[Finding]:
    findings = []
    empty: set[int] = set()
    for side, (name, lines) in enumerate((("sources", split.pairs.sources), ("targets", split.pairs.targets))):
        blank = [i for i, line in enumerate(lines) if is_blank(line)]
        empty.update(blank)
        cure = "training leaves them out; fill or delete them"
        findings += split.findings(f"empty {name}", blank, cure, side=side, severity="warning")
    if len(empty) == len(split.pairs):
        detail, cure = f"no pair of {split.name} has text on both sides", "check that these are the right files"
        findings.append(Finding("error", "no pairs", split.files(), detail, cure, len(empty)))
    return findings


def _codes(split: _Split) -> list[Finding]:
    if not split.pairs.codes:
        return []
    detail = f"{counted(split.pairs.codes, 'inline code')} (bpt, ept, ph, it, ut) of {split.name} are not read as text"
    cure = "fine for text with markup; what stands between them is kept"
    return [Finding("note", "inline codes left out", split.files(), detail, cure, split.pairs.codes)]


def _repeats(split: _Split) -> list[Finding]:
    seen: set[tuple[str, str]] = set()
    first: dict[str, str] = {}
    repeats, alternatives = [], []
    for i, source, target in split.filled:
        if (source, target) in seen:
            repeats.append(i)
        elif first.setdefault(source, target) != target:
            alternatives.append(i)
        seen.add((source, target))
    cure = "fine for free translations; otherwise keep the best one"
    return [
        *split.findings("duplicated pairs", repeats, "delete the repeats: they count several times"),
        *split.findings("sources with several targets", alternatives, cure, severity="note"),
    ]


def _copies(split: _Split) -> list[Finding]:
    same = [i for i, source, target in split.filled if source == target and any(map(str.isalpha, source))]
    cure = "fine for names; otherwise they are untranslated, or one file was named twice"
    return split.findings("targets equal to their source", same, cure, side=1)


def _odd_lengths(split: _Split) -> list[Finding]:
    rows = split.filled
    odd = length_outliers([source for _, source, _ in rows], [target for _, _, target in rows])
    cure = "check for missing parts, or two sentences on one line"
    return split.findings("unusual length ratios", [rows[i][0] for i in odd], cure, side=1)


def _swapped_pairs(split: _Split) -> list[Finding]:
    pairs = split.pairs
    swapped = split.profiles.swapped(pairs.sources, pairs.targets)
    cure = "swap the two sides of these lines"
    return split.findings("swapped languages", [int(i) for i in swapped], cure, severity="warning")


def _shifted(split: _Split) -> list[Finding]:
    pairs = split.pairs
    shift = find_shift(pairs.sources, pairs.targets)
    if shift is None:
        return []
    line, count = pairs.line(shift.start), len(pairs) - shift.start
    lines, direction = counted(abs(shift.lag), "line"), "above" if shift.lag < 0 else "below"
    detail = f"from about line {line:,} on, each target is {lines} {direction} its source"
    lost, kept = ("target", "source") if shift.lag < 0 else ("source", "target")
    cure = f"near that line the {lost} side lost {lines}, or the {kept} side gained {lines}: fix it and check again"
    return [Finding("error", "shifted lines", split.where([shift.start], 1), detail, cure, count)]


def _overlap(earlier: _Split, later: _Split) -> list[Finding]:
    pairs = set(zip(earlier.pairs.sources, earlier.pairs.targets, strict=True))
    sources = set(earlier.pairs.sources)
    rows = later.filled
    same_pair = [i for i, source, target in rows if (source, target) in pairs]
    same_source = [i for i, source, target in rows if source in sources and (source, target) not in pairs]
    cure = f"delete them from {earlier.name}; otherwise {later.name} measures memorization"
    return [
        *later.findings(f"pairs also in {earlier.name}", same_pair, cure, severity="warning"),
        *later.findings(f"sources also in {earlier.name}", same_source, cure, severity="note"),
    ]


def scan_files(paths: Sequence[str], *, languages: tuple[str, str] = ("", "")) -> list[Finding]:
    """Every fault for which `read_pairs` would refuse these files, not only the first, and carriage returns in lines.

    Raises UsageError for a path that cannot be opened, and for paths that are no corpus.
    """
    files = corpus_files(paths, languages)
    findings: list[Finding] = []
    parsers = {".tsv": parse_tsv, ".jsonl": parse_json(languages), ".po": check_po()}
    line_files = [path for path in files if file_format(path) != ".tmx"]
    texts = [list(_scan(path, parsers.get(file_format(path)), findings)) for path in line_files]
    if len(texts) == 2 and all(texts) and len(texts[0]) != len(texts[1]):
        findings.append(_unequal(files, texts))
    if not _unusable(findings):  # faults of the whole file: its XML, its catalog, no pair at all
        try:
            read_pairs(paths, languages=languages)
        except DataError as error:
            findings.append(_unreadable(error))
    return findings


def scan_texts(paths: Sequence[str], parsers: Mapping[str, Parse]) -> list[Finding]:
    """Every line for which files would be refused, not only the first; empty if there is none.

    `parsers` holds one for each format of a file; "" = all other formats.
    """
    findings: list[Finding] = []
    for path in map(expand, paths):
        parse = parsers.get(file_format(path), parsers.get(""))
        lines = _scan(path, parse, findings, RECORD_BYTES if parse else MAX_BYTES)
        if not sum(not is_blank(line) for line in lines) and not _unusable(findings):
            findings.append(Finding("error", "no text", str(path), "the file has no words", "name files with text", 1))
    return findings


def _unusable(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _unreadable(error: DataError) -> Finding:
    what = error.kind if isinstance(error, LineError) else "unreadable file"
    return Finding("error", what, error.where, error.problem, error.cure, 1)


def _scan(path: Path, parse: Parse | None, findings: list[Finding], max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """The lines of a file, "" for each that cannot be read; their faults are added to `findings` at the end."""
    faults: defaultdict[str, list[tuple[int, LineError]]] = defaultdict(list)
    returns, number = list[int](), 0
    try:
        for number, raw in enumerate(raw_lines(path, max_bytes), 1):
            text = ""
            try:
                text = decode(raw, path, number, max_bytes)
                if parse is not None and not is_blank(text):
                    parse(text, f"{path}:{number}")
            except LineError as error:
                faults[error.kind].append((number, error))
            if "\r" in text:
                returns.append(number)
            yield text
    except DataError as error:
        findings.append(_unreadable(error))
    if returns:
        findings.append(_returns(path, returns, number))
    for kind, errors in faults.items():
        numbers, first = [number for number, _ in errors], errors[0][1]
        detail = first.problem if len(errors) == 1 else f"{len(errors):,} lines; the first: {first.problem}"
        findings.append(Finding("error", kind, _lines(str(path), numbers), detail, first.cure, len(errors)))


def _returns(path: Path, numbers: Sequence[int], lines: int) -> Finding:
    """Carriage returns within lines."""
    detail = f"{counted(len(numbers), 'line')} of {lines:,} have a carriage return (CR) inside, which ends no line"
    where, cure = _lines(str(path), numbers), "remove them: " + through(r"tr -d '\r'", path)
    return Finding("warning", "carriage returns within lines", where, detail, cure, len(numbers))


def _unequal(files: Sequence[Path], texts: Sequence[Sequence[str]]) -> Finding:
    shorter, longer = sorted((0, 1), key=lambda side: len(texts[side]))
    common = len(texts[shorter])
    detail = f"{files[0]} has {counted(len(texts[0]), 'line')}, {files[1]} has {len(texts[1]):,}"
    where, cure = f"{files[longer]}:{common + 1}", "line N of one file must be the translation of line N of the other"
    shift = find_shift(texts[0][:common], texts[1][:common])
    if shift is not None:
        where, cure = f"{files[longer]}:{shift.start + 1}", f"they diverge near line {shift.start + 1:,}: fix it there"
    elif all(map(is_blank, texts[longer][common:])):
        cure = f"{files[longer]} only has extra blank lines at its end: delete them"
    return Finding("error", "unequal line counts", where, detail, cure, len(texts[longer]) - common)


def sizes(lines: Iterable[str]) -> dict[str, int | float]:
    """The number of words (which stand between blanks), of distinct words, and the lengths of the lines in words.

    The lengths are "mean", "95 %" (so many lines are no longer) and "longest".
    """
    words = Counter[str]()
    lengths = array("q")
    for line in lines:
        split = line.split()
        words.update(split)
        lengths.append(len(split))
    counts = np.array(lengths or [0])
    return {
        "words": int(counts.sum()),
        "mean": float(counts.mean()),
        "95 %": int(np.quantile(counts, 0.95, method="higher")),
        "longest": int(counts.max()),
        "distinct": len(words),
    }
