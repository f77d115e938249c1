"""The batches that a training step receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from seqloom.nn.embedders import Inputs
from seqloom.shapes import Bool, Int, Tensor

_B = TypeVar("_B")


class Movable:
    """A batch that can be moved to a device."""

    def to(self: _B, device: torch.device) -> _B:
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        parts = {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor | Inputs)}
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in parts.items()}
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class SequenceBatch(Movable):
    """Sources and targets of one batch, padded on the right with id 0.

    Args:
        inputs: the sources; each ends with the end-of-sentence token.
        target_in: begins with the start token; `target_out` is the same, one token later, up to end-of-sentence.
        target_mask: True where `target_out` is not padding; None = everywhere.
        tokens: the number of tokens of `target_out`, without padding.
        rows: the indices of the pairs in the corpus, for messages.
        number: the index of the batch in the endless sequence.
    """

    inputs: Inputs
    target_in: Int[Tensor, "B T"]
    target_out: Int[Tensor, "B T"]
    target_mask: Bool[Tensor, "B T"] | None
    tokens: int
    rows: tuple[int, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class StreamBatch(Movable):
    """Some pieces of a running text.

    Args:
        inputs: the tokens read; their segments are the documents of a row, None = each row is one document.
        targets: the token after each; -1 where there is none to learn.
        reset: whether the lanes begin here, with a new state; otherwise each continues the previous batch.
        tokens: the number of targets.
        rows: the line in which each piece begins, from 0, for messages.
    """

    inputs: Inputs
    targets: Int[Tensor, "B T"]
    reset: bool
    tokens: int
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReadingBatch(Movable):
    """Texts, images or signals that are read whole, padded on the right with 0.

    Args:
        inputs: R windows, usually one per text; their segments are the texts of a pair.
        targets: (B) for each text, (B L) shares of labels, as floats, (R T) for each token, with -1 = none, (R 2)
            first and last position in each window, or (R T C) the frame after each, with NaN = none.
        owner: the index of the text that each window belongs to; None = each window is a text.
        tokens: the number of targets.
        rows: the indices of the texts in the corpus, for messages.
        number: the index of the batch in the endless sequence.
        pairs: for each pair, whether the second text continues the first.
    """

    inputs: Inputs
    targets: Tensor | None
    owner: Int[Tensor, " R"] | None
    tokens: int
    rows: tuple[int, ...] = ()
    number: int = 0
    pairs: Int[Tensor, " R"] | None = None


def pad(rows: Sequence[np.ndarray]) -> tuple[Tensor, Bool[Tensor, "B T"] | None]:
    """Rows of ids (T), or of vectors (T C), as one tensor, and the mask of all that is not padding.

    The mask is None if all rows have the same length.
    """
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    values = np.concatenate(rows)
    padded = np.zeros((len(rows), width, *values.shape[1:]), dtype=np.float32 if values.dtype.kind == "f" else np.int64)
    padded[mask] = values
    return torch.from_numpy(padded), None if mask.all() else torch.from_numpy(mask)
