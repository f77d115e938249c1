"""What the configs of all encoders and decoders have in common."""

from __future__ import annotations

from seqloom.nn.positions import Learned


class StackConfig:
    """Sizes that the assembly of a model asks for. A stack whose inputs or states are of another width overrides."""

    width: int

    def input_width(self, embedding: int) -> int:
        """How wide the embedded words are to be, where their table has width `embedding` (0 = not given)."""
        return self.width

    @property
    def memory_width(self) -> int:
        """Features of a state."""
        return self.width

    @property
    def limit(self) -> int | None:
        """The longest sequence there are positions for; None = no end."""
        positions = getattr(self, "positions", None)
        return positions.length if isinstance(positions, Learned) else None

    def require(self, counts: tuple[str, ...], shares: tuple[str, ...] = ("dropout",)) -> None:
        """Raises ValueError unless the fields `counts` are at least 1 and `shares` in [0, 1)."""
        if min(getattr(self, name) for name in counts) < 1:
            raise ValueError(f"{', '.join(counts)} must be at least 1")
        for name in shares:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
