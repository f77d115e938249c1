from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.checks.evidence import LanguageProfiles, find_shift, length_outliers
from seqloom.data.checks.pairs import Finding, check_pairs, check_splits, scan_files, scan_texts, sizes
from seqloom.data.formats.lines import read_lines
from seqloom.data.formats.parallel import read_pairs
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.text import text_source
from seqloom.errors import DataError, UsageError

Sides = tuple[list[str], list[str]]


def invented(seed: int, size: int) -> Sides:
    """Two invented languages: a word of one is always the same word of the other; names and numbers are shared."""
    words = random.Random("dictionary")
    source_words = ["".join(words.choices("abdefghiklmnoprst", k=words.randint(2, 9))) for _ in range(400)]
    target_words = [
        "".join(words.choices("acdeghijlnoqrsuvwxyzäöü", k=len(word) + words.randint(0, 2))) for word in source_words
    ]
    chance = random.Random(seed)
    sides: Sides = ([], [])
    for _ in range(size):
        chosen = [min(chance.randrange(400), chance.randrange(400)) for _ in range(chance.randint(3, 14))]
        shared = [f"Person{chance.randrange(300)}"] * (chance.random() < 0.3) + [str(chance.randrange(999))] * (
            chance.random() < 0.3
        )
        sides[0].append(" ".join([source_words[i] for i in chosen] + shared) + ".")
        sides[1].append(" ".join(shared + [target_words[i] for i in chosen]) + ".")
    return sides


@pytest.fixture(scope="module")
def clean() -> Sides:
    return invented(1, 1500)


def copy(sides: Sides) -> Sides:
    return list(sides[0]), list(sides[1])


def findings_of(sides: Sides, what: str, name: str = "train") -> list[Finding]:
    return [x for x in check_pairs(Pairs(*sides, ("train.xx", "train.yy")), name) if x.what == what]


def test_clean_pairs_have_no_finding(clean):
    assert check_pairs(Pairs(*clean), "train") == []


def test_no_pairs():
    assert [x.severity for x in check_pairs(Pairs([], []), "train")] == ["error"]


def test_empty_sides(clean):
    sources, targets = copy(clean)
    targets[6], targets[90], targets[91], targets[200], sources[200] = "", " ", "\u3000", "", "\t"
    (target,) = findings_of((sources, targets), "empty targets")
    assert target.where == "train.yy:7, :91, :92 and 1 more"
    assert (target.count, target.severity) == (4, "warning")
    assert findings_of((sources, targets), "empty sources")[0].where == "train.xx:201"
    assert findings_of((sources, [""] * len(sources)), "no pairs")[0].severity == "error"


def test_lines_are_those_of_the_file(clean):
    lines = [3 * i + 2 for i in range(len(clean[0]))]
    pairs = Pairs(clean[0], ["", *clean[1][1:]], ("a.jsonl", "a.jsonl"), lines)
    assert next(x for x in check_pairs(pairs, "valid") if x.what == "empty targets").where == "a.jsonl:2"


def test_without_files_the_split_is_named(clean):
    pairs = Pairs(clean[0], ["", *clean[1][1:]])
    assert next(x for x in check_pairs(pairs, "valid") if x.what == "empty targets").where == "valid:1"


def test_duplicates_and_several_targets(clean):
    sources, targets = copy(clean)
    sources[40], targets[40] = sources[3], targets[3]
    sources[50] = sources[4]
    assert [x.where for x in findings_of((sources, targets), "duplicated pairs")] == ["train.xx:41"]
    (several,) = findings_of((sources, targets), "sources with several targets")
    assert (several.where, several.severity) == ("train.xx:51", "note")


def test_copies(clean):
    sources, targets = copy(clean)
    targets[8] = sources[8]
    sources[9] = targets[9] = "2 + 2 = 4"
    assert [x.where for x in findings_of((sources, targets), "targets equal to their source")] == ["train.yy:9"]
    assert findings_of((sources, sources), "targets equal to their source")[0].severity == "warning"


def test_length_ratios(clean):
    sources, targets = copy(clean)
    targets[30] = "@@"
    targets[70] = " ".join(targets[70:76])
    sources[100], targets[100] = "ab.", "acdeghijln."
    (finding,) = findings_of((sources, targets), "unusual length ratios")
    assert finding.where == "train.yy:31, :71"


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=30))
def test_short_phrases_are_never_odd(rows):
    """Ten characters more on each side leave them within the floor: log(18 / 10) < 6 * 0.1."""
    usual = [("ab", "cd")] * (len(rows) + 1)
    assert length_outliers(*zip(*rows, *usual, strict=True)).size == 0


def test_swapped_lines(clean):
    sources, targets = copy(clean)
    swapped = [11, 500, 900]
    for i in swapped:
        sources[i], targets[i] = targets[i], sources[i]
    (finding,) = findings_of((sources, targets), "swapped languages")
    assert finding.where == "train.xx:12, :501, :901"


def test_one_language_on_both_sides_is_not_swapped(clean):
    chance = random.Random(0)
    shuffled = [" ".join(chance.sample(line.split(), len(line.split()))) for line in clean[0]]
    assert findings_of((clean[0], shuffled), "swapped languages") == []


def test_what_both_sides_share_speaks_for_neither(clean):
    """Text that is copied, and so equally frequent on both sides, must not count against the order of its pair."""
    chance = random.Random(0)
    codes = ["".join(chance.choices("0123456789", k=15)) for _ in range(100)]
    assert findings_of((clean[0] + codes, clean[1] + codes), "swapped languages") == []


def test_odds_are_the_sum_of_a_line_s_own_trigrams(clean):
    """A line is judged alike wherever it stands."""
    profiles = LanguageProfiles(*clean)
    lines = [clean[0][5], "", clean[1][7], "x"]
    together = profiles.odds(lines)
    assert together.tolist() == pytest.approx([profiles.odds([line])[0] for line in lines])
    assert together[0] > 0 > together[2]
    assert together[1] == 0


@pytest.mark.parametrize("at", [400, 1100])
def test_a_lost_line(clean, at):
    sources, targets = clean
    (finding,) = findings_of((sources, [*targets[:at], *targets[at + 1 :], ""]), "shifted lines")
    assert finding.severity == "error"
    assert abs(int(finding.where.removeprefix("train.yy:")) - (at + 1)) <= 3
    assert "1 line above" in finding.detail
    (finding,) = findings_of(([*sources[:at], *sources[at + 1 :], ""], targets), "shifted lines")
    assert abs(int(finding.where.removeprefix("train.yy:")) - (at + 1)) <= 3
    assert "1 line below" in finding.detail


def test_the_first_of_several_shifts(clean):
    sources, targets = clean
    shift = find_shift(sources, [x for i, x in enumerate(targets) if i not in (300, 800, 1200)] + [""] * 3)
    assert shift is not None
    assert shift.lag == -1
    assert abs(shift.start - 300) <= 3


def test_a_shift_from_the_first_line(clean):
    shift = find_shift(clean[0], ["HEADER", *clean[1][:-1]])
    assert shift is not None
    assert (shift.start, shift.lag) == (0, 1)


def test_many_lost_lines(clean):
    sources, targets = clean
    shift = find_shift(sources, targets[:600] + targets[637:] + [""] * 37)
    assert shift is not None
    assert shift.lag == -37
    assert abs(shift.start - 600) <= 37


@pytest.mark.parametrize("seed", range(5))
def test_no_false_shift(seed):
    sources, targets = invented(seed, 400)
    assert find_shift(sources, targets) is None
    assert find_shift(sources, random.Random(seed).sample(targets, len(targets))) is None
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    assert find_shift([sources[i] for i in order], [targets[i] for i in order]) is None
    assert find_shift(sources[:-1], sources[1:]) is None  # a conversation: each answer is the next source


@pytest.mark.parametrize("line", ["", "same", "x" * 50])
def test_pairs_without_any_variety(line):
    assert find_shift([line] * 300, [line] * 300) is None
    assert LanguageProfiles([line] * 300, [line] * 300).swapped([line] * 300, [line] * 300).size == 0


class TestSplits:
    def splits(self, test: Sides | None = None) -> Splits:
        return Splits(*(Pairs(*invented(seed, 800)) for seed in (1, 2)), Pairs(*(test or invented(3, 800))))

    def test_clean(self):
        assert check_splits(self.splits()) == []

    def test_without_test_set(self):
        splits = self.splits()
        assert check_splits(Splits(splits.train, splits.valid)) == []

    def test_overlap(self):
        (train_sources, train_targets), (sources, targets) = invented(1, 800), invented(3, 800)
        sources[10], targets[10] = train_sources[100], train_targets[100]
        sources[20] = train_sources[200]
        sources[30], targets[30] = (side[5] for side in invented(2, 800))
        findings = {x.what: x for x in check_splits(self.splits((sources, targets)))}
        assert {what: x.where for what, x in findings.items() if "also in" in what} == {
            "pairs also in train": "test:11",
            "sources also in train": "test:21",
            "pairs also in valid": "test:31",
        }
        assert findings["pairs also in train"].severity == "warning"

    def test_a_whole_file_the_wrong_way_round(self):
        sources, targets = invented(3, 800)
        (finding,) = check_splits(self.splits((targets, sources)))
        assert (finding.what, finding.severity, finding.where) == ("swapped sides", "error", "test")

    def test_errors_come_first(self):
        sources, targets = invented(3, 800)
        targets[0] = ""
        grades = [x.severity for x in check_splits(self.splits((targets, sources)))]
        assert grades == sorted(grades, key=["error", "warning", "note"].index)
        assert len(set(grades)) > 1


class TestScan:
    def write(self, path: Path, content: bytes) -> str:
        path.write_bytes(content)
        return str(path)

    def test_all_faults_are_listed(self, tmp_path):
        good = self.write(tmp_path / "a", b"one\n" * 9)
        bad = self.write(tmp_path / "b", b"\xff\n\xfe\n\0\nok\n" + b"x" * 1_000_001 + b"\n\xff\n\xff\n\xff\nlast")
        findings = {x.what: x for x in scan_files([good, bad])}
        assert {what: (x.where, x.count) for what, x in findings.items()} == {
            "undecodable bytes": (f"{bad}:1, :2, :6 and 2 more", 5),
            "NUL characters": (f"{bad}:3", 1),
            "over-long lines": (f"{bad}:5", 1),
        }

    def test_unequal_counts_name_the_line_where_they_part(self, tmp_path, clean):
        sources, targets = clean
        source = self.write(tmp_path / "a", "\n".join(sources).encode())
        target = self.write(tmp_path / "b", "\n".join(targets[:700] + targets[701:]).encode())
        (finding,) = scan_files([source, target])
        assert finding.what == "unequal line counts"
        assert "1,500" in finding.detail
        assert abs(int(finding.where.rpartition(":")[2]) - 701) <= 3

    def test_blank_lines_at_the_end(self, tmp_path):
        source, target = self.write(tmp_path / "a", b"x\n\n\n"), self.write(tmp_path / "b", b"y\n")
        (finding,) = scan_files([source, target])
        assert finding.where == f"{source}:2"
        assert "blank lines at its end" in finding.cure

    @pytest.mark.parametrize(
        ("name", "content", "lines"),
        [
            ("a.tsv", b"a\tb\nno\n\nnor\n", ":2, :4"),
            ("a.jsonl", b'{"source": "a", "target": "b"}\n{\n[]\n\n', ":2, :3"),
            ("a.po", b'msgid "a"\nmsgstr "b"\nwhat\n"cut\n', ":3, :4"),
        ],
    )
    def test_formats(self, tmp_path, name, content, lines):
        path = self.write(tmp_path / name, content)
        assert [x.where for x in scan_files([path])] == [path + lines]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.tmx", b"<tmx>"),
            ("a.tsv", b""),
            ("a.tsv.xz", b"plain"),
            ("a.po", b'msgid "a"\n'),
            ("a.tsv", b"a\tb\n"),
            ("a.jsonl", b"\n"),
            ("a.jsonl", b'{"source": "a", "target": "b"}'),
            ("a.tsv", b"a\tb\n\xff\tb\n"),
        ],
    )
    def test_it_finds_something_exactly_when_the_reader_refuses(self, tmp_path, name, content):
        path = self.write(tmp_path / name, content)
        try:
            refused = not read_pairs([path])
        except DataError:
            refused = True
        findings = scan_files([path])
        assert bool(findings) == refused
        assert all(x.severity == "error" and x.cure and x.where.startswith(path) for x in findings)

    def test_a_missing_file_is_the_caller_s_mistake(self, tmp_path):
        with pytest.raises(UsageError):
            scan_files([str(tmp_path / "a.tsv")])


class TestCarriageReturns:
    def test_a_file_whose_lines_end_in_cr_alone_is_refused_by_every_reader(self, tmp_path):
        paths = [str(tmp_path / name) for name in ("a.en", "a.de")]
        for path, text in zip(paths, ("one\rtwo\rthree", "eins\rzwei\rdrei\r"), strict=True):
            Path(path).write_bytes(text.encode())
        for read in (read_pairs, lambda paths: list(text_source(paths)), lambda paths: read_lines(paths[0])):
            with pytest.raises(DataError, match=r"lines end in a carriage return.*\n.*tr '"):
                read(paths)
        findings = scan_files(paths)
        assert [(f.severity, f.what, f.where) for f in findings] == [
            ("error", "lines that end in CR", path) for path in paths
        ]
        assert f"tr '\\r' '\\n' < {paths[0]}" in findings[0].cure
        assert [f.what for f in scan_texts(paths[:1], {})] == ["lines that end in CR"]

    @pytest.mark.parametrize(
        ("encoding", "mark"), [("utf-16", "but UTF-16"), ("utf-16-le", "NUL"), ("utf-16-be", "NUL")]
    )
    def test_a_file_in_utf_16_is_one_error(self, tmp_path, encoding, mark):
        path = tmp_path / "a.txt"
        path.write_bytes("naïve\nété öl\nplain\nÄ\n".encode(encoding))
        (finding,) = scan_texts([str(path)], {})
        assert mark in finding.detail
        assert f"iconv -f UTF-16 -t UTF-8 < {path}" in finding.cure

    @pytest.mark.parametrize("content", ["a\nb\n".encode("utf-16"), b"a\rb\r"])
    def test_a_file_that_cannot_be_read_at_all_has_no_count_to_compare(self, tmp_path, content):
        (tmp_path / "a.en").write_bytes(content)
        (tmp_path / "a.de").write_text("a\nb\n")
        (finding,) = scan_files([str(tmp_path / "a.en"), str(tmp_path / "a.de")])
        assert finding.severity == "error"
        assert finding.what in ("undecodable bytes", "lines that end in CR")

    def test_the_keys_of_pairs_are_chosen_by_the_options_that_the_error_names(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"en": "a", "de": "b"}\n')
        with pytest.raises(DataError, match=r"keys are: en, de; name two: --data.source KEY --data.target KEY"):
            read_pairs([str(path)])
        assert read_pairs([str(path)], languages=("en", "de")).sources == ("a",)

    def test_carriage_returns_within_lines(self, tmp_path):
        path = tmp_path / "a.tsv"
        path.write_bytes(b"a\tb\r\na\rb\tc\nx\ty\r\r\n")
        (finding,) = scan_files([str(path)])
        assert (finding.severity, finding.where, finding.count) == ("warning", f"{path}:2, :3", 2)
        assert f"tr -d '\\r' < {path} > NEW_FILE" in finding.cure  # as many lines as before
        path.write_bytes(b"a\tb\r\nx\ty\r\n")
        assert scan_files([str(path)]) == []


def test_inline_codes_are_counted():
    pairs = Pairs(["a"], ["b"], ("m.tmx", "m.tmx"), [3], codes=4)
    (finding,) = check_pairs(pairs, "train")
    assert (finding.severity, finding.what, finding.where, finding.count) == (
        "note",
        "inline codes left out",
        "m.tmx",
        4,
    )


def test_sizes():
    assert sizes(["a b a", "c", "", "d e"]) == {"words": 6, "mean": 1.5, "95 %": 3, "longest": 3, "distinct": 5}
    assert set(sizes([]).values()) == {0}
