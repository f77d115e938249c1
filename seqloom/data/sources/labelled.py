"""Files of labelled texts, of sentences of labelled words, and of questions with answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np

from seqloom.data.checks.pairs import Finding
from seqloom.data.formats.labelled import read_examples, read_tagged, tag_columns
from seqloom.data.formats.lines import expand, file_format
from seqloom.data.formats.questions import read_questions
from seqloom.data.rows import Example, Question, TaggedWords
from seqloom.data.sources.none import NoData
from seqloom.data.sources.source import SplitFiles
from seqloom.errors import DataError, counted
from seqloom.files import Json
from seqloom.limits import Length, LengthOrZero

E = TypeVar("E")


@dataclass(frozen=True)
class ExampleFiles(SplitFiles[list[E]]):
    """Files of data, plain, .gz or .xz; ${VARIABLES} of the environment are expanded.

    Args:
        train, valid, test: the files. Without `valid`, a tenth of `train`, drawn by the seed, is held out: of each
            label its share, and never the only example of one.
    """

    train: tuple[str, ...] = ()

    def splits(
        self,
        report: Callable[[str], object],
        seed: int = 0,
        hold_out: Callable[[list[E], int], tuple[list[E], list[E], str]] | None = None,
    ) -> dict[str, list[E]]:
        """See SplitFiles; the config of an imported run names no files."""
        if not self.train:
            return NoData().splits()
        for line in self.described([*self.train, *self.valid, *self.test]):
            report(line)
        return super().splits(report, seed, hold_out)

    def described(self, files: Sequence[str]) -> list[str]:
        """How the files are read, where there is a choice, a line for each."""
        return []

    def findings(self, train: Sequence[E]) -> list[Finding]:
        """What is suspicious in how the training files were read."""
        return []

    def learned(self, train: Sequence[E]) -> Json:
        """What use needs of the values of the training data: "sizes", and the "scale" that standardizes them."""
        return {}

    def hold_out(
        self, train: list[E], seed: int, labels: Callable[[E], Iterable[str]] = lambda row: ()
    ) -> tuple[list[E], list[E], str]:
        """A tenth of the examples, drawn by the seed: of each label its share, and never the last example with it.

        An example with several labels is drawn among those with its rarest one. Raises DataError where nothing can be
        held out.
        """
        drawn = np.random.Generator(np.random.Philox(key=(seed, 0))).permutation(len(train)).tolist()
        each = [tuple(dict.fromkeys(labels(row))) for row in train]
        left = Counter(label for row_labels in each for label in row_labels)
        strata = [min(names, key=lambda label: (left[label], label), default="") for names in each]
        sizes, places = Counter(strata), Counter[str]()
        rank: dict[int, float] = {}  # where an example stands in its stratum, from 0 to 1
        for i in drawn:
            rank[i] = (places[strata[i]] + 0.5) / sizes[strata[i]]
            places[strata[i]] += 1
        single = sorted(label for label, count in left.items() if count == 1)
        held = set[int]()
        for i in sorted(drawn, key=rank.__getitem__):
            if len(held) < min(max(1, len(train) // 10), len(train) - 1) and all(left[label] > 1 for label in each[i]):
                held.add(i)
                left.subtract(each[i])
        if not held:
            cure = "name validation data with --data.valid"
            raise DataError("no example can be held out for validation", where=", ".join(self.train), cure=cure)
        kept, valid = ([row for i, row in enumerate(train) if (i in held) == chosen] for chosen in (False, True))
        message = f"{counted(len(held), 'training example')} held out as validation data"
        if single:
            message += f"; {counted(len(single), 'label')} with a single example kept in training: {first_of(single)}"
        return kept, valid, message


def first_of(labels: Sequence[str], most: int = 5) -> str:
    """The first labels of a list."""
    return ", ".join(labels[:most]) + (f" and {len(labels) - most:,} more" if len(labels) > most else "")


@dataclass(frozen=True)
class LabelledFiles(ExampleFiles[Example]):
    """Files of labelled texts: .jsonl, or tables whose columns are separated by tabs.

    Args:
        text, second, label: the columns, or keys; second = "" where the texts are no pairs.
        header: whether the first line of a table names its columns; without it, they are called "1", "2", ...
        strands: whether texts are DNA of which both strands are read: in training one of the two, drawn anew each time,
            and in use both, with their mean before the last layer. Such a text counts twice in a batch.
    """

    kind: ClassVar[str] = "labelled"
    text: str = "text"
    second: str = ""
    label: str = "label"
    header: bool = True
    strands: Literal["one", "both"] = "one"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.second and self.strands == "both":
            raise ValueError("strands = 'both' is for single texts, not for pairs")

    def read(self, files: Sequence[str]) -> list[Example]:
        """See SplitFiles."""
        columns = {"text": self.text, "second": self.second, "label": self.label}
        return read_examples(files, {option: name for option, name in columns.items() if name}, self.header)

    def findings(self, train: Sequence[Example]) -> list[Finding]:
        """See ExampleFiles: a column of labels that is called like one of them."""
        tables = [path for path in self.train if self.header and file_format(path) != ".jsonl"]
        count = sum(row.label == self.label for row in train)
        if not (tables and count):
            return []
        detail = f"{self.label!r} is the name of a column, and the label of {counted(count, 'example')} below"
        cure = "if line 1 is an example: --data.header false, with the columns by their numbers: --data.label 2"
        return [Finding("warning", "a first line like an example", f"{tables[0]}:1", detail, cure, count)]


@dataclass(frozen=True)
class TaggedFiles(ExampleFiles[TaggedWords]):
    """Files of sentences whose words have labels.

    Each line of a .jsonl file is {"words": [...], "labels": [...]}. Any other file has one word per line, in columns,
    and blank lines between sentences. In CoNLL-U, which is recognized, the word is FORM and the label UPOS. Elsewhere
    the word is the first column and the label the last one; columns are separated by tabs if there are any, so that
    words may contain spaces, else by spaces. Which columns were read is reported.

    Args:
        word, label: the columns of the words and the labels, from 1; 0 = those of the format.
    """

    kind: ClassVar[str] = "tagged"
    word: LengthOrZero = 0
    label: LengthOrZero = 0

    def read(self, files: Sequence[str]) -> list[TaggedWords]:
        """See SplitFiles."""
        return read_tagged(files, self.word, self.label)

    def described(self, files: Sequence[str]) -> list[str]:
        """See ExampleFiles."""
        tables = [path for path in dict.fromkeys(files) if file_format(path) != ".jsonl"]
        return [f"{path}: {tag_columns(expand(path), self.word, self.label)}" for path in tables]


@dataclass(frozen=True)
class QuestionFiles(ExampleFiles[Question]):
    """Files of questions: .json as SQuAD's, or .jsonl with "question", "context" and "answers" on each line.

    Args:
        no_answer: whether a question may have no answer.
        longest: the most tokens an answer may have.
    """

    kind: ClassVar[str] = "questions"
    no_answer: bool = False
    longest: Length = 40

    def read(self, files: Sequence[str]) -> list[Question]:
        """See SplitFiles."""
        return read_questions(files, self.no_answer)
