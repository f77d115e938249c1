"""Decoding with a language model of frames: each predicted frame is read as the next one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from seqloom.decoding.engine import Engine
from seqloom.shapes import Float, Tensor


@torch.inference_mode()
def continued(
    engine: Engine, frames: Float[Tensor, "R T C"], steps: int, predicted: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "R N C"]:
    """The next N frames.

    Args:
        engine: reads the frames; see Engine.
        frames: those that have come.
        steps: N.
        predicted: (outputs of the head for the last frames, all frames read) -> the next frames.
    """
    engine.model.eval()
    window, new, found = engine.begun(frames), frames, list[Tensor]()
    for _ in range(steps):
        hidden, window = engine.read(new, window)
        new = predicted(engine.model.head(hidden[:, -1:]), window.values)
        found.append(new)
    return torch.cat(found, 1)
