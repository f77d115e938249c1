"""What a model reads whole, of any modality: texts, <s> text </s> or <s> text </s> second </s>, images and signals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch

from seqloom.data.batches.batch import ReadingBatch, pad
from seqloom.data.batches.order import BatchConfig, Order
from seqloom.limits import Bounds, LengthOrZero, Tokens
from seqloom.nn.embedders import Inputs, Modality
from seqloom.text.tokenizer import Template

TextLength = Annotated[int, Bounds(8, 10**6)]


@dataclass(frozen=True)
class LengthConfig(BatchConfig):
    """How texts are put together into batches.

    Args:
        length: the most tokens read at once, including the special ones; or the most time steps of a signal.
    """

    tokens: Tokens = 2048
    length: TextLength = 256


@dataclass(frozen=True)
class TextBatchConfig(LengthConfig):
    """How texts are framed and put together into batches.

    Args:
        long: what happens to longer texts and signals: "cut", or overlapping "windows", each of which is read by
            itself.
        stride: tokens from the start of one window to that of the next; 0 = half of what fits.
    """

    long: Literal["cut", "windows"] = "cut"
    stride: LengthOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride > self.length - 8:
            raise ValueError(f"batches.stride must be at most batches.length - 8 = {self.length - 8}; 0 = by default")


@dataclass(frozen=True)
class Scale:
    """The mean and the deviation of the values of the training data, which broadcast against those of a window."""

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The standardized values."""
        scaled: np.ndarray = ((values - self.mean) / self.deviation).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class Window:
    """What is read at once, of one modality; the windows of a batch are of the same.

    Args:
        values: (T) tokens, including the special ones; (N H W) pixels, from 0 to 255; (T C) frames of a signal.
        second: the index at which a second text begins; beyond the end = there is none.
        first_token: the index of the first token in the text that is windowed.
        segments: whether the second text is of another segment than the first.
        modality: a name of Inputs: "text", "image", ...
        positions: how many positions the model makes of the values; 0 = one for each of T.
        scale: standardizes the values when a batch is made of them; until then they keep their small type.
        beside: what of another modality is read with it.
        lost: the tokens that were cut off and that no window has.
    """

    values: np.ndarray
    second: int = sys.maxsize
    first_token: int = 0
    segments: bool = True
    modality: str = "text"
    positions: int = 0
    scale: Scale | None = None
    beside: Window | None = None
    lost: int = 0

    @property
    def length(self) -> int:
        """The positions it counts for in a batch."""
        return (self.positions or len(self.values)) + (self.beside.length if self.beside is not None else 0)

    def __len__(self) -> int:
        return self.length


@dataclass(frozen=True)
class Item:
    """An encoded example: its windows, and the targets to learn.

    Args:
        windows: one or more.
        targets: () a label or a number for the example; (L) the share of each label, as floats; (W 2) a first and a
            last position in each window; (T) a label for each token of all windows, -1 = none.
        places: what a task needs to interpret its predictions.
    """

    windows: tuple[Window, ...]
    targets: np.ndarray | None = None
    places: np.ndarray | None = None

    @property
    def length(self) -> int:
        """The positions of all windows."""
        return sum(window.length for window in self.windows)


def generator_of(seed: int, number: int, part: int = 0) -> np.random.Generator:
    """The generator of the changes of a batch; that of the order has the same key, and the counter 0."""
    return np.random.Generator(np.random.Philox(key=(seed, number), counter=(0, 0, part, 1)))


Change = Callable[[list[Item], np.random.Generator], list[Item]]
"""What is done to the examples of a training batch each time it is drawn: a pure function of its arguments."""


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
    head, split, lost = np.array(template.before, dtype=np.int32), 0, 0
    after = np.array(template.after, dtype=np.int32)
    if second is not None:
        room = config.length - len(head) - len(template.between) - len(after)
        kept = room // 2 if windows else max(room // 2, room - len(second))
        lost = max(0, len(text) - kept)
        head, text = np.concatenate((head, text[:kept], template.between)).astype(np.int32), second
        split = len(head)
    room = config.length - len(head) - len(after)
    lost += 0 if windows else max(0, len(text) - room)
    starts = starts_of(len(text), room, config.stride) if windows else (0,)
    rows = [np.concatenate((head, text[first : first + room], after)).astype(np.int32) for first in starts]
    return tuple(
        Window(ids, sys.maxsize if second is None else split, first, template.segments, lost=lost)
        for ids, first in zip(rows, starts, strict=True)
    )


def starts_of(length: int, room: int, stride: int) -> Sequence[int]:
    """Where windows of `room` positions begin that cover a sequence; `stride`: see TextBatchConfig."""
    apart = min(stride or max(1, room // 2), room)
    return range(0, length - room + apart, apart) if length > room else (0,)


Row = np.ndarray | Window
"""What a model reads of an example: the ids of a text, or a window of any modality."""


def inputs_of(rows: Sequence[Row]) -> Inputs:
    """The inputs of a batch, of the modalities of its windows; what has an axis of time is padded on the right."""
    windows = [row if isinstance(row, Window) else Window(row) for row in rows]
    if beside := [w.beside for w in windows if w.beside is not None]:
        alone = inputs_of([replace(w, beside=None) for w in windows])
        return Inputs({**alone.modalities, **inputs_of(beside).modalities})
    name = windows[0].modality
    values = [w.values if w.scale is None else w.scale(w.values) for w in windows]
    if name == "image":
        return Inputs.image(torch.from_numpy(np.stack(values)))
    padded, mask = pad(values)
    segments = None
    if any(w.segments and w.second < len(w.values) for w in windows):
        seconds = torch.tensor([w.second for w in windows])
        segments = (torch.arange(padded.shape[1]) >= seconds[:, None]).long()
    return Inputs({name: Modality(padded, mask, segments)})


def collate(items: Sequence[Item], rows: Sequence[int] = (), number: int = 0) -> ReadingBatch:
    """A batch of encoded examples, all with targets or all without."""
    windows = [w for item in items for w in item.windows]
    owner = targets = None
    if len(windows) > len(items):
        owner = torch.repeat_interleave(torch.tensor([len(item.windows) for item in items]))
    if labels := [item.targets for item in items if item.targets is not None]:
        targets, tokens = _targets(labels, windows)
    else:
        tokens = len(items)
    return ReadingBatch(inputs_of(windows), targets, owner, tokens, tuple(rows), number)


def _targets(labels: list[np.ndarray], windows: list[Window]) -> tuple[torch.Tensor, int]:
    if labels[0].ndim == 0 or labels[0].dtype.kind == "f":
        return torch.from_numpy(np.stack(labels)), len(labels)
    if labels[0].ndim == 2:
        return torch.from_numpy(np.concatenate(labels)), len(windows)
    lengths = np.array([w.length for w in windows])
    rows = np.full((len(windows), lengths.max()), -1, dtype=np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = np.concatenate(labels)
    return torch.from_numpy(rows), int((rows >= 0).sum())


class ItemBatches:
    """The endless sequence of batches of encoded examples, by number; see Order. `change`: see Change."""

    def __init__(self, items: Sequence[Item], config: BatchConfig, seed: int, change: Change | None = None) -> None:
        self.items, self.change = items, change
        lengths = np.array([item.length for item in items])
        self.order = Order(lambda epoch: (lengths,), config, seed)
        self.per_epoch = self.order.per_epoch

    def __call__(self, number: int) -> ReadingBatch:
        """Batch `number` of the endless sequence."""
        part = self.order.part(number)
        items = [self.items[i] for i in part]
        if self.change is not None:
            items = self.change(items, generator_of(self.order.seed, number))
        return collate(items, part.tolist(), number)


def by_length(items: Sequence[Item], tokens: int) -> Iterator[list[int]]:
    """The indices of all items in groups of similar length, each of at most `tokens` tokens with padding."""
    sizes = [(max(w.length for w in item.windows), len(item.windows)) for item in items]
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
