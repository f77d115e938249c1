from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from seqloom.data.formats.labelled import read_tagged
from seqloom.data.formats.questions import read_questions
from seqloom.data.rows import Example, Question, TaggedWords, digest_rows
from seqloom.data.sources.labelled import LabelledFiles
from seqloom.errors import DataError


def write(path: Path, content: str) -> str:
    path.write_bytes(content.encode())
    return str(path)


def read(path: str, **columns: object) -> list[Example]:
    return LabelledFiles((path,), **columns).read([path])  # type: ignore[arg-type]


def test_a_table_by_the_names_of_its_columns(tmp_path):
    path = write(tmp_path / "a.tsv", '\ufefflabel\tsentence\r\n1\tsay "hi"\u2028now\r\n\r\n0\tno\r\n')
    assert read(path, text="sentence") == [
        Example('say "hi"\u2028now', "", "1", f"{path}:2"),
        Example("no", "", "0", f"{path}:4"),
    ]


def test_pairs_without_a_header_and_packed(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"a\tb\tyes\nc\td\tno\n"))
    examples = read(str(path), text="1", second="2", label="3", header=False)
    assert [(e.text, e.second, e.label) for e in examples] == [("a", "b", "yes"), ("c", "d", "no")]


def test_json_lines_take_numbers_and_truths_as_labels(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": 2.5}\n{"text": "y", "label": true}\n')
    assert [e.label for e in read(path)] == ["2.5", "true"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "label\tsentence\n1\tx\n", r":2: no column 'text'\n  known are: label, sentence; .*--data.text"),
        ("a.tsv", "label\ttext\n1\tx\ty\n", r":2: 3 columns instead of 2"),
        ("a.tsv", "label\ttext\n1\t \n", r":2: 'text' is empty"),
        ("a.tsv", "label\ttext\n", r"has no examples\n  .*header false"),
        ("a.tsv", "", "the file is empty"),
        ("a.jsonl", '{"text": "x"\n', ":1: not JSON"),
        ("a.jsonl", '["x"]\n', ":1: not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": ["a"]}\n', ":1: 'label' is empty or not a text"),
        ("a.jsonl", '{"text": "x\\ud800", "label": "a"}\n', ":1: 'text' has half a character"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / name, content))


def test_columns_and_json_of_tagged_words(tmp_path):
    columns = write(tmp_path / "a.conll", "-DOCSTART- X O\n\nAnna NNP B-P\nran VBD O\n\n\nwe PRP O\n")
    lines = write(tmp_path / "a.jsonl", '{"words": ["Anna", "ran"], "labels": ["B-P", "O"]}\n')
    first, second = read_tagged([columns])
    assert first == TaggedWords(("Anna", "ran"), ("B-P", "O"), f"{columns}:3")
    assert second == TaggedWords(("we",), ("O",), f"{columns}:7")
    assert digest_rows([first]) == digest_rows(read_tagged([lines]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "Anna B-P\nran\n", ":2: a word without a label"),
        ("a.txt", "\n\n", "has no sentences"),
        ("a.jsonl", '{"words": ["a", "b"], "labels": ["O"]}\n', ":1: no words with a label each"),
    ],
)
def test_tagged_words_that_cannot_be_read(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read_tagged([write(tmp_path / name, content)])


PASSAGE = "The TARDIS is a ship. It flies."


def squad(answers: object) -> str:
    asked = {"id": "q7", "question": "What?", "answers": answers}
    return json.dumps({"data": [{"paragraphs": [{"context": PASSAGE, "qas": [asked]}]}]}, indent=1)


def test_questions_nested_and_by_line(tmp_path):
    answers = [{"text": "a ship", "answer_start": 14}] * 2
    nested = write(tmp_path / "a.json", squad(answers))
    columns = {"text": ["a ship"], "answer_start": [14]}
    line = json.dumps({"question": "What?", "context": PASSAGE, "answers": columns})
    (one,), (other,) = read_questions([nested], False), read_questions([write(tmp_path / "a.jsonl", line)], False)
    assert one == Question("What?", PASSAGE, (("a ship", 14),), f"{nested}, question q7")
    assert digest_rows([one]) == digest_rows([other])
    assert read_questions([write(tmp_path / "b.json", squad([]))], True)[0].answers == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (squad([{"text": "a boat", "answer_start": 14}]), "question q7: the answer 'a boat' is not at"),
        (squad([{"text": "a ship", "answer_start": 13}]), "is not at character 13"),
        (squad([{"text": "a ship"}]), "answers without text or place"),
        (squad([]), "a question without an answer\n  .*no-answer"),
        ('{"data": {}}', "no list under 'data'"),
        ('{"data": []}', "has no questions"),
        ("{", "not JSON"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_questions([write(tmp_path / "a.json", content)], False)
