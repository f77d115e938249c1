"""The state a decoder carries from step to step, with the same operations for every decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from seqloom.errors import UsageError
from seqloom.shapes import Int, Tensor


@dataclass(frozen=True)
class State(ABC):
    """A decoder's record of the positions decoded so far; it is passed in and returned, never kept on a module.

    Unless a class overrides this, positions are merged in what it carries, and none can be removed again.

    Args:
        length: the number of positions decoded so far.
    """

    keeps_positions: ClassVar[bool] = False
    """Whether positions are kept apart, so that the state can go back and skip padding."""

    length: int

    @abstractmethod
    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> State:
        """The state of the given rows; `sentences` = the memory rows they belong to. None = all, unchanged."""

    def back(self, positions: int) -> State:
        """The state `positions` steps earlier. Raises UsageError where positions are not kept."""
        if positions:
            raise UsageError("this decoder cannot go back to an earlier position", cure="use a Transformer decoder")
        return self

    def padded(self, padding: Int[Tensor, " R"] | None) -> State:
        """The state that ignores the first `padding` positions of each row; None = no padding.

        Raises UsageError where positions are not kept.
        """
        if padding is not None:
            raise UsageError("this decoder cannot read padded rows", cure="decode rows of one length at a time")
        return self

    @abstractmethod
    def apart(self, documents: Int[Tensor, "R T"] | None) -> State:
        """The state for reading positions of several documents per row, given the document of each; None = one per row.

        No document sees another one: each begins with this state. They are numbered from 0; document 0 continues what
        is carried (see `carrying`), any other that a row begins with does not.
        """

    @property
    def carried(self) -> dict[str, Tensor]:
        """What is carried to the next segment of a text, without gradients; see `carrying`.

        Attention to positions and windows of them start over with each segment.
        """
        return {}

    def carrying(self, carried: Mapping[str, Tensor]) -> State:
        """The state that starts from what another one carried."""
        fields: Mapping[str, Any] = carried
        return replace(self, **fields)
