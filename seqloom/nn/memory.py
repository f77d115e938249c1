"""The memory: what an encoder passes to a decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seqloom.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class Memory:
    """The encoder's output.

    Args:
        states: one vector per position.
        mask: True on real positions; None = all are real.
        summary: one vector per sequence, the "context vector".
    """

    states: Float[Tensor, "B S D"]
    mask: Bool[Tensor, "B S"] | None
    summary: Float[Tensor, "B M"]

    def select(self, rows: Int[Tensor, " B2"]) -> Memory:
        """The memory of the given sequences, in their order."""
        mask = None if self.mask is None else self.mask[rows]
        return Memory(self.states[rows], mask, self.summary[rows])

    def concat(self, *others: Memory) -> Memory:
        """This memory followed, position after position, by those of other encoders; the summaries are averaged.

        Raises ValueError for memories of unequal width.
        """
        parts = (self, *others)
        if len({(p.states.shape[2], p.summary.shape[1]) for p in parts}) > 1:
            raise ValueError("memories of unequal width cannot be joined: project them first (models.inputs.Join)")
        masks = [p.states.new_ones(p.states.shape[:2], dtype=torch.bool) if p.mask is None else p.mask for p in parts]
        summary = torch.stack([p.summary for p in parts]).mean(0)
        return Memory(torch.cat([p.states for p in parts], 1), torch.cat(masks, 1), summary)


def mean_summary(states: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"] | None) -> Float[Tensor, "B D"]:
    """The mean of the states at real positions; 0 where there are none."""
    if mask is None:
        return states.mean(1)
    weights = mask.to(states.dtype)
    return torch.einsum("bsd,bs->bd", states, weights) / weights.sum(1, keepdim=True).clamp(min=1)
