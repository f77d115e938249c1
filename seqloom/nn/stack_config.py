"""The common base of all encoder and decoder configs."""

from __future__ import annotations

from seqloom.nn.positions import Learned


class StackConfig:
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

    def require(self, counts: tuple[str, ...], shares: tuple[str, ...] = ("dropout",)) -> None:
        """Raises ValueError unless the fields `counts` are at least 1 and the fields `shares` in [0, 1)."""
        if min(getattr(self, name) for name in counts) < 1:
            raise ValueError(f"{', '.join(counts)} must be at least 1")
        for name in shares:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
