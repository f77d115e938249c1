"""What a step of training sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from seqloom.shapes import Bool, Int, Tensor

_B = TypeVar("_B")


class _Movable:
    def to(self: _B, device: torch.device) -> _B:
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in tensors.items()}
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class SequenceBatch(_Movable):
    """Sources and targets of one batch, padded on the right with id 0.

    Args:
        source: ids; ends with the end-of-sentence token.
        source_mask: True on real positions; None = there is no padding.
        target_in: begins with the start token; `target_out` is the same, one word later, up to end-of-sentence.
        target_mask: True where `target_out` is real; None = everywhere.
        tokens: the number of real tokens of `target_out`.
        rows: which pairs of the corpus these are, for messages.
        number: which batch of the endless sequence this is.
    """

    source: Int[Tensor, "B S"]
    source_mask: Bool[Tensor, "B S"] | None
    target_in: Int[Tensor, "B T"]
    target_out: Int[Tensor, "B T"]
    target_mask: Bool[Tensor, "B T"] | None
    tokens: int
    rows: tuple[int, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class StreamBatch(_Movable):
    """Some pieces of a running text.

    Args:
        ids: the words read.
        targets: the word after each; -1 where there is none to be learned.
        anew: whether the lanes begin; else each goes on where the last batch ended.
        tokens: how many targets there are.
        rows: the line each piece begins in, from 0, for messages.
        documents: which document of its row each word read belongs to, from 0; None = each row is one.
    """

    ids: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    anew: bool
    tokens: int
    rows: tuple[int, ...] = ()
    documents: Int[Tensor, "B T"] | None = None


@dataclass(frozen=True)
class ReadingBatch(_Movable):
    """Texts that are read whole, padded on the right with id 0.

    Args:
        ids: R windows; most texts have one.
        mask: True on real positions; None = there is no padding.
        segments: 0 in the first text of a pair, 1 in the second; None = there is no pair.
        targets: what is to be learned: (B) of each text, (R T) of each word with -1 = nothing, or (R 2) first and last
            position in each window.
        owner: which text each window belongs to; None = each is one.
        tokens: how many targets there are.
        rows: which texts of the corpus these are, for messages.
        number: which batch of the endless sequence this is.
        pairs: whether the second text goes on from the first, of each pair.
    """

    ids: Int[Tensor, "R T"]
    mask: Bool[Tensor, "R T"] | None
    segments: Int[Tensor, "R T"] | None
    targets: Tensor | None
    owner: Int[Tensor, " R"] | None
    tokens: int
    rows: tuple[int, ...] = ()
    number: int = 0
    pairs: Int[Tensor, " R"] | None = None


def pad(rows: Sequence[np.ndarray]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"] | None]:
    """Rows of ids as one tensor, and the mask of the real ones (None where all rows have one length)."""
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    ids = np.zeros((len(rows), width), dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return torch.from_numpy(ids), None if mask.all() else torch.from_numpy(mask)
