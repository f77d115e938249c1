"""Texts that a model reads whole: <s> text </s>, or <s> text </s> second </s>; long ones are cut, or windowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch

from seqloom.data.batches.batch import ReadingBatch, pad
from seqloom.data.batches.order import BatchConfig, Order
from seqloom.limits import Bounds, LengthOrZero, Tokens
from seqloom.nn.embedders import Inputs
from seqloom.text.tokenizer import Template

TextLength = Annotated[int, Bounds(8, 10**6)]


@dataclass(frozen=True)
class LengthConfig(BatchConfig):
    """How texts are put together into batches.

    Args:
        length: the most tokens read at once, including the special ones.
    """

    tokens: Tokens = 2048
    length: TextLength = 256


@dataclass(frozen=True)
class TextBatchConfig(LengthConfig):
    """How texts are framed and put together into batches.

    Args:
        long: what happens to longer texts: "cut", or overlapping "windows", each of which is read by itself.
        stride: tokens from the start of one window to that of the next; 0 = half of what fits.
    """

    long: Literal["cut", "windows"] = "cut"
    stride: LengthOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride > self.length - 8:
            raise ValueError(f"batches.stride must be at most batches.length - 8 = {self.length - 8}; 0 = by default")


@dataclass(frozen=True)
class Window:
    """The tokens that are read at once.

    Args:
        ids: the tokens, including the special ones.
        second: the index at which the second text begins; the number of tokens if there is none.
        first_token: the index of the first token in the text that is windowed.
        segments: whether the second text is of another segment than the first.
    """

    ids: np.ndarray
    second: int
    first_token: int = 0
    segments: bool = True


@dataclass(frozen=True)
class Item:
    """An encoded text: its windows, and the targets to learn.

    Args:
        windows: one or more.
        targets: () a label or a number for the text; (W 2) a first and a last position in each window; (T) a label for
            each token of all windows, -1 = none.
        places: what a task needs to interpret its predictions.
    """

    windows: tuple[Window, ...]
    targets: np.ndarray | None = None
    places: np.ndarray | None = None


def frame(
    text: np.ndarray, second: np.ndarray | None, template: Template, config: TextBatchConfig, *, windows: bool
) -> tuple[Window, ...]:
    """The windows of an encoded text or pair of texts; of a pair, the second text is windowed.

    Args:
        text, second: ids without special tokens.
        template: the special tokens around and between them.
        config: the lengths.
        windows: whether a long text has several; otherwise it is cut, the longer one of a pair first.
    """
    head, split = np.array(template.before, dtype=np.int32), 0
    after = np.array(template.after, dtype=np.int32)
    if second is not None:
        room = config.length - len(head) - len(template.between) - len(after)
        kept = room // 2 if windows else max(room // 2, room - len(second))
        head, text = np.concatenate((head, text[:kept], template.between)).astype(np.int32), second
        split = len(head)
    room = config.length - len(head) - len(after)
    apart = min(config.stride or max(1, room // 2), room)
    starts = range(0, len(text) - room + apart, apart) if windows and len(text) > room else (0,)
    rows = [np.concatenate((head, text[first : first + room], after)).astype(np.int32) for first in starts]
    return tuple(
        Window(ids, len(ids) if second is None else split, first, template.segments)
        for ids, first in zip(rows, starts, strict=True)
    )


def collate(items: Sequence[Item], rows: Sequence[int] = (), number: int = 0) -> ReadingBatch:
    """A batch of encoded texts, all with targets or all without."""
    windows = [w for item in items for w in item.windows]
    ids, mask = pad([w.ids for w in windows])
    segments = owner = targets = None
    if any(w.segments and w.second < len(w.ids) for w in windows):
        seconds = torch.tensor([w.second for w in windows])
        segments = (torch.arange(ids.shape[1]) >= seconds[:, None]).long()
    if len(windows) > len(items):
        owner = torch.repeat_interleave(torch.tensor([len(item.windows) for item in items]))
    if labels := [item.targets for item in items if item.targets is not None]:
        targets, tokens = _targets(labels, windows, ids.shape[1])
    else:
        tokens = len(items)
    return ReadingBatch(Inputs.text(ids, mask, segments), targets, owner, tokens, tuple(rows), number)


def _targets(labels: list[np.ndarray], windows: list[Window], width: int) -> tuple[torch.Tensor, int]:
    match labels[0].ndim:
        case 0:
            return torch.from_numpy(np.stack(labels)), len(labels)
        case 2:
            return torch.from_numpy(np.concatenate(labels)), len(windows)
    rows = np.full((len(windows), width), -1, dtype=np.int64)
    rows[np.arange(width) < np.array([len(w.ids) for w in windows])[:, None]] = np.concatenate(labels)
    return torch.from_numpy(rows), int((rows >= 0).sum())


class ItemBatches:
    """The endless sequence of batches of encoded texts, by number; see Order."""

    def __init__(self, items: Sequence[Item], config: BatchConfig, seed: int) -> None:
        self.items = items
        lengths = np.array([sum(len(w.ids) for w in item.windows) for item in items])
        self.order = Order(lambda epoch: (lengths,), config, seed)
        self.per_epoch = self.order.per_epoch

    def __call__(self, number: int) -> ReadingBatch:
        """Batch `number` of the endless sequence."""
        part = self.order.part(number)
        return collate([self.items[i] for i in part], part.tolist(), number)


def by_length(items: Sequence[Item], tokens: int) -> Iterator[list[int]]:
    """The indices of all items in groups of similar length, each of at most `tokens` tokens with padding."""
    sizes = [(max(len(w.ids) for w in item.windows), len(item.windows)) for item in items]
    part: list[int] = []
    rows = 0
    for i in sorted(range(len(items)), key=lambda i: sizes[i]):
        if part and (rows + sizes[i][1]) * sizes[i][0] > tokens:
            yield part
            part, rows = [], 0
        part.append(i)
        rows += sizes[i][1]
    if part:
        yield part
