"""What a decoder carries from step to step, and what may be asked of it, whichever decoder it is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from seqloom.errors import UsageError
from seqloom.shapes import Int, Tensor


@dataclass(frozen=True)
class State(ABC):
    """The positions decoded so far, as a decoder remembers them; it is passed in and returned, never kept.

    Unless a class says otherwise, its positions have become one in what it carries: none can be taken out again.

    Args:
        length: the positions decoded so far.
    """

    keeps_positions: ClassVar[bool] = False
    """Whether each position stays by itself, so that the state can go back, and leave padding out."""

    length: int

    @abstractmethod
    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> State:
        """The state of the given rows; `sentences` = the rows of the memory they belong to, None = all as before."""

    def back(self, positions: int) -> State:
        """The state so many positions before. Raises UsageError where positions are not kept."""
        if positions:
            raise UsageError("the decoder cannot forget what it has read", cure="use a Transformer decoder")
        return self

    def padded(self, padding: Int[Tensor, " R"] | None) -> State:
        """The state that leaves so many first positions of each row out; None = none of any row.

        Raises UsageError where positions are not kept.
        """
        if padding is not None:
            raise UsageError("the decoder reads no padding", cure="decode rows of one length at a time")
        return self

    def apart(self, documents: Int[Tensor, "R T"] | None) -> State:
        """The state for the positions read next, given which document of its row each belongs to; None = one a row.

        What attends keeps to each position's own document; what is carried is carried over from one to the next.
        """
        return self

    @property
    def carried(self) -> dict[str, Tensor]:
        """What goes on to the next piece of a text, cut off from its gradients; see `carrying`.

        What attends to positions, or looks at windows of them, begins anew with each piece.
        """
        return {}

    def carrying(self, carried: Mapping[str, Tensor]) -> State:
        """The state that begins with what another one carried."""
        fields: Mapping[str, Any] = carried
        return replace(self, **fields)
