from __future__ import annotations

import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.checks.pairs import scan_files
from seqloom.data.formats.lines import STANDARD_INPUT, decoded_stream, read_lines
from seqloom.data.formats.parallel import match_language, read_pairs, usable
from seqloom.data.rows import Pairs
from seqloom.errors import ConfigError, DataError, SeqloomError

PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}

sentences = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=20)
# Separators that str.splitlines would take for line ends.
odd_sentences = st.one_of(sentences, st.sampled_from(["a\u2028b", "a\u0085b", "\va\fb", "\x1ca\x1d", "lone\rreturn"]))


def write(path: Path, content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(PACKERS.get(path.suffix, bytes)(raw))
    return str(path)


def refusal(kind: type[SeqloomError], paths: list[str], **options: tuple[str, str] | int) -> SeqloomError:
    with pytest.raises(kind) as caught:
        read_pairs(paths, **options)  # type: ignore[arg-type]
    assert caught.value.cure
    return caught.value


class TestTwoFiles:
    @given(
        pairs=st.lists(st.tuples(odd_sentences, odd_sentences), min_size=1),
        bom=st.booleans(),
        last=st.booleans(),
        end=st.sampled_from(["\n", "\r\n"]),
        pack=st.sampled_from(list(PACKERS)),
    )
    def test_lines_survive(self, tmp_path_factory, pairs, bom, last, end, pack):
        folder = tmp_path_factory.mktemp("text")
        paths = []
        for side, name in enumerate(("a", "b")):
            lines = [pair[side] for pair in pairs]
            text = end.join(lines)
            text += end if last or not lines[-1] or "\r" in lines[0] else ""  # else its lines may end in CR
            head = "\ufeff" if bom or text.startswith("\ufeff") else ""
            paths.append(write(folder / f"{name}.txt{pack}", head + text))
        read = read_pairs(paths)
        assert list(zip(read.sources, read.targets, strict=True)) == pairs
        assert read.files == tuple(paths)
        assert [read.line(i) for i in range(len(read))] == list(range(1, len(pairs) + 1))
        assert read_lines(paths[0]) == list(read.sources)

    def test_unequal_counts_are_both_named(self, tmp_path):
        paths = [write(tmp_path / "a", "1\n2\n3\n"), write(tmp_path / "b", "1\n2\n")]
        problem = str(refusal(DataError, paths))
        assert "a has 3 lines" in problem
        assert "b has 2" in problem

    def test_a_format_with_both_sides_is_refused(self, tmp_path):
        path = write(tmp_path / "a.tsv", "a\tb\n")
        assert refusal(ConfigError, [path, path]).where == path

    def test_three_files_are_refused(self):
        refusal(ConfigError, ["a", "b", "c"])

    def test_a_byte_that_is_not_utf8(self, tmp_path):
        good, bad = write(tmp_path / "a", "x\ny\n"), write(tmp_path / "b", b"gr\xc3\xbcn\ngr\xc3\xbc\xdfe\n")
        error = refusal(DataError, [good, bad])
        assert error.where == f"{bad}:2"
        assert "0xdf at column 4" in error.problem
        assert f"iconv -f WINDOWS-1252 -t UTF-8 < {bad} > NEW_FILE" in error.cure

    def test_the_cure_fits_a_compressed_file_and_standard_input(self, tmp_path):
        bad = tmp_path / "two words.tsv.gz"
        error = refusal(DataError, [write(bad, b"gr\xfc\xdfe\tb\n")])
        assert f"gzip -dc '{bad}' | iconv -f WINDOWS-1252 -t UTF-8 > NEW_FILE" in error.cure
        with pytest.raises(DataError) as caught:
            list(decoded_stream(io.BytesIO(b"gr\xfc\xdfe\n"), STANDARD_INPUT))
        assert caught.value.cure == "convert it: ... | iconv -f WINDOWS-1252 -t UTF-8 | seqloom ..."

    def test_unknown_format(self, tmp_path):
        refusal(ConfigError, [write(tmp_path / "a.txt", "a\n")])


class TestTsv:
    def test_columns(self, tmp_path):
        read = read_pairs([write(tmp_path / "a.TSV.gz".lower(), "Hi!\tHallo!\r\na\t\n\nx\ty\tCC-BY\tz\n")])
        assert list(zip(read.sources, read.targets, strict=True)) == [
            ("Hi!", "Hallo!"),
            ("a", ""),
            ("", ""),
            ("x", "y"),
        ]

    def test_a_line_without_a_tab(self, tmp_path):
        path = write(tmp_path / "a.tsv", "a\tb\nno tab here\n")
        assert refusal(DataError, [path]).where == f"{path}:2"

    def test_lines_after_a_far_too_long_one_keep_their_numbers(self, tmp_path):
        path = write(tmp_path / "a.tsv", "a\tb\n" + "x" * 100 + "\n" + "no tab\n")
        assert refusal(DataError, [path], max_bytes=7).where == f"{path}:2"
        assert refusal(DataError, [path]).where == f"{path}:2"


class TestJson:
    @pytest.mark.parametrize(
        ("record", "languages"),
        [
            ({"source": "Hi", "target": "Tag"}, ("", "")),
            ({"source": "Hi", "target": "Tag"}, ("en", "de")),
            ({"en": "Hi", "de": "Tag", "source": "tatoeba"}, ("en", "de")),
            ({"de": "Tag", "en-US": "Hi", "id": 3}, ("en", "de-AT")),
            ({"translation": {"en": "Hi", "de": "Tag"}}, ("en", "de")),
        ],
    )
    def test_keys(self, tmp_path, record, languages):
        read = read_pairs([write(tmp_path / "a.jsonl", json.dumps(record) + "\n")], languages=languages)
        assert (list(read.sources), list(read.targets)) == (["Hi"], ["Tag"])

    def test_blank_lines_are_passed_over_but_counted(self, tmp_path):
        line = json.dumps({"source": "a", "target": "b"})
        read = read_pairs([write(tmp_path / "a.jsonl", f"{line}\n\n{line}\n \n")])
        assert [read.line(i) for i in range(len(read))] == [1, 3]

    def test_line_breaks_become_spaces(self, tmp_path):
        record = {"source": " a \r\n\n b\u2028c", "target": "x"}
        assert read_pairs([write(tmp_path / "a.jsonl", json.dumps(record))]).sources[0] == "a b\u2028c"

    @pytest.mark.parametrize(
        "line",
        [
            "{",
            "[1, 2]",
            "[" * 100_000,
            "1" * 5000,
            '{"source": "a"}',
            '{"source": "a", "target": 5}',
            '{"source": "a", "target": "\\ud800"}',
            '{"source": "a", "target": "b\\u0000"}',
            '{"translation": {"en": "a", "de": "b"}}',
        ],
    )
    def test_refused(self, tmp_path, line):
        path = write(tmp_path / "a.jsonl", '{"source": "a", "target": "b"}\n' + line)
        assert refusal(DataError, [path]).where == f"{path}:2"

    def test_a_missing_language_is_named(self, tmp_path):
        path = write(tmp_path / "a.jsonl", '{"translation": {"en": "a", "fr": "b"}}')
        error = refusal(DataError, [path], languages=("en", "de"))
        assert "'de'" in error.problem
        assert "en, fr" in error.cure

    def test_only_blank_lines(self, tmp_path):
        refusal(DataError, [write(tmp_path / "a.jsonl", "\n\n")])

    def test_one_language_is_too_few(self, tmp_path):
        refusal(ConfigError, [write(tmp_path / "a.jsonl", "{}\n")], languages=("en", ""))


@pytest.mark.parametrize(
    ("language", "candidates", "match"),
    [
        ("en", ["de", "en-US"], "en-US"),
        ("en_us", ["en", "EN-US"], "EN-US"),
        ("en-US", ["en-GB", "en"], "en"),
        ("en-US", ["en-GB"], None),
        ("e", ["en"], None),
        ("", ["", "en"], None),
    ],
)
def test_match_language(language, candidates, match):
    assert match_language(language, candidates) == match


def tmx(body: str, doctype: str = "", encoding: str = "UTF-8") -> bytes:
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n{doctype}<tmx version="1.4"><header/><body>\n'
    return f"{head}{body}\n</body></tmx>\n".encode(encoding)


def unit(**segments: str) -> str:
    inner = "".join(f'<tuv xml:lang="{k.replace("_", "-")}"><seg>{v}</seg></tuv>\n' for k, v in segments.items())
    return f"<tu>{inner}</tu>\n"


class TestTmx:
    DOCTYPE = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'

    def read(self, path: Path, content: bytes, languages: tuple[str, str] = ("", "")) -> Pairs:
        return read_pairs([write(path / "a.tmx", content)], languages=languages)

    def test_units(self, tmp_path):
        body = unit(en_US="Hello &amp; <hi>good</hi> day", de="Guten\n   Tag") + unit(
            fr="Non", de_AT="Nein", EN_gb="No"
        )
        content = tmx(body, self.DOCTYPE)
        read = self.read(tmp_path, content, ("en", "de"))
        assert list(read.sources) == ["Hello & good day", "No"]
        assert list(read.targets) == ["Guten Tag", "Nein"]
        assert [content.split(b"\n")[read.line(i) - 1][:4] for i in (0, 1)] == [b"<tu>", b"<tu>"]

    def test_codes_of_the_original_format_are_no_text(self, tmp_path):
        """bpt, ept, ph, it and ut enclose code; hi is text, and so is what sub encloses within code (TMX 1.4b)."""
        source = (
            'Press <bpt i="1">&lt;b&gt;</bpt>the <hi>red</hi> button<ept i="1">&lt;/b&gt;</ept>'
            '<ph>&lt;img alt="<sub>a <it pos="begin">{i</it>nice<hi> one</hi></sub>"/&gt;</ph>.<ut>\\par</ut>'
        )
        read = self.read(tmp_path, tmx(unit(en=source, de="Knopf <hi>rot<ph>x</ph></hi>!")))
        assert list(read.sources) == ["Press the red buttona nice one."]
        assert list(read.targets) == ["Knopf rot!"]
        assert read.codes == 6
        assert usable(read)[0].codes == 6
        assert self.read(tmp_path, tmx(unit(en="a <hi>b</hi>", de="c"))).codes == 0

    @pytest.mark.parametrize("tuv", ["<tuv>", '<tuv xml:lang="">', '<tuv id="en">'])
    def test_a_translation_without_a_language(self, tmp_path, tuv):
        body = f"<tu>\n{tuv}<seg>one</seg></tuv>\n{tuv}<seg>eins</seg></tuv></tu>"
        path = write(tmp_path / "a.tmx", tmx(body))
        for languages in (("", ""), ("en", "de")):
            error = refusal(DataError, [path], languages=languages)
            assert error.where == f"{path}:4"
            assert "without xml:lang" in error.problem
            assert '<tuv xml:lang="en">' in error.cure

    def test_the_first_two_languages_are_taken_when_none_is_named(self, tmp_path):
        read = self.read(tmp_path, tmx(unit(en="one", de="eins") + unit(fr="deux", de="zwei", en="two")))
        assert list(read.sources) == ["one", "two"]
        assert list(read.targets) == ["eins", "zwei"]

    def test_a_unit_without_one_language_has_an_empty_side(self, tmp_path):
        read = self.read(
            tmp_path, tmx(unit(en="one", fr="un") + unit(en="two", de="zwei") + unit(fr="x")), ("en", "de")
        )
        assert list(zip(read.sources, read.targets, strict=True)) == [("one", ""), ("two", "zwei")]

    def test_absent_languages_are_answered_with_the_present(self, tmp_path):
        path = write(tmp_path / "a.tmx", tmx(unit(en="one", fr="un")))
        assert "en, fr" in refusal(DataError, [path], languages=("ja", "ko")).cure

    def test_other_declared_encodings_are_xml_s_business(self, tmp_path):
        assert self.read(tmp_path, tmx(unit(en="ü", de="ß"), encoding="UTF-16")).targets == ("ß",)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            tmx("<tu>"),
            tmx(unit(en="a", de="&nbsp;")),
            tmx(unit(en="a", de="&nbsp;"), DOCTYPE),
            tmx(unit(en="a", de="b")).replace(b"UTF-8", b"no-such"),
            tmx(unit(en="a", de="ü")).replace("ü".encode(), b"\xfc"),
            tmx(unit(en="a")),
        ],
    )
    def test_refused(self, tmp_path, content):
        path = write(tmp_path / "a.tmx", content)
        assert refusal(DataError, [path]).where.startswith(path)

    def test_the_line_of_a_fault_is_named(self, tmp_path):
        path = write(tmp_path / "a.tmx", tmx(unit(en="a", de="b") + "<tu></tuv>"))
        assert refusal(DataError, [path]).where == f"{path}:6"

    def test_files_named_by_entities_are_not_read(self, tmp_path):
        secret = write(tmp_path / "secret", "SECRET")
        doctype = f'<!DOCTYPE tmx [<!ENTITY x SYSTEM "{secret}">]>\n'
        path = write(tmp_path / "a.tmx", tmx(unit(en="a&x;", de="b"), doctype))
        assert refusal(DataError, [path]).where == f"{path}:4"

    def test_entities_cannot_explode(self, tmp_path):
        levels = "".join(f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 10))
        doctype = f'<!DOCTYPE tmx [<!ENTITY x0 "boom">{levels}]>\n'
        path = write(tmp_path / "a.tmx", tmx(unit(en="&x9;", de="b"), doctype))
        assert refusal(DataError, [path]).where == f"{path}:4"

    def test_a_segment_without_end(self, tmp_path):
        path = write(tmp_path / "a.tmx", tmx(unit(en="a" * 50, de="b")))
        assert "longer" in refusal(DataError, [path], max_bytes=49).problem
        assert len(read_pairs([path], max_bytes=50)) == 1


PO = r"""
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#: main.c:3
msgid "Open \"file\"\n"
msgstr "Datei "
"öffnen"

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

#, fuzzy
msgid "Close"
msgstr "Schloss"

msgid "Save"
msgstr ""

msgctxt "verb"
msgid "Print"
msgstr "Drucken"

#~ msgid "Old"
#~ msgstr "Alt"
"""


class TestPo:
    def test_messages(self, tmp_path):
        read = read_pairs([write(tmp_path / "de.po.xz", PO)])
        assert dict(zip(read.sources, read.targets, strict=True)) == {
            'Open "file"': "Datei öffnen",
            "%d file": "%d Datei",
            "%d files": "%d Dateien",
            "Print": "Drucken",
        }
        assert all("msgid" in PO.split("\n")[read.line(i) - 1] for i in range(len(read)))

    def test_one_form_for_all_numbers_belongs_to_the_plural(self, tmp_path):
        text = PO.replace("nplurals=2; plural=(n != 1)", "nplurals=1; plural=0").replace('msgstr[1] "%d Dateien"\n', "")
        read = read_pairs([write(tmp_path / "ja.po", text)])
        assert ("%d files", "%d Datei") in list(zip(read.sources, read.targets, strict=True))

    @pytest.mark.parametrize(
        ("line", "number"),
        [
            ('msgid "cut', 1),
            ("what", 1),
            ('msgstr[x] "a"', 1),
            ('msgid "a"\nmsgid "b"\nmsgstr "c"', 2),
            ('"a"', 1),
            ('msgid "a"\nmsgstr[0] "b"', 2),
            ('msgstr "b"\nmsgid "a"', 1),
            ('msgid "a"\nmsgstr "b"\nmsgstr "c"', 3),
            ('msgid "a"\nmsgid_plural "b"\nmsgstr "c"', 3),
            ('msgid "a"\nmsgid_plural "b"\nmsgstr[1] "c"', 3),
            ('msgid "a"\nmsgstr "b"\nmsgctxt "c"\nmsgstr "d"', 4),
            ('msgid "a"\nmsgstr "b"\nmsgid_plural "c"', 3),
        ],
    )
    def test_refused(self, tmp_path, line, number):
        path = write(tmp_path / "a.po", line + "\n")
        assert refusal(DataError, [path]).where == f"{path}:{number}"
        (found,) = scan_files([path])
        assert found.where == f"{path}:{number}"

    @pytest.mark.parametrize(
        "header", ["POT-Creation-Date: yesterday", "Plural-Forms: nplurals=many", "Plural-Forms: nplurals=1; plural=0"]
    )
    def test_a_bad_header_is_one_error(self, tmp_path, header):
        text = PO.replace("Plural-Forms: nplurals=2; plural=(n != 1);", header)
        refusal(DataError, [write(tmp_path / "a.po", text)])

    def test_nothing_translated(self, tmp_path):
        refusal(DataError, [write(tmp_path / "a.po", 'msgid "a"\nmsgstr ""\n')])


class TestUsable:
    @given(st.lists(st.tuples(st.sampled_from(["", " ", "a", "\u3000", "b c"]), st.sampled_from(["", "\t", "x"]))))
    def test_exactly_the_pairs_with_text_remain(self, rows):
        sources, targets = [a for a, _ in rows], [b for _, b in rows]
        pairs = Pairs(sources, targets, ("a", "b"), kinds=[str(i) for i in range(len(rows))])
        filled = [i for i, (a, b) in enumerate(rows) if a.strip() and b.strip()]
        if not filled:
            with pytest.raises(DataError):
                usable(pairs)
            return
        kept, dropped = usable(pairs)
        assert dropped == len(rows) - len(filled)
        assert [kept.line(i) for i in range(len(kept))] == [i + 1 for i in filled]
        assert list(kept.kinds) == [str(i) for i in filled]
        assert list(kept.sources) == [sources[i] for i in filled]
        assert list(kept.targets) == [targets[i] for i in filled]
