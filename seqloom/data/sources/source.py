"""What a source of data is: a config that reads itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from seqloom.data.batches.packs import Packs
from seqloom.data.batches.shards import Keeping
from seqloom.data.batches.stream import Layout, Stream
from seqloom.data.checks.pairs import Finding
from seqloom.data.rows import Piece, Say
from seqloom.errors import UsageError
from seqloom.limits import Bounded
from seqloom.text.chat import Message
from seqloom.text.tokenizer import Tokenizer

SPLITS = ("train", "valid", "test")

R = TypeVar("R")


@dataclass(frozen=True)
class Reading:
    """What a model is measured on.

    Args:
        batches: the text.
        unknown: how many of the predicted tokens are the unknown one.
        sizes: of what is predicted; see `Text.sizes`.
        prompts: what a model may continue, to show what it makes of it.
    """

    batches: Stream | Packs
    unknown: int
    sizes: dict[str, int]
    prompts: Sequence[str | tuple[Message, ...]]


class TextSplit:
    """A split of a corpus for language models: its text, and the batches that are made of it."""

    def pieces(self, say: Say = lambda share, done: None) -> Iterator[Piece]:
        """All of the text; `say` is called now and then with the share that has been read, and the pieces."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256; equal digests mean equal text."""
        raise NotImplementedError

    def batches(self, tokenizer: Tokenizer, layout: Layout, keeping: Keeping) -> tuple[Stream | Packs, str]:
        """Batches to train on, and the digest of the text."""
        raise NotImplementedError

    def reading(self, tokenizer: Tokenizer, layout: Layout, lanes: int) -> Reading:
        """The split as a model is measured on it, a running text in at most so many lanes."""
        raise NotImplementedError


class TextSource:
    """Where a language model's text comes from; a source is a frozen dataclass besides.

    Attributes:
        chats: whether it has conversations, read whole, for which a tokenizer needs special tokens.
    """

    chats: ClassVar[bool] = False

    def splits(self, say: Callable[[str], object], seed: int = 0) -> Mapping[str, TextSplit]:
        """By name, "test" if there is one; `say` is given what is held out. Raises UsageError, DataError."""
        raise NotImplementedError

    def scan(self) -> list[Finding]:
        """What is wrong in its files, line by line."""
        return []

    def tested(self, files: Sequence[str]) -> TextSplit:
        """Other text of the same kind to be tested on; without files its own, the validation text if there is none."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The split that it is tested on without files."""
        return "test"


@dataclass(frozen=True)
class SplitFiles(Bounded, Generic[R]):
    """Files for each split, of which some of the training data is held out for validation where there are none."""

    train: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def read(self, files: Sequence[str]) -> R:
        """What is in some files. Raises DataError, UsageError."""
        raise NotImplementedError

    def hold_out(self, train: R, seed: int) -> tuple[R, R, str]:
        """The training data without some of it, this, and words about it."""
        raise NotImplementedError

    def splits(self, say: Callable[[str], object], seed: int = 0) -> dict[str, R]:
        """By name, "test" if there is one; `say` is given what is held out. Raises UsageError, DataError."""
        splits = {name: self.read(files) for name in SPLITS if (files := getattr(self, name))}
        if not self.valid:
            splits["train"], splits["valid"], held_out = self.hold_out(splits["train"], seed)
            say(held_out)
        return splits


def no_test_data() -> UsageError:
    """The error where there is nothing to test on."""
    return UsageError("the config names no test data", where="--test", cure="--test FILE ...")
