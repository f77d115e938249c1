"""Files of labelled texts, of sentences of labelled words, and of questions with answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from seqloom.data.formats.labelled import read_examples, read_tagged
from seqloom.data.formats.questions import read_questions
from seqloom.data.rows import Example, Question, TaggedWords
from seqloom.data.sources.none import NoData
from seqloom.data.sources.source import SplitFiles
from seqloom.errors import counted
from seqloom.limits import Length

E = TypeVar("E")


@dataclass(frozen=True)
class ExampleFiles(SplitFiles[list[E]]):
    """Files of data, plain, .gz or .xz; ${VARIABLES} of the environment are expanded.

    Args:
        train, valid, test: the files. Without `valid`, a tenth of `train`, drawn by the seed, is held out.
    """

    train: tuple[str, ...] = ()

    def splits(self, report: Callable[[str], object], seed: int = 0) -> dict[str, list[E]]:
        """See SplitFiles; the config of an imported run names no files."""
        return super().splits(report, seed) if self.train else NoData().splits()

    def hold_out(self, train: list[E], seed: int) -> tuple[list[E], list[E], str]:
        """A tenth of the examples, drawn by the seed."""
        drawn = np.random.Generator(np.random.Philox(key=(seed, 0))).permutation(len(train))
        held = set(drawn[: max(1, len(drawn) // 10)].tolist())
        kept, valid = ([row for i, row in enumerate(train) if (i in held) == chosen] for chosen in (False, True))
        return kept, valid, f"{counted(len(held), 'training example')} held out as validation data"


@dataclass(frozen=True)
class LabelledFiles(ExampleFiles[Example]):
    """Files of labelled texts: .jsonl, or tables whose columns are separated by tabs.

    Args:
        text, second, label: the columns, or keys; second = "" where the texts are no pairs.
        header: whether the first line of a table names its columns; without it, they are called "1", "2", ...
    """

    kind: ClassVar[str] = "labelled"
    text: str = "text"
    second: str = ""
    label: str = "label"
    header: bool = True

    def read(self, files: Sequence[str]) -> list[Example]:
        """See SplitFiles."""
        columns = {"text": self.text, "second": self.second, "label": self.label}
        return read_examples(files, {option: name for option, name in columns.items() if name}, self.header)


@dataclass(frozen=True)
class TaggedFiles(ExampleFiles[TaggedWords]):
    """Files of sentences whose words have labels.

    Each line of a .jsonl file is {"words": [...], "labels": [...]}. Any other file has one word per line, in columns
    separated by white space: the word first, the label last. Blank lines separate the sentences (CoNLL).
    """

    kind: ClassVar[str] = "tagged"

    def read(self, files: Sequence[str]) -> list[TaggedWords]:
        """See SplitFiles."""
        return read_tagged(files)


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
