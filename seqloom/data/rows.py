"""The kinds of examples: pairs, running text, conversations, labelled texts and arrays, questions, preferences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from seqloom.text.chat import Message

Piece = tuple[str | None, int]
"""A line of a document, or None after its last line; and the number of the line in its file, from 1."""

ReportProgress = Callable[[float, int], None]
"""Called with the share of a text that is done, and the number of lines or tokens in it."""

_BLOCK_LINES, _BLOCK_CHARACTERS = 10_000, 1 << 22  # how much is encoded at once


def digest_of_parts(parts: Iterable[bytes]) -> str:
    """SHA-256 of the parts joined together."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs, and where each comes from.

    Args:
        sources: one sentence per pair; or an image, as the path of its file or a data: address; or the place of a
            signal in its file.
        targets: their translations, as many as `sources`.
        files: the file of each side (the same one twice for TSV and similar formats), for messages.
        lines: the line of each pair in its file, from 1; if empty, pair i is on line i + 1.
        kinds: the kind of phrase that each pair is, where the reader knows it ("date", "money", ...); otherwise empty.
        codes: the number of inline codes of a TMX file that were left out of the sentences.
        values: the digest of what the sources are the places of; "" = they stand for themselves.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    files: tuple[str, str] = ("", "")
    lines: Sequence[int] = field(default=(), repr=False)
    kinds: Sequence[str] = field(default=(), repr=False)
    codes: int = 0
    values: str = ""

    def __len__(self) -> int:
        return len(self.sources)

    def line(self, index: int) -> int:
        """The line of pair `index` in its file, from 1."""
        return self.lines[index] if self.lines else index + 1

    def select(self, rows: Sequence[int]) -> Pairs:
        """Some of the pairs."""
        sources, targets = ([side[i] for i in rows] for side in (self.sources, self.targets))
        kinds = [self.kinds[i] for i in rows] if self.kinds else ()
        return replace(self, sources=sources, targets=targets, lines=[self.line(i) for i in rows], kinds=kinds)

    def grouped(self) -> tuple[Pairs, list[tuple[str, ...]]]:
        """The first pair of each source, and all targets of each."""
        rows: dict[str, list[int]] = {}
        for i, source in enumerate(self.sources):
            rows.setdefault(source, []).append(i)
        targets = [tuple(self.targets[i] for i in group) for group in rows.values()]
        return self.select([group[0] for group in rows.values()]), targets

    def digest(self) -> str:
        """SHA-256 of both sides; equal digests mean equal sentences in equal order."""
        if self.values:
            return digest_of_parts([self.values.encode(), *(f"{target}\x01".encode() for target in self.targets)])
        pairs = zip(self.sources, self.targets, strict=True)
        return digest_of_parts(f"{source}\x00{target}\x01".encode() for source, target in pairs)


@dataclass(frozen=True)
class Fresh:
    """Training pairs that are drawn again for each epoch.

    Args:
        draw: the pairs of an epoch, a pure function of its number; every epoch has equally many.
        longest: the first epoch whose texts have their full length; it determines the number of batches.
    """

    draw: Callable[[int], Pairs]
    longest: int = 0


@dataclass(frozen=True)
class Splits:
    """A corpus split for training (`train`), model selection (`valid`) and the final measurement (`test`).

    Where the training pairs are `fresh` in each epoch, `train` holds those of the longest epoch.
    """

    train: Pairs
    valid: Pairs
    test: Pairs | None = None
    fresh: Fresh | None = None


@dataclass(frozen=True)
class Text:
    """Documents in memory, line by line.

    Args:
        lines: all lines, with None after each document.
        numbers: the number of each line in its file, from 1.
    """

    lines: Sequence[str | None]
    numbers: Sequence[int] = field(repr=False)

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Text:
        """The text of all pieces."""
        lines, numbers = zip(*pieces, strict=True)
        return cls(lines, numbers)

    def __iter__(self) -> Iterator[Piece]:
        return zip(self.lines, self.numbers, strict=True)

    def digest(self) -> str:
        """SHA-256; equal digests mean equal documents."""
        return text_digest(self)

    def sizes(self) -> dict[str, int]:
        """The number of "words" (between blanks; each end of a line or document is one), "characters" and "bytes"."""
        lines = [line or "" for line in self.lines]
        return {
            "words": sum(len(line.split()) + 1 for line in lines),
            "characters": sum(len(line) + 1 for line in lines),
            "bytes": sum(len(line.encode()) + 1 for line in lines),
        }


def blocks_of(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces in blocks of a size that is encoded efficiently."""
    block: list[Piece] = []
    size = 0
    for piece in pieces:
        block.append(piece)
        size += len(piece[0] or "")
        if len(block) >= _BLOCK_LINES or size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def text_digest(pieces: Iterable[Piece]) -> str:
    """SHA-256 of a text; equal digests mean equal documents."""
    return digest_of_parts(map(as_bytes, blocks_of(pieces)))


def as_bytes(block: Sequence[Piece]) -> bytes:
    """The bytes of a block that enter a digest."""
    return "".join("\0" if line is None else f"{line}\n" for line, _ in block).encode()


@dataclass(frozen=True)
class Chat:
    """A conversation, and its line in the file."""

    messages: tuple[Message, ...]
    number: int


@dataclass(frozen=True)
class Example:
    """A text or a pair of texts, with its label as written in the file; `second` is "" for a single text."""

    text: str
    second: str = ""
    label: str = ""
    where: str = ""


@dataclass(frozen=True)
class LabelledArray:
    """The pixels of an image (N H W), from 0 to 255, or the frames of a signal (T C), with the label as written.

    `channels`: the names of the C, where the file has them.
    """

    values: np.ndarray
    label: str = ""
    where: str = ""
    channels: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Recording(LabelledArray):
    """The frames of a signal that is continued; in an evaluation, those before `first` are not predicted."""

    first: int = 0


@dataclass(frozen=True)
class TaggedArray(LabelledArray):
    """The frames of a signal, with a label for each; without labels in use."""

    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaggedWords:
    """The words of a sentence, each with a label."""

    words: tuple[str, ...]
    labels: tuple[str, ...] = ()
    where: str = ""

    def __str__(self) -> str:
        return " ".join(f"{word}/{label}" for word, label in zip(self.words, self.labels, strict=True))


@dataclass(frozen=True)
class Question:
    """A question about a passage.

    Args:
        question, passage: texts.
        answers: the right ones, each with the index of its first character in the passage; none = no answer exists.
        where: its file and line, for messages.
    """

    question: str
    passage: str
    answers: tuple[tuple[str, int], ...] = ()
    where: str = ""


Span = tuple[int, int]
"""The characters of a text from the first up to the second."""


@dataclass(frozen=True)
class Pronoun:
    """A pronoun in a text, the nouns that it may stand for, and the index of the right one."""

    text: str
    pronoun: Span
    nouns: tuple[Span, ...]
    answer: int
    where: str = ""


@dataclass(frozen=True)
class MultipleChoice:
    """A context, the choices that may follow it, and the index of the right one; its file and line, for messages."""

    context: str
    choices: tuple[str, ...]
    answer: int
    where: str = ""

    def solved(self) -> str:
        """The context with the right choice."""
        return self.context + self.joined(self.choices[self.answer])

    def joined(self, choice: str) -> str:
        """See `continued`."""
        return continued(self.context, choice)


@dataclass(frozen=True)
class Preference:
    """Two answers to a prompt.

    Args:
        prompt: a text that the answers continue, or the messages of a conversation up to the answer.
        chosen, rejected: the better answer and the worse one.
        margin: by how much the reward of the better one is to exceed that of the other.
        where: its file and line, for messages.
    """

    prompt: str | tuple[Message, ...]
    chosen: str
    rejected: str
    margin: float = 0.0
    where: str = ""


@dataclass(frozen=True)
class Prompt:
    """What a model answers.

    Args:
        prompt: a text that the answers continue or translate, or the messages of a conversation up to the answer.
        reference: a right answer; "" = none is known.
        where: its file and line, for messages.
    """

    prompt: str | tuple[Message, ...]
    reference: str = ""
    where: str = ""


def continued(text: str, by: str) -> str:
    """What follows a text: after a space, unless there already is white space."""
    return by if not text or text[-1].isspace() or by[:1].isspace() else f" {by}"


def digest_rows(rows: Iterable[Any]) -> str:
    """SHA-256 of examples of any kind, wherever they come from."""

    def form(array: np.ndarray) -> str:
        return f"{array.dtype} {array.shape} {digest_of_parts([array.tobytes()])}"

    trees = ({k: v for k, v in asdict(row).items() if k not in ("where", "channels")} for row in rows)
    return digest_of_parts(json.dumps(tree, default=form).encode() for tree in trees)
