"""Attention weights of a running model, without a change to what it computes; and how spread out they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from seqloom.nn.attention import observed
from seqloom.shapes import Bool, Float, Int, Tensor


@contextmanager
def captured(model: nn.Module) -> Iterator[dict[str, list[Float[Tensor, "B H T S"]]]]:
    """Within it, the weights of each attention layer by the layer's name, one entry a call; on the CPU in float32."""
    names = {module: name for name, module in model.named_modules()}
    found: dict[str, list[Tensor]] = {}

    def note(layer: nn.Module, weights: Tensor) -> None:
        if (name := names.get(layer)) is not None:
            found.setdefault(name, []).append(weights.detach().float().cpu())

    with observed(note):
        yield found


def entropies(
    weights: Float[Tensor, "B H T S"], mask: Bool[Tensor, "B T"], visible: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "N H"], Float[Tensor, " N"]]:
    """The entropy in nats of each real query's weights by head, and the most it can be: log of how many are visible.

    Weights that do not add up to one (a local window's bell) are scaled to. Queries that see one position are left out.
    """
    p = weights / weights.sum(-1, keepdim=True)
    chosen = mask & (visible > 1)
    entropy = -(p * p.clamp(min=1e-30).log()).sum(-1).transpose(1, 2)  # B T H
    return entropy[chosen], visible[chosen].float().log()
