"""The common base of all encoder and decoder configs."""

from __future__ import annotations

from seqloom.limits import Bounded
from seqloom.nn.positions import Learned


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
