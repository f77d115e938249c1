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
    """The N = `steps` frames after those of each row.

    `predicted`: (the outputs of the head for the last frame, all frames that were read) -> the next one.
    """
    engine.model.eval()
    window, new, found = engine.begun(frames), frames, list[Tensor]()
    for _ in range(steps):
        hidden, window = engine.read(new, window)
        new = predicted(engine.model.head(hidden[:, -1:]), window.values)
        found.append(new)
    return torch.cat(found, 1)
