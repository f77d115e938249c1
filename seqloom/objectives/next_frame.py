"""The next frame of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.limits import Bounded, LengthOrZero
from seqloom.models.decoder import LanguageModel
from seqloom.nn.heads import changed
from seqloom.objectives.cross_entropy import Loss
from seqloom.shapes import Float, Tensor


@dataclass(frozen=True)
class NextFrame(Bounded):
    """The squared error of each next frame, of standardized values; missing ones do not count.

    The head gives the change of each channel since its last value.

    Args:
        free_running: in training the last so many frames of a batch are predicted from predictions, as in use, and not
            from what came.
    """

    kind: ClassVar[str] = "next-frame"
    free_running: LengthOrZero = 8

    def __call__(self, model: LanguageModel, batch: ReadingBatch) -> Loss:
        """The loss summed over the values of the batch."""
        assert batch.targets is not None
        frames, there = batch.inputs["signal"].values, ~batch.targets.isnan()
        forced = frames.shape[1] - min(self.free_running, frames.shape[1] - 1) * model.training
        value = (_predicted(model, frames, forced) - batch.targets)[there].square().sum()
        return Loss(value, float(value.detach()), batch.tokens)


def _predicted(model: LanguageModel, frames: Float[Tensor, "B T C"], forced: int) -> Float[Tensor, "B T C"]:
    """The frame after each one, of which only the first `forced` are read as they came; none looks ahead."""
    T, read = frames.shape[1], frames[:, :forced]
    hidden, state = model.decode(read, model.start(keep=forced < T))
    found = [changed(read, model.head(hidden))]
    for _ in range(T - forced):
        hidden, state = model.decode(found[-1][:, -1:], state)
        found.append(changed(found[-1], model.head(hidden)))
    return torch.cat(found, 1)
