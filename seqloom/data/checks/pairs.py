"""Faults of parallel data, found before training: file, line and cure of everything suspicious."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from seqloom.data.checks.evidence import Tongues, find_shift, length_outliers
from seqloom.data.formats.lines import MAX_BYTES, RECORD_BYTES, LineError, decode, expand, file_format, raw_lines
from seqloom.data.formats.parallel import check_po, corpus_files, parse_json, parse_tsv, read_pairs
from seqloom.data.rows import Pairs, Splits
from seqloom.errors import DataError

Severity = Literal["error", "warning", "note"]
Parse = Callable[[str, str], object]
"""(line, its place) -> what it holds. Raises LineError."""

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one file or split.

    Args:
        severity: "error": training on it makes no sense; "warning": it harms; "note": worth knowing.
        what: the kind of fault in few words ("duplicated pairs").
        where: file and lines ("train.de:17, :29, :31 and 12 more").
        detail: what exactly, with numbers.
        cure: what to do about it.
        count: how many lines or pairs are meant.
    """

    severity: Severity
    what: str
    where: str
    detail: str
    cure: str
    count: int


def _lines(file: str, numbers: Sequence[int]) -> str:
    shown = ", ".join(f":{number}" for number in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN:,} more" if len(numbers) > _SHOWN else ""
    return f"{file}{shown}{more}"


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} pairs ({100 * count / max(1, total):.3g} %)"


@dataclass(frozen=True)
class _Split:
    """Pairs with the name of their split, for words about some of them."""

    pairs: Pairs
    name: str

    def where(self, indices: Iterable[int], side: int = 0) -> str:
        return _lines(self.pairs.files[side] or self.name, [self.pairs.line(i) for i in indices])

    def files(self) -> str:
        return " and ".join(dict.fromkeys(filter(None, self.pairs.files))) or self.name

    def findings(
        self, what: str, indices: Sequence[int], cure: str, *, side: int = 0, severity: Severity | None = None
    ) -> list[Finding]:
        """One finding about these pairs, or none; without a severity a note, and a warning from 1 % on."""
        count, total = len(indices), len(self.pairs)
        if not count:
            return []
        grade: Severity = severity or ("warning" if count * 100 >= total else "note")
        detail = f"{_share(count, total)} of {self.name}"
        return [Finding(grade, what, self.where(indices, side), detail, cure, count)]


def check_pairs(pairs: Pairs, name: str) -> list[Finding]:
    """What is wrong within one split called `name`: the errors first."""
    split = _Split(pairs, name)
    if not len(pairs):
        return [Finding("error", "no pairs", split.files(), f"{name} is empty", "name files with sentences in them", 0)]
    checks = (_empty_sides, _repeats, _copies, _odd_lengths, _swapped_pairs, _shifted)
    return _by_severity(finding for check in checks for finding in check(split))


def check_splits(splits: Splits) -> list[Finding]:
    """What is wrong within each split, and between them: pairs in two splits, sides the other way round."""
    named = [("train", splits.train), ("valid", splits.valid), ("test", splits.test)]
    parts = [_Split(pairs, name) for name, pairs in named if pairs is not None]
    found = [finding for part in parts for finding in check_pairs(part.pairs, part.name)]
    if splits.fresh is not None:  # a draw may bring a pair again
        found = [finding for finding in found if finding.what != "duplicated pairs"]
    for i, earlier in enumerate(parts):
        for later in parts[i + 1 :]:
            found += _overlap(earlier, later)
    tongues = Tongues(splits.train.sources, splits.train.targets)
    for part in parts[1:]:
        count = len(tongues.swapped(part.pairs.sources, part.pairs.targets))
        if 2 * count > len(part.pairs):
            detail = f"{_share(count, len(part.pairs))} of {part.name} stand the other way round than in train"
            cure = f"exchange source and target of {part.name}"
            found.append(Finding("error", "swapped sides", part.files(), detail, cure, count))
    return _by_severity(found)


def _by_severity(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def _empty_sides(split: _Split) -> list[Finding]:
    found = []
    empty: set[int] = set()
    for side, (word, lines) in enumerate((("sources", split.pairs.sources), ("targets", split.pairs.targets))):
        blank = [i for i, line in enumerate(lines) if not line.strip()]
        empty.update(blank)
        cure = "they are left out of training; fill or delete them"
        found += split.findings(f"empty {word}", blank, cure, side=side, severity="warning")
    if len(empty) == len(split.pairs):
        detail = f"no pair of {split.name} has text on both sides"
        found.append(Finding("error", "no pairs", split.files(), detail, "check that these are its files", len(empty)))
    return found


def _filled(pairs: Pairs) -> list[tuple[int, str, str]]:
    rows = enumerate(zip(pairs.sources, pairs.targets, strict=True))
    return [(i, source, target) for i, (source, target) in rows if source.strip() and target.strip()]


def _repeats(split: _Split) -> list[Finding]:
    seen: set[tuple[str, str]] = set()
    first: dict[str, str] = {}
    again, other = [], []
    for i, source, target in _filled(split.pairs):
        if (source, target) in seen:
            again.append(i)
        elif first.setdefault(source, target) != target:
            other.append(i)
        seen.add((source, target))
    return split.findings("duplicated pairs", again, "delete the repeats: they count several times") + split.findings(
        "sources with several targets", other, "fine for free translations; else keep the best", severity="note"
    )


def _copies(split: _Split) -> list[Finding]:
    same = [i for i, source, target in _filled(split.pairs) if source == target and any(map(str.isalpha, source))]
    cure = "fine for names; else they are not translated, or one file was named twice"
    return split.findings("targets equal to their source", same, cure, side=1)


def _odd_lengths(split: _Split) -> list[Finding]:
    rows = _filled(split.pairs)
    odd = length_outliers([source for _, source, _ in rows], [target for _, _, target in rows])
    cure = "look whether a part is missing, or two sentences stand in one line"
    return split.findings("unusual length ratios", [rows[i][0] for i in odd], cure, side=1)


def _swapped_pairs(split: _Split) -> list[Finding]:
    pairs = split.pairs
    swapped = Tongues(pairs.sources, pairs.targets).swapped(pairs.sources, pairs.targets)
    cure = "exchange the two sides of these lines"
    return split.findings("swapped languages", [int(i) for i in swapped], cure, severity="warning")


def _shifted(split: _Split) -> list[Finding]:
    pairs = split.pairs
    shift = find_shift(pairs.sources, pairs.targets)
    if shift is None:
        return []
    line, count = split.pairs.line(shift.start), len(pairs) - shift.start
    lines = f"{abs(shift.lag):,} line" + "s" * (abs(shift.lag) > 1)
    detail = (
        f"from about line {line:,} on, the target of a source stands {lines} {'above' if shift.lag < 0 else 'below'}"
    )
    lost, kept = ("target", "source") if shift.lag < 0 else ("source", "target")
    cure = f"near that line the {lost} side lost {lines}, or the {kept} side gained {lines}: mend it and check again"
    return [Finding("error", "shifted lines", split.where([shift.start], 1), detail, cure, count)]


def _overlap(earlier: _Split, later: _Split) -> list[Finding]:
    pairs = set(zip(earlier.pairs.sources, earlier.pairs.targets, strict=True))
    sources = set(earlier.pairs.sources)
    rows = _filled(later.pairs)
    same = [i for i, source, target in rows if (source, target) in pairs]
    known = [i for i, source, target in rows if source in sources and (source, target) not in pairs]
    cure = f"delete them from {earlier.name}, or {later.name} measures memory"
    return later.findings(f"pairs also in {earlier.name}", same, cure, severity="warning") + later.findings(
        f"sources also in {earlier.name}", known, cure, severity="note"
    )


def scan_files(paths: Sequence[str], *, languages: tuple[str, str] = ("", "")) -> list[Finding]:
    """Everything for which `read_pairs` would refuse these files, not only the first; empty if it takes them.

    A path that cannot be opened, or is none for a corpus, is raised as the UsageError it is.
    """
    files = corpus_files(paths, languages)
    found: list[Finding] = []
    parsers = {".tsv": parse_tsv, ".jsonl": parse_json(languages), ".po": check_po()}
    own = [path for path in files if file_format(path) != ".tmx"]
    texts = [list(_scan(path, parsers.get(file_format(path)), found)) for path in own]
    if len(texts) == 2 and len(texts[0]) != len(texts[1]):
        found.append(_unequal(files, texts))
    if not found:  # what concerns the whole file: its XML, its catalog, no pair at all
        try:
            read_pairs(paths, languages=languages)
        except DataError as error:
            found.append(_unreadable(error))
    return found


def scan_texts(paths: Sequence[str], parsers: Mapping[str, Parse]) -> list[Finding]:
    """Every line for which files would be refused, not only the first; empty if there is none.

    `parsers` are by format of a file, "" = all others, and are called with a line and its place.
    """
    found: list[Finding] = []
    for path in map(expand, paths):
        parse = parsers.get(file_format(path), parsers.get(""))
        lines = _scan(path, parse, found, RECORD_BYTES if parse else MAX_BYTES)
        if not sum(bool(line.strip()) for line in lines) and not found:
            found.append(Finding("error", "no text", str(path), "the file has no words", "name files with text", 1))
    return found


def _unreadable(error: DataError) -> Finding:
    return Finding("error", "unreadable file", error.where, error.problem, error.cure, 1)


def _scan(path: Path, parse: Parse | None, found: list[Finding], max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """The lines of a file, "" for each that cannot be read; what is wrong with them is added to `found` at the end."""
    faults: defaultdict[str, list[tuple[int, LineError]]] = defaultdict(list)
    try:
        for number, raw in enumerate(raw_lines(path, max_bytes), 1):
            text = ""
            try:
                text = decode(raw, path, number, max_bytes)
                if parse is not None and text.strip():
                    parse(text, f"{path}:{number}")
            except LineError as error:
                faults[error.kind].append((number, error))
            yield text
    except DataError as error:
        found.append(_unreadable(error))
    for kind, errors in faults.items():
        numbers, first = [number for number, _ in errors], errors[0][1]
        detail = first.problem if len(errors) == 1 else f"{len(errors):,} lines; the first: {first.problem}"
        found.append(Finding("error", kind, _lines(str(path), numbers), detail, first.cure, len(errors)))


def _unequal(files: Sequence[Path], texts: Sequence[Sequence[str]]) -> Finding:
    short, long = sorted((0, 1), key=lambda side: len(texts[side]))
    common = len(texts[short])
    detail = f"{files[0]} has {len(texts[0]):,} lines, {files[1]} has {len(texts[1]):,}"
    where, cure = f"{files[long]}:{common + 1}", "line N must be the translation of line N"
    shift = find_shift(texts[0][:common], texts[1][:common])
    if shift is not None:
        where, cure = f"{files[long]}:{shift.start + 1}", f"they part near line {shift.start + 1:,}: mend it there"
    elif not any(line.strip() for line in texts[long][common:]):
        cure = f"{files[long]} only has blank lines at its end: delete them"
    return Finding("error", "unequal line counts", where, detail, cure, len(texts[long]) - common)


def sizes(lines: Iterable[str]) -> dict[str, int | float]:
    """Words, which are what blanks separate: their number, that of distinct ones, and lengths of the lines.

    Of these "mean", "95 %" (that many lines are not longer) and "longest".
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
