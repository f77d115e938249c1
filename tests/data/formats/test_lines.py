from __future__ import annotations

import gzip
import lzma
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from seqloom.data.checks.pairs import check_pairs
from seqloom.data.formats.choices import read_multiple_choice
from seqloom.data.formats.labelled import read_examples, read_tagged
from seqloom.data.formats.lines import blocks, expand, is_blank, json_object, read_lines
from seqloom.data.formats.parallel import read_pairs, usable
from seqloom.data.formats.questions import read_questions
from seqloom.data.sources.chats.conversations import read_conversations
from seqloom.data.sources.chats.dialogues import Dialogues
from seqloom.data.sources.text import read_file, text_source
from seqloom.errors import DataError, UsageError
from seqloom.tasks.language_model.data import summary
from seqloom.text.tokenizer import Characters
from seqloom.text.training import train_tokenizer

CHARACTERS = train_tokenizer(Characters(), ["abc"])
PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


class TestBytes:
    @pytest.mark.parametrize(
        ("content", "hint"),
        [("a\n".encode("utf-16"), "UTF-16"), (gzip.compress(b"a\n", mtime=0), ".gz"), (lzma.compress(b"a\n"), ".xz")],
    )
    def test_known_first_bytes_are_named(self, tmp_path, content, hint):
        with pytest.raises(DataError) as caught:
            read_lines(write(tmp_path / "a", content))
        assert hint in caught.value.cure

    def test_encoded_surrogates_are_not_utf8(self, tmp_path):
        with pytest.raises(DataError, match="0xed"):
            read_lines(write(tmp_path / "a", b"\xed\xa0\x80\n"))

    def test_nul(self, tmp_path):
        with pytest.raises(DataError) as caught:
            read_lines(write(tmp_path / "a", "fine\nab\0c\n"))
        assert caught.value.where.endswith("a:2")
        assert "column 3" in caught.value.problem

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    @pytest.mark.parametrize("bom", ["", "\ufeff"])
    def test_the_longest_line(self, tmp_path, end, bom):
        path = write(tmp_path / "a", f"{bom}12345{end}")
        assert read_lines(path, max_bytes=5) == ["12345"]
        with pytest.raises(DataError) as caught:
            read_lines(path, max_bytes=4)
        assert caught.value.where == f"{path}:1"


BLANK = ["", " \t", "\u200b", "\u3000\u00a0", "\ufeff \u200e", "\x85", "\u2060\ufe0f", "\u3164"]
"""Lines on which nothing can be seen."""


def test_what_is_blank():
    assert all(map(is_blank, BLANK))
    assert not any(map(is_blank, ["a", "\u200ba", ".", "\u0301", "\u0600", "\U0001f642", "0"]))
    letters = [c for c in map(chr, range(0x10FFFF)) if unicodedata.category(c)[0] in "LNPS"]
    assert [hex(ord(c)) for c in letters if is_blank(c)] == ["0x115f", "0x1160", "0x2800", "0x3164", "0xffa0"]


@pytest.mark.parametrize("blank", BLANK)
def test_every_reader_takes_the_same_lines_as_blank(tmp_path, blank):
    """A line that is blank by the definition is like an empty one, in every format."""

    def path(name: str, *lines: str) -> str:
        return write(tmp_path / name, "".join(f"{line}\n" for line in lines))

    label, chat = '{"text": "x", "label": "a"}', '{"prompt": "x", "response": "y"}'
    assert len(read_examples([path("a.jsonl", label, blank, label)], {"text": "text", "label": "label"}, True)) == 2
    assert len(read_examples([path("a.tsv", "x\ta", blank, "y\tb")], {"text": "1", "label": "2"}, False)) == 2
    assert len(read_tagged([path("a.conll", "Anna P", blank, "ran V")])) == 2
    asked = '{"question": "q", "context": "c", "answers": [{"text": "c", "answer_start": 0}]}'
    assert len(read_questions([path("q.jsonl", asked, blank)], False)) == 1
    assert len(read_multiple_choice(path("c.jsonl", '{"context": "", "choices": ["a", "b"], "answer": 0}', blank))) == 1
    assert len(read_conversations([path("d.jsonl", blank, chat)])) == 1
    dialogue = path("e.jsonl", '{"turns": ["a", "b"]}', blank)
    assert len(Dialogues((dialogue,), (dialogue,)).splits().train) == 1
    assert len(read_pairs([path("p.jsonl", '{"source": "a", "target": "b"}', blank)])) == 1
    pairs = read_pairs([path("s.txt", "a", blank, "c"), path("t.txt", "x", "y", blank)])
    assert usable(pairs)[1] == 2
    assert [f.count for f in check_pairs(pairs, "train") if f.what.startswith("empty")] == [1, 1]
    lines = [line for line, _ in read_file(Path(path("r.txt", "a", blank, "b")))]
    assert lines == ["a", None, "b", None]
    assert summary("train", text_source([path("z.txt", "a", blank, "b")], ["files"]), CHARACTERS)["lines"] == 2
    with pytest.raises(DataError, match="empty or not a text"):
        read_examples([path("b.tsv", f"{blank}.\ta", f"{blank}\ta")], {"text": "1", "label": "2"}, False)


class TestPaths:
    def test_missing_file(self, tmp_path):
        write(tmp_path / "train.en", "a\n")
        with pytest.raises(UsageError) as caught:
            read_lines(str(tmp_path / "trian.en"))
        assert "train.en" in caught.value.cure
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("name", ["no/such/folder/x", "nul\0name", "x" * 5000])
    def test_impossible_path(self, tmp_path, name):
        with pytest.raises(UsageError):
            read_lines(f"{tmp_path}/{name}")

    @pytest.mark.parametrize("content", ["", "\ufeff"])
    def test_empty_file(self, tmp_path, content):
        with pytest.raises(DataError, match="empty") as caught:
            read_lines(write(tmp_path / "a", content))
        assert caught.value.exit_code == 3

    def test_folder(self, tmp_path):
        with pytest.raises(UsageError, match="folder"):
            read_lines(str(tmp_path))

    def test_no_permission(self, tmp_path, monkeypatch):
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        path = write(tmp_path / "a", "a\n")
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(UsageError, match="Permission denied"):
            read_lines(path)

    @pytest.mark.parametrize("pack", [".gz", ".xz"])
    def test_damaged_archives(self, tmp_path, pack):
        whole = PACKERS[pack](bytes(range(1, 10)) * 20_000 + b"\n")
        bent = whole[: len(whole) // 2] + b"\xff" * 20 + whole[len(whole) // 2 + 20 :]
        for content in (whole[:-9], whole[:20], bent, b"plain text\n"):
            path = tmp_path / f"a{pack}"
            path.write_bytes(content)
            with pytest.raises(DataError) as caught:
                read_lines(str(path))
            assert caught.value.where == str(path)

    def test_variables(self, tmp_path, monkeypatch):
        write(tmp_path / "a", "x\n")
        monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
        assert read_lines("${SOME_FOLDER}/a") == read_lines("$SOME_FOLDER/a") == ["x"]

    @pytest.mark.parametrize("value", [None, ""])
    def test_an_unset_variable_is_named_with_its_cure(self, monkeypatch, value):
        monkeypatch.delenv("SOME_FOLDER", raising=False)
        if value is not None:
            monkeypatch.setenv("SOME_FOLDER", value)
        with pytest.raises(UsageError, match="SOME_FOLDER is not set") as caught:
            read_lines("${SOME_FOLDER}/a")
        assert "export SOME_FOLDER=" in caught.value.cure

    def test_a_dollar_in_a_name_that_exists(self, tmp_path):
        assert read_lines(write(tmp_path / "a$b", "x\n")) == ["x"]

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert expand("~/a") == tmp_path / "a"


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": 1e400}', "not JSON: 1e400 is no number"),
        ('{"a": -1e400}', "not JSON: -1e400 is no number"),
        ('{"a": NaN}', "not JSON: NaN is no number"),
        ('{"a": Infinity}', "not JSON: Infinity is no number"),
        ('{"a": ' + "9" * 5_000 + "}", "not JSON: Exceeds the limit"),
        ('{"a": ' + DEEP, "not JSON"),
        (DEEP + "]" * 100_000, "not JSON"),
        (r'{"a": "\ud83d"}', "half a character"),
        (r'{"a": ["x", {"b": "\udc00"}]}', "half a character"),
        (r'{"\ud83d": 1}', "half a character"),
        (r'{"a": "\u0000"}', "a NUL"),
        ("[1]", "not a JSON object"),
        ("3", "not a JSON object"),
    ],
    ids=lambda text: text[:20],
)
def test_json_that_no_reader_takes(line, problem):
    with pytest.raises(DataError, match=problem) as caught:
        json_object(line, "a.jsonl:7", "this")
    assert (caught.value.where, caught.value.cure) == ("a.jsonl:7", "write this")
    assert len(caught.value.problem) < 200


def test_json_that_every_reader_takes():
    line = r'{"a": "\ud83d\ude00 \\u0000 \\ud800", "b": [1.5e300, -0.0, 12345678901234567890]}'
    record = json_object(line, "")
    assert record["a"] == "\N{GRINNING FACE} \\u0000 \\ud800"
    assert record["b"] == [1.5e300, 0.0, 12345678901234567890]


@pytest.mark.parametrize(
    ("read", "line"),
    [
        (lambda path: read_tagged([path]), r'{"words": ["a", "\ud800"], "labels": ["x", "y"]}'),
        (lambda path: read_tagged([path]), r'{"words": ["a"], "labels": ["\u0000"]}'),
        (lambda path: read_examples([path], {"text": "t", "label": "l"}, True), r'{"t": "a", "l": 1e400}'),
        (lambda path: read_multiple_choice(path), r'{"context": "a", "choices": ["\ud800", "b"], "answer": 0}'),
        (lambda path: read_multiple_choice(path), '{"context": "a", "choices": ["a", "b"], "answer": 1e400}'),
        (lambda path: read_multiple_choice(path), '{"context": "a", "choices": ' + DEEP),
        (lambda path: read_multiple_choice(path), '{"context": "a", "choices": ["a", "b"], "answer": [0]}'),
        (lambda path: read_questions([path], True), r'{"question": "a", "context": "\ud800"}'),
        (lambda path: read_questions([path], True), '{"question": "a", "context": "b", "answers": [{}]}'),
        (lambda path: read_conversations([path]), r'{"turns": ["a", "\ud800"]}'),
        (lambda path: read_conversations([path]), '{"turns": ' + DEEP),
        (lambda path: read_pairs([path]), r'{"source": "a", "target": "\ud800"}'),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_each_reader_of_json_names_the_line(tmp_path, read, line):
    path = write(tmp_path / "a.jsonl", line + "\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.where == f"{path}:1"


@pytest.mark.parametrize(
    ("choices", "answer", "fault"),
    [
        ('["b", ""]', "0", "a choice is empty"),
        ('["b", 1]', "0", "choices must be a list of texts"),
        ('["b"]', "0", "there must be at least two choices"),
        ('["b", "c", " b"]', "1", "the choice ' b' is there twice"),
        (
            '["b", "c"]',
            '"0"',
            "the answer '0' is neither a choice nor an index from 0 to 1; an index is written without",
        ),
        ('["b", "c"]', "2", "the answer '2' is neither a choice nor an index from 0 to 1$"),
        ('["b", "c"]', "true", "the answer 'True' is neither"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(tmp_path, choices, answer, fault):
    path = write(tmp_path / "a.jsonl", f'\n{{"context": "a", "choices": {choices}, "answer": {answer}}}\n')
    with pytest.raises(DataError) as caught:
        read_multiple_choice(path)
    assert caught.value.where == f"{path}:2"
    assert re.search(f"^not a question: {fault}", caught.value.problem)


@pytest.mark.parametrize(
    ("name", "read", "cure"),
    [
        ("a.jsonl", read_multiple_choice, 'write {"context": "...", "choices": ["...", "..."], "answer": 0}'),
        ("a", read_multiple_choice, 'write {"context": "...", "choices": ["...", "..."], "answer": 0}'),
        ("a.jsonl", lambda path: read_pairs([path]), "write one JSON object per line"),
        ("a.jsonl", lambda path: read_questions([path], False), "write one JSON object per line"),
        ("a.jsonl", lambda path: Dialogues((path,), (path,)).splits(), "write one JSON object per line"),
        ("a.txt", read_lines, "write one sentence per line"),
    ],
)
def test_an_empty_file_is_to_hold_what_is_read(tmp_path, name, read, cure):
    with pytest.raises(DataError, match="the file is empty") as caught:
        read(write(tmp_path / name, ""))
    assert caught.value.cure == cure


@pytest.mark.parametrize("read", [read_lines, lambda path: list(blocks(Path(path))), lambda path: read_pairs([path])])
def test_what_is_no_regular_file_is_refused_before_it_is_read(tmp_path, read):
    os.mkfifo(tmp_path / "a.tsv")
    (tmp_path / "b.tsv").symlink_to("/dev/zero")
    for path in (tmp_path / "a.tsv", tmp_path / "b.tsv"):
        with pytest.raises(UsageError, match="this is not a regular file") as caught:
            read(str(path))
        assert (caught.value.where, caught.value.exit_code) == (str(path), 2)
