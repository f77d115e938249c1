from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.config import build, read_tree
from seqloom.data.batches.stream import encode_text
from seqloom.data.rows import Text, blocks_of
from seqloom.data.sources.text import TextFiles, text_source
from seqloom.errors import DataError, UsageError
from seqloom.text.tokenizer import WordLevel
from seqloom.text.training import train_tokenizer


def read(path: Path, documents: str = "blocks") -> Text:
    return Text.of(text_source([str(path)], [documents]))


def test_blank_lines_and_ends_of_files_part_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("\n \nOne two.\r\nThree.\n\n\n\nFour\u2028five.\n".encode("utf-8-sig"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"Six.\n\n"))
    text = Text.of(text_source([str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")]))
    assert text.lines == ("One two.", "Three.", None, "Four\u2028five.", None, "Six.", None)
    assert text.numbers == (3, 4, 5, 8, 9, 1, 2)
    assert text.sizes() == {"words": 3 + 2 + 1 + 3 + 1 + 2 + 1, "characters": 9 + 7 + 1 + 11 + 1 + 5 + 1, "bytes": 37}
    assert text.digest() == replace(text, numbers=[1] * 7).digest() != Text(text.lines[2:], text.numbers[2:]).digest()
    assert Text(["a", ""], [1, 2]).digest() != Text(["a", None], [1, 2]).digest()


def test_a_file_can_be_one_document_and_a_line_too(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n one\n\n  \n\ttwo\n\n", encoding="utf-8")
    assert read(tmp_path / "a.txt", "files").lines == ("", " one", "", "  ", "\ttwo", "", None)
    assert read(tmp_path / "a.txt", "files").sizes()["characters"] == len("\n one\n\n  \n\ttwo\n\n") + 1
    lines = read(tmp_path / "a.txt", "lines")
    assert (lines.lines, lines.numbers) == ((" one", None, "\ttwo", None), (2, 2, 5, 5))


def test_each_file_has_its_own_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("four\nfive\n", encoding="utf-8")
    names = [str(tmp_path / name) for name in ("a.txt", "b.txt", "b.txt")]
    data = TextFiles((*names,), (names[1],), documents=("blocks", "lines", "lines"))
    blocks, lines = ["one", "two", None, "three", None], ["four", None, "five", None]
    assert [line for line, _ in data.read(data.train)] == blocks + lines + lines
    assert [line for line, _ in data.read(names[1:2])] == lines
    (tmp_path / "d.txt").write_text("six\nseven\n", encoding="utf-8")
    assert [line for line, _ in data.read([str(tmp_path / "d.txt")])] == ["six", "seven", None]
    with pytest.raises(ValueError, match="documents has 2 values, train 3 files"):
        replace(data, documents=("blocks", "lines"))
    with pytest.raises(ValueError, match="two values for one file"):
        replace(data, documents=("blocks", "lines", "blocks"))
    assert replace(data, documents=("lines",)) == replace(data, documents="lines")
    alike = replace(data, documents=("lines",))  # as from the command line
    assert [line for line, _ in alike.read(data.train[:1])] == ["one", None, "two", None, "three", None]
    assert [line for line, _ in alike.read(data.train[1:])] == lines + lines


@pytest.mark.parametrize("name", ["bert", "bert-pairs"])
def test_a_review_and_an_article_are_documents_in_the_recipes(name):
    tree, _ = read_tree(Path(__file__).parents[3] / f"recipes/{name}.toml")
    data = build(TextFiles, tree["data"])
    assert [unit == "lines" for unit in data.documents] == [not file.count("novels") for file in data.train]
    assert data.documents[0] == "blocks"  # also that of the validation text, which is novels


@given(st.text(st.sampled_from("ab \n"), max_size=30))
def test_one_document_a_file_keeps_each_character(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(f"x{content}\n", encoding="utf-8")
    lines = read(path, "files").lines
    assert "".join(f"{line}\n" for line in lines[:-1]) == f"x{content}\n"
    assert None not in lines[:-1]


@pytest.mark.parametrize("documents", ["blocks", "files", "lines"])
def test_a_record_is_a_document(tmp_path: Path, documents):
    texts = ["one\n\ntwo\n", "three"]
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"text": text, "id": 1}) + "\n\n" for text in texts).encode())
    )
    text = read(tmp_path / "a.jsonl.gz", documents)
    assert (text.lines, text.numbers) == (("one", "", "two", None, "three", None), (1, 1, 1, 1, 3, 3))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"\n \n", "all its lines are blank"),
        ("a.txt", b"a\n\xff\n", r":2: not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "a"}\n', r':2: no text under "text"'),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r":1: a text with a NUL or half a character"),
        ("a.jsonl", b'{"text": ""}\n', r":1: no text"),
        ("a.jsonl", b"[1]\n", r":1: not a JSON object"),
        ("a.jsonl", b"{\n", r":1: not JSON"),
    ],
)
def test_text_that_is_none(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name)
    assert caught.value.cure
    with pytest.raises(UsageError, match="no such file"):
        text_source([str(tmp_path / "b.txt")])
    with pytest.raises(ValueError, match="at least one file"):
        TextFiles(())


def test_lines_end_with_one_word_and_documents_with_another():
    text = Text(["a b", "c", None, "", "b", None], [1, 2, 3, 3, 4, 5])
    tokenizer = train_tokenizer(WordLevel(), filter(None, text.lines))
    ids, lines = encode_text(text, tokenizer)
    a, b, c = (tokenizer.inner.token_to_id(word) for word in "abc")
    end, start = tokenizer.end, tokenizer.start
    assert ids.tolist() == [a, b, end, c, end, start, end, b, end, start]
    assert lines.tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert len(ids) == text.sizes()["words"]  # so that with this tokenizer both perplexities are one


@pytest.mark.parametrize(
    ("documents", "lines", "kept", "part"),
    [
        ("lines", 100, 95, "the last 5 of 100 documents"),
        ("lines", 20, 19, "the last 1 of 20 documents"),
        ("blocks", 100, 95, "the last 5 of 100 lines"),
        ("blocks", 2, 1, "the last 1 of 2 lines"),
        ("lines", 3, 2, "the last 1 of 3 lines"),
    ],
)
def test_the_end_is_held_out(tmp_path: Path, documents, lines, kept, part):
    (tmp_path / "a.txt").write_text("".join(f"line {n}\n" for n in range(lines)))
    data = TextFiles((str(tmp_path / "a.txt"),), documents=documents)
    train, valid, message = data.hold_out(data.read(data.train), 1)
    assert part in message
    texts = [Text.of(train), Text.of(valid)]
    assert [[line for line in text.lines if line] for text in texts] == [
        [f"line {n}" for n in range(kept)],
        [f"line {n}" for n in range(kept, lines)],
    ]
    assert all(text.lines[-1] is None and text.lines[0] is not None for text in texts)


def test_a_single_line_cannot_be_parted(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(DataError, match="a single line"):
        TextFiles((str(tmp_path / "a.txt"),)).splits(print)


def test_progress_goes_from_nothing_to_all(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a line\n" * 5000)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a line\n" * 3000))
    reports: list[tuple[float, int]] = []
    source = text_source([str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")])
    pieces = list(source.pieces(lambda share, done: reports.append((share, done))))
    assert [done for _, done in reports] == list(range(1000, 8001, 1000))
    assert [share for share, _ in reports] == sorted(share for share, _ in reports)
    assert 0 < reports[0][0] < reports[-1][0] <= 1
    assert [piece for block in blocks_of(pieces) for piece in block] == pieces
