"""What is suspicious in preferences: answers that do not differ, repeats, leaks, and length as a giveaway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from seqloom.data.checks.pairs import SHOWN, Finding, Severity, by_severity
from seqloom.data.rows import Preference
from seqloom.errors import first_of

_BIASED = 60.0  # percent


def length_wins(rows: Sequence[Preference]) -> float:
    """The percentage of pairs in which the longer answer, in characters, was chosen; of equally long ones, half."""
    wins = sum((a > b) + 0.5 * (a == b) for a, b in ((len(row.chosen), len(row.rejected)) for row in rows))
    return 100 * wins / max(1, len(rows))


def check_preferences(splits: Mapping[str, Sequence[Preference]]) -> list[Finding]:
    """The findings within each split, and between train and the other splits."""
    findings = [finding for name, rows in splits.items() for finding in _within(name, rows)]
    train = splits["train"]
    prompts, pairs = {row.prompt for row in train}, {_key(row) for row in train}
    for name in splits.keys() - {"train"}:
        same = [row for row in splits[name] if _key(row) in pairs]
        known = [row for row in splits[name] if row.prompt in prompts and _key(row) not in pairs]
        cure = f"remove them from train: what is known by heart makes {name} look better than it is"
        findings += _finding("warning", f"pairs of {name} also in train", same, splits[name], cure)
        findings += _finding("warning", f"prompts of {name} also in train", known, splits[name], cure)
    return by_severity(findings)


def _within(name: str, rows: Sequence[Preference]) -> Iterator[Finding]:
    seen = set[tuple[object, str, str]]()
    repeated, opposed = list[Preference](), list[Preference]()
    for row in rows:
        if _key(row) in seen:
            repeated.append(row)
        if (row.prompt, row.rejected, row.chosen) in seen and row.chosen != row.rejected:
            opposed.append(row)
        seen.add(_key(row))
    equal = [row for row in rows if row.chosen == row.rejected]
    yield from _finding("warning", "pairs without a difference", equal, rows, "they are left out; delete them")
    yield from _finding("warning", "pairs that contradict another", opposed, rows, "keep one of the two")
    yield from _finding("note", "repeated pairs", repeated, rows, "they count several times; delete the repeats")
    share = length_wins(rows)
    detail = f"in {share:.1f} % of the {len(rows):,} pairs of {name}, the longer answer was chosen"
    cure = "compare every accuracy with this one"
    if max(share, 100 - share) >= _BIASED:
        cure += ": length alone says much about which answer was chosen"
    yield Finding("note", "the longer answer wins", rows[0].where, detail, cure, round(share * len(rows) / 100))


def _key(row: Preference) -> tuple[object, str, str]:
    return row.prompt, row.chosen, row.rejected


def _finding(
    severity: Severity, what: str, rows: Sequence[Preference], of: Sequence[Preference], cure: str
) -> list[Finding]:
    if not rows:
        return []
    where = first_of([row.where for row in rows], SHOWN)
    return [Finding(severity, what, where, f"{len(rows):,} of {len(of):,} pairs", cure, len(rows))]
