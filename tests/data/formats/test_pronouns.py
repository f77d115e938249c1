from __future__ import annotations

from pathlib import Path

import pytest

from seqloom.data.formats.pronouns import read_pronouns
from seqloom.errors import DataError

WINOGRAD = "correct\tbefore\tpronoun\tafter\tcandidate0\tcandidate1\n"
GAP = "ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\tURL\n"


def parts(path: Path, text: str) -> list[tuple[str, str, list[str], int]]:
    path.write_text(text, encoding="utf-8")
    return [
        (r.text, r.text[slice(*r.pronoun)], [r.text[slice(*n)] for n in r.nouns], r.answer)
        for r in read_pronouns(str(path))
    ]


def test_winograd_schemas(tmp_path: Path) -> None:
    rows = "1\tThe cup hit the table and\tit\tbroke.\tthe cup\tThe table\n"
    rows += "0\tAnn told Eve \tshe\t, not I, won\tAnn\tEve\n\n0\tWe saw\tit\t.\tthe dog\tthe cat\n"
    assert parts(tmp_path / "a.tsv", WINOGRAD + rows) == [
        ("The cup hit the table and it broke.", "it", ["The cup", "the table"], 1),
        ("Ann told Eve she, not I, won", "she", ["Ann", "Eve"], 0),
    ]


def test_gap(tmp_path: Path) -> None:
    row = "x\tAnn met Eve, and she smiled.\tshe\t17\tAnn\t0\t{}\tEve\t8\t{}\tu\n"
    text = GAP + row.format("FALSE", "TRUE") + row.format("FALSE", "FALSE")
    assert parts(tmp_path / "gap.tsv", text) == [("Ann met Eve, and she smiled.", "she", ["Ann", "Eve"], 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n1\t2\n", r"no pronouns with a noun.*\n.*the columns are correct, before"),
        (WINOGRAD + "x\tThe cup\tit\tbroke\tthe cup\tthe cup\n", r"bad.tsv:2: not a pronoun: .*'x'"),
        (WINOGRAD + "2\tThe cup\tit\tbroke\tthe cup\tthe cup\n", r"bad.tsv:2: not a pronoun: correct"),
        (WINOGRAD + "1\tThe cup\n", r"bad.tsv:2: not a pronoun: .*argument"),
        (GAP + "x\tAnn\tshe\tzero\tAnn\t0\tTRUE\tEve\t8\tFALSE\tu\n", r"bad.tsv:2: not a pronoun"),
        (GAP + "x\tAnn met her\ther\t5\tAnn\t0\tTRUE\tAnn\t0\tFALSE\tu\n", r"bad.tsv:2: .*her is not at 5"),
    ],
    ids=range(6),
)
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_pronouns(str(tmp_path / "bad.tsv"))
