"""Parallel text in memory: the form in which every reader and generator hands its sentences on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with where each one came from.

    Args:
        sources: one sentence a pair.
        targets: its translation; as many as `sources`.
        files: the file of each side (the same one twice for TSV and the like), for messages.
        lines: the line of each pair in its file, from 1; empty means pair i stands on line i + 1.
        kinds: what sort of phrase each pair is, where the reader knows ("date", "money", ...); else empty.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    files: tuple[str, str] = ("", "")
    lines: Sequence[int] = field(default=(), repr=False)
    kinds: Sequence[str] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.sources)

    def line(self, index: int) -> int:
        """The line of pair `index` in its file, from 1."""
        return self.lines[index] if self.lines else index + 1

    def digest(self) -> str:
        """SHA-256 over both sides; equal digests mean equal sentences in equal order."""
        sha = hashlib.sha256()
        for source, target in zip(self.sources, self.targets, strict=True):
            sha.update(f"{source}\x00{target}\x01".encode())
        return sha.hexdigest()


@dataclass(frozen=True)
class Fresh:
    """Training pairs that are drawn anew for each epoch.

    Args:
        draw: the pairs of an epoch: a pure function of its number, and as many for each.
        longest: the epoch from which on the texts are as long as they get; the size of the batches goes by it.
    """

    draw: Callable[[int], Pairs]
    longest: int = 0


@dataclass(frozen=True)
class Splits:
    """A corpus cut for learning (`train`), choosing (`valid`) and the final measurement (`test`).

    Where training pairs are `fresh` in each epoch, `train` are those of its longest.
    """

    train: Pairs
    valid: Pairs
    test: Pairs | None = None
    fresh: Fresh | None = None
