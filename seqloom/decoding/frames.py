"""Decoding with a language model of frames: each predicted frame is read as the next one."""

from __future__ import annotations

import torch

from seqloom.decoding.engine import Engine
from seqloom.nn.heads import changed
from seqloom.shapes import Float, Tensor


@torch.inference_mode()
def continued(engine: Engine, frames: Float[Tensor, "R T C"], steps: int) -> Float[Tensor, "R N C"]:
    """The N = `steps` frames after those of each row."""
    engine.model.eval()
    window, new, found = engine.begun(frames), frames, list[Tensor]()
    for _ in range(steps):
        hidden, window = engine.onward(new, window)
        new = changed(window.values, engine.model.head(hidden[:, -1:]))
        found.append(new)
    return torch.cat(found, 1)
