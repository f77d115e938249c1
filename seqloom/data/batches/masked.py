"""Running text with masked tokens: documents packed into sequences, or pairs of texts for next-sentence prediction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch

from seqloom.data.batches.batch import ReadingBatch, pad
from seqloom.data.batches.order import Order
from seqloom.data.batches.windows import LengthConfig, TextLength
from seqloom.data.rows import Text, blocks_of
from seqloom.errors import DataError, UsageError
from seqloom.limits import Bounds, Tokens
from seqloom.nn.embedders import Inputs
from seqloom.text.tokenizer import Tokenizer

MASKS = ("<mask>", "[MASK]")


@dataclass(frozen=True)
class MaskConfig(LengthConfig):
    """How a text is cut into sequences, and how tokens are masked in them.

    Args:
        share: the share of tokens to predict: 80 % of them are masked, 10 % replaced by another token, 10 % kept.
        whole_words: whether all tokens of a word are chosen together.
        next_sentence: whether sequences are pairs of texts; in half of them, the second continues the first.
    """

    tokens: Tokens = 4096
    length: TextLength = 128
    share: Annotated[float, Bounds(1e-6, 1, below=True)] = 0.15
    whole_words: bool = False
    next_sentence: bool = False


def mask_of(tokenizer: Tokenizer) -> tuple[str, int]:
    """The mask token and its id. Raises UsageError if the tokenizer has none."""
    for name in MASKS:
        if (token_id := tokenizer.inner.token_to_id(name)) is not None:
            return name, int(token_id)
    cure = "train a model on masked tokens: task = 'masked_words'"
    raise UsageError(f"the tokenizer has none of the tokens {', '.join(MASKS)}", cure=cure)


def with_mask(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a mask token added; itself if it has one."""
    return tokenizer if has_mask(tokenizer) else tokenizer.grown(MASKS[:1])


def has_mask(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer has a mask token."""
    return any(tokenizer.inner.token_to_id(name) is not None for name in MASKS)


@dataclass(frozen=True)
class Documents:
    """The ids of a text, and the indices at which its lines and documents begin, ending with that of its end."""

    ids: np.ndarray
    lines: Sequence[int]
    documents: Sequence[int]

    @classmethod
    def of(cls, text: Text, tokenizer: Tokenizer) -> Documents:
        """Encodes a text. Raises DataError for one of fewer than two tokens."""
        rows = [row for block in blocks_of(text) for row in tokenizer.encode([line or "" for line, _ in block])]
        ends = np.cumsum([len(row) for row in rows])
        if ends[-1] < 2:
            raise DataError("the text has fewer than two tokens", cure="name files with text")
        last = [line is None for line in text.lines]
        documents = np.unique([0, *ends[last], ends[-1]])
        return cls(np.concatenate(rows), np.unique([0, *ends]).tolist(), documents.tolist())


def word_starts(tokenizer: Tokenizer) -> np.ndarray:
    """Whether each id begins a word (V); the others continue one."""
    names = tokenizer.tokens(range(tokenizer.vocab_size))
    if any(name.startswith("##") for name in names):
        return np.array([not name.startswith("##") for name in names])
    if sum(name.startswith(("_", "\u2581")) for name in names) < 2:  # no spaces in it: each id is a word
        return np.ones(len(names), dtype=bool)
    return np.array([name.startswith(("_", "\u2581")) or not name[:1].isalnum() for name in names])


class MaskedBatches:
    """The endless sequence of batches of a text; batch n, with its masks, is a pure function of (seed, n).

    An epoch reads each token about once; in each, sequences begin at other places.
    """

    def __init__(self, text: Documents, tokenizer: Tokenizer, config: MaskConfig, seed: int) -> None:
        self.text, self.config, self.seed = text, config, seed
        template = tokenizer.template
        self.segments = template.segments
        self.parts = template.before, template.between * config.next_sentence, template.after
        self.frame = [i for part in self.parts for i in part]  # the special tokens of a sequence
        self.mask = mask_of(tokenizer)[1]
        special = {tokenizer.pad, tokenizer.unknown, tokenizer.start, tokenizer.end, self.mask}
        self.ordinary = np.array([i for i in range(tokenizer.vocab_size) if i not in special])
        self.starts = word_starts(tokenizer) if config.whole_words else None
        self.order = Order(lambda epoch: (self.lengths(epoch),), config, seed)
        self.per_epoch = self.order.per_epoch

    def lengths(self, epoch: int) -> np.ndarray:
        """The tokens of each sequence."""
        parts, _ = self.layout(epoch)
        sizes: np.ndarray = (parts[:, 1] - parts[:, 0] + parts[:, 3] - parts[:, 2]) + len(self.frame)
        return sizes

    def rows(self, epoch: int, indices: np.ndarray) -> list[np.ndarray]:
        """The ids of some sequences, unmasked."""
        ids = self.text.ids
        before, between, after = (np.array(part, dtype=ids.dtype) for part in self.parts)
        places = self.layout(epoch)[0][indices].tolist()
        return [np.concatenate((before, ids[a:b], between, ids[c:d], after)) for a, b, c, d in places]

    @lru_cache(maxsize=2)  # noqa: B019 - as long-lived as the run
    def layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the two texts of each sequence begin and end (N 4), and whether the second continues the first (N)."""
        chance = np.random.Generator(np.random.Philox(key=(self.seed, epoch)))
        room = self.config.length - len(self.frame)
        pieces = [piece for a, b in pairwise(self.text.documents) for piece in self._cut(a, b, room, chance)]
        if not self.config.next_sentence:
            parts = np.array([(a, b, b, b) for a, b in pieces])
            return parts, np.ones(len(parts), dtype=np.int64)
        parts = np.array([(a, m, m, b) for a, b in pieces if b - a > 1 for m in [self._middle(a, b, chance)]])
        # A random half exchange their second texts: nothing is read twice, and almost all come from elsewhere.
        other = chance.permutation(len(parts))[: len(parts) // 2]
        if len(other) < 2:
            other = other[:0]
        parts[other, 2:] = parts[np.roll(other, 1), 2:]
        parts[:, 3] = np.minimum(parts[:, 3], parts[:, 2] + room - (parts[:, 1] - parts[:, 0]))
        continues = np.ones(len(parts), dtype=np.int64)
        continues[other] = 0
        return parts, continues

    def _cut(self, at: int, end: int, room: int, chance: np.random.Generator) -> list[tuple[int, int]]:
        """The pieces of a document, cut between lines if one begins in the second half of the room."""
        pieces = []
        size = room if end - at <= room else int(chance.integers(room // 2, room + 1))
        while at < end:
            stop = min(at + size, end)
            if stop < end:
                line = self.text.lines[bisect_right(self.text.lines, stop) - 1]
                stop = line if line > at + size // 2 else stop
            pieces.append((at, stop))
            at, size = stop, room
        return pieces

    def _middle(self, a: int, b: int, chance: np.random.Generator) -> int:
        lines = self.text.lines
        low, high = bisect_right(lines, a), bisect_right(lines, b - 1)
        return lines[int(chance.integers(low, high))] if low < high else int(chance.integers(a + 1, b))

    def __call__(self, number: int) -> ReadingBatch:
        """Batch `number` of the endless sequence."""
        epoch, part = number // self.per_epoch, self.order.part(number)
        ids, mask = pad(self.rows(epoch, part))
        parts, continues = (array[part] for array in self.layout(epoch))
        read, targets = self._masked(ids.numpy(), None if mask is None else mask.numpy(), number)
        segments = pairs = None
        if self.config.next_sentence:
            pairs = torch.from_numpy(continues)
        if self.config.next_sentence and self.segments:
            first = len(self.parts[0]) + len(self.parts[1])
            seconds = torch.from_numpy(parts[:, 1] - parts[:, 0] + first)
            segments = (torch.arange(ids.shape[1]) >= seconds[:, None]).long()
        tokens = int((targets >= 0).sum())
        inputs = Inputs.text(torch.from_numpy(read), mask, segments)
        return ReadingBatch(inputs, torch.from_numpy(targets), None, tokens, (), number, pairs)

    def _masked(self, ids: np.ndarray, mask: np.ndarray | None, number: int) -> tuple[np.ndarray, np.ndarray]:
        chance = np.random.Generator(np.random.Philox(key=(self.seed, number), counter=[0, 0, 0, 1]))
        free = ~np.isin(ids, self.frame)
        free = free if mask is None else mask & free
        drawn = chance.random(ids.shape)
        if self.starts is not None:
            word = np.cumsum(self.starts[ids] | ~free, axis=1) - 1
            drawn = np.take_along_axis(drawn, word.clip(min=0), axis=1)
        chosen = free & (drawn < self.config.share)
        if not chosen.any():
            chosen.flat[free.argmax()] = True
        kind, others = chance.random(ids.shape), chance.choice(self.ordinary, ids.shape)
        read = np.where(chosen & (kind < 0.8), self.mask, np.where(chosen & (kind < 0.9), others, ids))
        return read, np.where(chosen, ids, -1)
