"""The common base of the configs of all stacks; and the state a decoder carries from step to step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.errors import UsageError
from seqloom.limits import Bounded
from seqloom.nn.positions import Learned
from seqloom.shapes import Int, Tensor


class StackConfig(Bounded):
    """Sizes that model assembly asks for. A stack whose inputs or states have another width overrides them."""

    width: int

    def input_width(self, embedding: int) -> int:
        """The width of the embedded inputs, given the width of their table (0 = not given)."""
        return self.width

    @property
    def memory_width(self) -> int:
        """Features of a state."""
        return self.width

    @property
    def limit(self) -> int | None:
        """The longest sequence, in positions; None = no limit."""
        positions = getattr(self, "positions", None)
        return positions.length if isinstance(positions, Learned) else None


def chosen(part: Any, rows: Tensor | None) -> Any:
    """The given rows of a tensor, of what has a method `fork` or `select`, or of each of several; None = all."""
    if isinstance(part, tuple):
        return tuple(chosen(each, rows) for each in part)
    if hasattr(part, "fork"):  # also with all rows: what is appended to one must not be in the other
        return part.fork(rows)
    if part is None or rows is None:
        return part
    return part.index_select(0, rows) if isinstance(part, Tensor) else part.select(rows)


def together(parts: Sequence[Any]) -> Any:
    """The rows of several parts of a kind: of tensors, of what has a method `joined`, or of tuples of these."""
    first = parts[0]
    if isinstance(first, tuple):
        return tuple(together(each) for each in zip(*parts, strict=True))
    if first is None:
        return None
    return stacked(parts) if isinstance(first, Tensor) else first.joined(*parts[1:])


def stacked(parts: Sequence[Tensor], fill: int | float = 0, *, left: bool = False) -> Tensor:
    """The rows of several tensors, their last dimension filled up at its end, or at its beginning."""
    if parts[0].ndim > 1:
        width = max(part.shape[-1] for part in parts)
        missing = [width - part.shape[-1] for part in parts]
        parts = [F.pad(p, (n, 0) if left else (0, n), value=fill) for p, n in zip(parts, missing, strict=True)]
    return torch.cat([*parts])


def padding_together(parts: Sequence[Any], rows: Sequence[Tensor]) -> Int[Tensor, " R"] | None:
    """The padding of states whose last positions come together; `rows`: of each a tensor with as many rows."""
    length, each = max(part.length for part in parts), list[Tensor]()
    for part, tensor in zip(parts, rows, strict=True):
        own = torch.zeros(len(tensor), dtype=torch.long, device=tensor.device) if part.padding is None else part.padding
        each.append(own + (length - part.length))
    padding = torch.cat(each)
    return padding if bool(padding.any()) else None


def places_after(state: Any, count: int) -> Int[Tensor, "R T"] | None:
    """The positions in their rows of the next `count` tokens; None = those after the state's length."""
    if state.padding is None:
        return None
    padding: Tensor = state.padding
    now = torch.arange(state.length, state.length + count, device=padding.device)
    return (now - padding[:, None]).clamp(min=0)


@dataclass(frozen=True)
class State(ABC):
    """A decoder's record of the positions decoded so far; it is passed in and returned, never kept on a module.

    Unless a class overrides this, positions are merged in what it carries, and none can be removed again.

    Args:
        length: the number of positions decoded so far.
    """

    keeps_positions: ClassVar[bool] = False
    """Whether positions are kept apart, so that the state can go back and skip padding."""
    of_rows: ClassVar[tuple[str, ...]] = ()
    """The fields with R rows, one for each hypothesis."""
    of_sentences: ClassVar[tuple[str, ...]] = ()
    """The fields with B rows, one for each row of the memory."""

    length: int

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> State:
        """The state of the given rows; `sentences` = the memory rows they belong to. None = all, unchanged."""
        both = ((self.of_rows, rows), (self.of_sentences, sentences))
        return replace(self, **{name: chosen(getattr(self, name), at) for names, at in both for name in names})

    def joined(self, *others: State) -> State:
        """The state of the rows of this one and then of others of its kind, all of which have read something."""
        parts = (self, *others)
        fields = {n: together([getattr(part, n) for part in parts]) for n in (*self.of_rows, *self.of_sentences)}
        return replace(self, length=max(part.length for part in parts), **fields)

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
