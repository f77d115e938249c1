from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.data.formats.labelled import read_tagged
from seqloom.data.formats.questions import read_questions
from seqloom.data.rows import Example, Question, TaggedWords, digest_rows
from seqloom.data.sources.labelled import LabelledFiles, TaggedFiles
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
        (
            "a.tsv",
            "label\tsentence\n1\tx\n",
            r":2: no column 'text'\n  .*--data.text COLUMN, .*line 1.*known are: label, sentence",
        ),
        ("a.tsv", "good\tso fine\nbad\tno\n", r":2: no column 'text'\n  .*--data.header false if line 1 is an example"),
        ("a.tsv", "label\ttext\n1\tx\ty\n", r":2: 3 columns instead of 2"),
        ("a.tsv", "label\ttext\n1\t \n", r":2: 'text' is empty"),
        ("a.tsv", "label\ttext\n", r"has no examples\n  .*header false"),
        ("a.tsv", "", "the file is empty"),
        ("a.tsv", "label\ttext\ra\tx\rb\ty\r", r"lines end in a carriage return \(CR\) alone.*\n  .*tr "),
        ("a.jsonl", '{"text": "x"\n', ":1: not JSON"),
        ("a.jsonl", '["x"]\n', ":1: not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": ["a"]}\n', ":1: 'label' is empty or not a text"),
        ("a.jsonl", '{"text": "x\\ud800", "label": "a"}\n', ":1: a text with a NUL or half a character"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / name, content))


def test_a_column_called_like_its_labels_is_suspicious(tmp_path):
    path = write(tmp_path / "a.tsv", "good\tso fine\nbad\tno\ngood\tyes\n")
    data = LabelledFiles((path,), text="so fine", label="good")
    (finding,) = data.findings(data.read([path]))
    assert (finding.severity, finding.where, finding.count) == ("warning", f"{path}:1", 1)
    assert "--data.header false" in finding.cure
    data = LabelledFiles((path,), text="2", label="1", header=False)
    assert data.findings(data.read([path])) == []
    named = write(tmp_path / "b.tsv", "label\ttext\ngood\tso fine\n")
    assert LabelledFiles((named,)).findings(read(named)) == []


def test_columns_and_json_of_tagged_words(tmp_path):
    columns = write(tmp_path / "a.conll", "-DOCSTART- X O\n\nAnna NNP B-P\nran VBD O\n\n\nwe PRP O\n")
    lines = write(tmp_path / "a.jsonl", '{"words": ["Anna", "ran"], "labels": ["B-P", "O"]}\n')
    first, second = read_tagged([columns])
    assert first == TaggedWords(("Anna", "ran"), ("B-P", "O"), f"{columns}:3")
    assert second == TaggedWords(("we",), ("O",), f"{columns}:7")
    assert digest_rows([first]) == digest_rows(read_tagged([lines]))


CONLLU = """# sent_id = 1
# text = Don't go to New York.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t1\tx\t_\t_
3.1\tquickly\tquickly\tADV\tRB\t_\t_\t_\t_\t_
4\tNew York\tNew York\tPROPN\tNNP\t_\t3\tobl\t_\tSpaceAfter=No

1\t#\t#\tSYM\t#\t_\t0\troot\t_\t_
"""


@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz", "a.txt"])
def test_conllu_is_recognized(tmp_path, name):
    """Comments, written forms of several words (1-2) and words that are not written (3.1) are no words."""
    data = CONLLU.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    path = str(tmp_path / name)
    first, second = TaggedFiles((path,)).read([path])
    assert first.words == ("Do", "n't", "go", "New York")
    assert first.labels == ("AUX", "PART", "VERB", "PROPN")
    assert (second.words, second.labels, second.where) == (("#",), ("SYM",), f"{path}:10")
    chosen = TaggedFiles((path,), label=5)
    assert chosen.read([path])[0].labels == ("VBP", "RB", "VB", "NNP")
    assert chosen.described([path]) == [f"{path}: CoNLL-U; words from column 2 (FORM), labels from column 5 (XPOS)"]


def test_conllu_without_labels_is_refused(tmp_path):
    content = re.sub("AUX|PART|VERB|PROPN|SYM", "_", CONLLU)
    with pytest.raises(DataError, match=r"no word has a label: .*column 4 \(UPOS\)\n  .*--data.label 5"):
        read_tagged([write(tmp_path / "a.conllu", content)])


@pytest.mark.parametrize(
    ("content", "words", "labels", "columns"),
    [
        ("New York\tB-LOC\nis\tO\n", ("New York", "is"), ("B-LOC", "O"), "tabs; words from column 1"),
        ("-DOCSTART-\t-X-\tO\n\nNew York \tNNP\tB-LOC\n", ("New York",), ("B-LOC",), "labels from column 3"),
        ("# id 7a domain=en\n#\tO\nab\tB-X\n", ("#", "ab"), ("O", "B-X"), "tabs; words from column 1"),
        ("10\u00a0000   CD  B-N\n€ SYM I-N\n", ("10\u00a0000", "€"), ("B-N", "I-N"), "spaces; words from column 1"),
    ],
)  # fmt: skip
def test_tabs_separate_columns_before_spaces_do(tmp_path, content, words, labels, columns):
    path = write(tmp_path / "a.txt", content)
    (row,) = read_tagged([path])
    assert (row.words, row.labels) == (words, labels)
    (said,) = TaggedFiles((path,)).described([path])
    assert columns in said
    reports: list[str] = []
    TaggedFiles((path,), (path,)).splits(reports.append)
    assert reports == [said]


def test_chosen_columns_may_stand_in_lines_of_any_length(tmp_path):
    path = write(tmp_path / "a.txt", "doc 0 Anna NNP x\ndoc 1 ran VBD\n")
    assert read_tagged([path], 3, 4)[0] == TaggedWords(("Anna", "ran"), ("NNP", "VBD"), f"{path}:1")


def labelled(*labels: str) -> list[Example]:
    return [Example(f"text {i}", "", label, str(i)) for i, label in enumerate(labels)]


class TestHeldOut:
    FILES: LabelledFiles = LabelledFiles(("train.tsv",))

    def split(self, rows: list[Example], seed: int) -> tuple[list[Example], list[Example], str]:
        return self.FILES.hold_out(rows, seed, lambda row: (row.label,))

    @pytest.mark.parametrize("seed", range(7))
    def test_each_label_has_its_share(self, seed):
        rows = labelled(*["a"] * 60, *["b"] * 30, *["c"] * 9, "rare")
        kept, held, message = self.split(rows, seed)
        assert Counter(row.label for row in held) == {"a": 6, "b": 3, "c": 1}
        assert sorted([*kept, *held], key=lambda row: int(row.where)) == rows
        assert message.endswith("1 label with a single example kept in training: rare")

    @given(
        st.lists(st.lists(st.sampled_from("abcdefg"), max_size=3).map(tuple), min_size=2, max_size=60),
        st.integers(0, 9),
    )
    def test_no_label_is_only_in_the_held_out_part(self, rows, seed):
        examples = [TaggedWords(labels, labels, str(i)) for i, labels in enumerate(rows)]
        try:
            kept, held, _ = TaggedFiles(("x",)).hold_out(examples, seed, lambda row: row.labels)
        except DataError:
            counts = Counter(label for labels in rows for label in set(labels))
            assert all(any(counts[label] == 1 for label in labels) for labels in rows)
            return
        assert len(held) <= max(1, len(rows) // 10)
        assert len(kept) + len(held) == len(rows)
        assert {label for row in held for label in row.labels} <= {label for row in kept for label in row.labels}

    def test_without_labels_a_tenth_is_drawn_by_the_seed(self):
        rows = labelled(*map(str, range(40)))
        held = [self.FILES.hold_out(rows, seed)[1] for seed in (1, 1, 2)]
        assert [len(part) for part in held] == [4, 4, 4]
        assert held[0] == held[1] != held[2]

    def test_what_cannot_be_divided(self):
        for rows in (labelled("a"), labelled("a", "b", "c")):
            with pytest.raises(DataError, match=r"no example can be held out.*\n  .*--data.valid"):
                self.split(rows, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "Anna B-P\nran\n", ":2: a word without a label"),
        (
            "a.txt",
            "Anna B-P\nNew York B-L\n",
            r":2: 3 columns instead of 2\n  separate columns by tabs; these columns were read: columns",
        ),
        ("a.txt", "Anna\tB-P\nran O\n", ":2: a word without a label"),
        ("a.txt", "Anna\tB-P\nran\t \n", ":2: the word or its label is empty"),
        ("a.conllu", "1\tAnna\tPROPN\n", ":1: 3 columns instead of 10"),
        ("a.txt", "Anna B-P\rran O\r", r"lines end in a carriage return \(CR\) alone"),
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
        (squad([{"text": "s", "answer_start": -6}]), "is not at character -6"),
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


@pytest.mark.parametrize(("sign", "name"), [(",", "commas"), (";", "semicolons")])
def test_a_table_separated_by_another_sign(tmp_path, sign, name):
    path = tmp_path / "a table.tsv"
    path.write_text(f"text{sign}label\n'yes{sign} it is'{sign}good\n")
    with pytest.raises(DataError, match=rf":1: the line seems to be separated by {name}.*tabs\n.*delimiter='{sign}'"):
        LabelledFiles(train=(str(path),)).read([str(path)])
