"""Text of any size as a stream of word ids on disk, for training word vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from seqloom.data.batches.collocations import join_phrases
from seqloom.data.batches.word_ids import END, WordIds
from seqloom.data.formats.lines import blocks, decode, expand
from seqloom.errors import DataError, UsageError, counted
from seqloom.limits import Bounded, Bounds, NotNegative, Positive
from seqloom.text.vocabulary import Vocabulary

_NONE = -2
_TYPES = 10_000_000  # words counted before the rarest are dropped
_LONGEST = 1 << 20  # bytes without white space
_END_MARK = "\0"  # occurs in no text
# Whatever is not punctuation, rather than whatever is a letter: marks combined with letters belong to words.
_LETTER = r"[^\s\0!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f]"
_WORD = re.compile(rf"\0|{_LETTER}+(?:['’]{_LETTER}+)*")


@dataclass(frozen=True)
class WordText(Bounded):
    """Text in files, plain, .gz or .xz, of any size; a line is a sentence.

    Args:
        train: files, and folders whose files are read in the order of their names.
        test: lists of analogies (questions-words.txt) and of similar words (word, word, score) for evaluation.
        split: at white space only ("spaces"), or also at punctuation ("words").
        lowercase: whether the text is lowercased.
        min_count: words that occur less often are left out, as if they were not in the text.
        max_words: the most words of the vocabulary, the most frequent ones; 0 = all.
        phrases: how many times word pairs with a strikingly high count are joined: twice gives new_york_times.
        threshold: how striking: (count(ab) - min_count) / (count(a) count(b)), times all words (Mikolov et al. 2013b).
    """

    kind: ClassVar[str] = "text"
    train: tuple[str, ...]
    test: tuple[str, ...] = ()
    split: Literal["spaces", "words"] = "spaces"
    lowercase: bool = False
    min_count: Positive = 5
    max_words: NotNegative = 0
    phrases: Annotated[int, Bounds(0, 10)] = 0
    threshold: Annotated[float, Bounds(1e-9, 10**12)] = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train:
            raise ValueError("train must name at least one file or folder")

    def encoded(self, folder: Path, report: Callable[[str], None]) -> tuple[Vocabulary, WordIds]:
        """Reads the text twice: counts its words, then writes the ids of those in the vocabulary to `folder`."""
        vocabulary = count_words(self, lambda n, types: report(f"{counted(n, 'word')} read, {types:,} distinct"))
        ids = encode_words(self, vocabulary, folder, lambda done: report(f"{done:,} words and line ends encoded"))
        for _ in range(self.phrases):
            choose = partial(frequent_words, self)
            vocabulary, ids = join_phrases(vocabulary, ids, self.min_count, self.threshold, choose)
        return vocabulary, ids


def text_files(config: WordText) -> list[Path]:
    """The files that are read, in order. Raises UsageError for a folder without files."""
    files: list[Path] = []
    for name in config.train:
        path = expand(name)
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        if path.is_dir() and not inside:
            raise UsageError("there is no file in this folder", where=str(path), cure="name files of text")
        files += inside if path.is_dir() else [path]
    return files


def count_words(config: WordText, report: Callable[[int, int], None], types: int = _TYPES) -> Vocabulary:
    """The vocabulary of the text; `report` is called with the number of words read so far, and of distinct ones.

    When there are more than `types` distinct words, those seen once are dropped, then those seen twice, and so on.
    Raises DataError for a text without words, or without one that occurs `min_count` times.
    """
    counts: Counter[str] = Counter()
    read, least = 0, 1
    for words in _words(config):
        counts.update(words)
        read += len(words) - words.count(_END_MARK)
        while len(counts) > types:
            counts = Counter({word: n for word, n in counts.items() if n > least})
            least += 1
        report(read, len(counts))
    del counts[_END_MARK]
    return frequent_words(config, counts)


def frequent_words(config: WordText, counts: Mapping[str, int]) -> Vocabulary:
    """The words that are frequent enough. Raises DataError if there are none."""
    where = ", ".join(config.train)
    if not counts:
        raise DataError("there is no word in the text", where=where, cure="name files of text")
    vocabulary = Vocabulary.ranked(counts, config.min_count, config.max_words)
    if not len(vocabulary):
        most = max(counts.values())
        times = f"data.min_count = {config.min_count} times; the most frequent one occurs {counted(most, 'time')}"
        raise DataError(f"no word occurs {times}", where=where, cure="use more text, or --data.min-count 1")
    return vocabulary


def _words(config: WordText) -> Iterator[list[str]]:
    """The words of the text in pieces, with END_MARK at the end of each line and file."""
    for path in text_files(config):
        text = ""
        for text in _texts(path):
            plain = text.lower() if config.lowercase else text
            marked = plain.replace("\n", f" {_END_MARK} ")
            yield _WORD.findall(marked) if config.split == "words" else marked.split()
        if not text.endswith("\n"):
            yield [_END_MARK]


def _texts(path: Path) -> Iterator[str]:
    """A file in pieces that end at white space. Lines may have any length; raises LineError as for other text."""
    rest, line, column = b"", 1, 0
    for block in blocks(path):
        piece = rest + block
        cut = max(piece.rfind(space) for space in (b"\n", b" ", b"\t")) + 1
        if not cut and len(piece) > _LONGEST:
            cure = "words need white space between them"
            raise DataError(f"{_LONGEST:,} bytes without white space", where=f"{path}:{line}", cure=cure)
        text, rest = _decoded(piece[:cut], path, line, column), piece[cut:]
        column = len(text) - text.rfind("\n") - 1 + (0 if "\n" in text else column)
        line += text.count("\n")
        yield text
    if rest:
        yield _decoded(rest, path, line, column)


def _decoded(piece: bytes, path: Path, line: int, column: int) -> str:
    """The text of a piece that begins in a line, after `column` characters."""
    try:
        text = piece.decode("utf-8-sig" if (line, column) == (1, 0) else "utf-8")
    except UnicodeDecodeError:
        text = _END_MARK
    if _END_MARK in text:
        for number, raw in enumerate(piece.split(b"\n"), line):
            decode(raw, path, number, len(raw), column if number == line else 0)
    return text


def encode_words(config: WordText, vocabulary: Vocabulary, folder: Path, report: Callable[[int], None]) -> WordIds:
    """The ids of all words of the text that are in the vocabulary, with END after each line.

    `report` is called with their number so far.
    """
    ids = WordIds(folder)
    index = {**vocabulary.index, _END_MARK: END}
    for words in _words(config):
        part = np.fromiter(map(index.get, words, repeat(_NONE)), np.int32, len(words))
        ids.append(part[part != _NONE])
        report(ids.size)
    return ids
