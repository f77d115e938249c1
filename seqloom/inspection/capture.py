"""Attention weights of a running model, without a change to what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from seqloom.nn.attention import observed
from seqloom.shapes import Float, Tensor


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
