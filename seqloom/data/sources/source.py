"""What a source of data is: a config that reads its own data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from seqloom.data.batches.packs import Packs
from seqloom.data.batches.shards import Keeping
from seqloom.data.batches.stream import Layout, Stream
from seqloom.data.checks.pairs import Finding
from seqloom.data.rows import Piece, ReportProgress
from seqloom.errors import UsageError
from seqloom.limits import Bounded
from seqloom.text.chat import Message
from seqloom.text.tokenizer import Tokenizer

SPLITS = ("train", "valid", "test")

R = TypeVar("R")


@dataclass(frozen=True)
class Reading:
    """What a model is evaluated on.

    Args:
        batches: the text.
        unknown: how many of the tokens to be predicted are the unknown token.
        sizes: those of the text to be predicted; see `Text.sizes`.
        prompts: texts for a model to continue, as samples.
    """

    batches: Stream | Packs
    unknown: int
    sizes: dict[str, int]
    prompts: Sequence[str | tuple[Message, ...]]


class TextSplit:
    """A split of a corpus for language models: its text, and batches of it."""

    def pieces(self, report: ReportProgress = lambda share, done: None) -> Iterator[Piece]:
        """The whole text; `report` is called from time to time with the share read so far, and the pieces in it."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256; equal digests mean equal text."""
        raise NotImplementedError

    def batches(self, tokenizer: Tokenizer, layout: Layout, keeping: Keeping) -> tuple[Stream | Packs, str]:
        """Batches to train on, and the digest of the text."""
        raise NotImplementedError

    def reading(self, tokenizer: Tokenizer, layout: Layout, lanes: int) -> Reading:
        """The split as a model is evaluated on it; running text in at most `lanes` lanes."""
        raise NotImplementedError


class TextSource:
    """Where a language model's text comes from; each source is also a frozen dataclass.

    Attributes:
        chats: whether it has conversations, read whole, for which a tokenizer needs special tokens.
    """

    chats: ClassVar[bool] = False

    def splits(self, report: Callable[[str], object], seed: int = 0) -> Mapping[str, TextSplit]:
        """The splits by name, "test" if there is one; reports what is held out. Raises UsageError, DataError."""
        raise NotImplementedError

    def scan(self) -> list[Finding]:
        """The faults of its files, line by line."""
        return []

    def tested(self, files: Sequence[str]) -> TextSplit:
        """The text to test on: that of the files, or without any its own test text, or else its validation text."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name of the split that is tested on without files."""
        return "test"


@dataclass(frozen=True)
class SplitFiles(Bounded, Generic[R]):
    """Files for each split; without files for validation, a part of the training data is held out."""

    train: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def read(self, files: Sequence[str]) -> R:
        """The data of some files. Raises DataError, UsageError."""
        raise NotImplementedError

    def hold_out(self, train: R, seed: int) -> tuple[R, R, str]:
        """The training data without the held-out part, this part, and a message about it."""
        raise NotImplementedError

    def splits(
        self,
        report: Callable[[str], object],
        seed: int = 0,
        hold_out: Callable[[R, int], tuple[R, R, str]] | None = None,
    ) -> dict[str, R]:
        """The splits by name, "test" if there is one; reports what is held out. Raises UsageError, DataError.

        `hold_out`: what holds a part out, in place of the method.
        """
        splits = {name: self.read(files) for name in SPLITS if (files := getattr(self, name))}
        if not self.valid:
            splits["train"], splits["valid"], message = (hold_out or self.hold_out)(splits["train"], seed)
            report(message)
        return splits


def no_test_data() -> UsageError:
    """The error if there is nothing to test on."""
    return UsageError("the config names no test data", where="--test", cure="--test FILE ...")
