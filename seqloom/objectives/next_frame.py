"""The next frame of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.models.decoder import LanguageModel
from seqloom.objectives.cross_entropy import Loss
from seqloom.shapes import Float, Tensor


@dataclass(frozen=True)
class NextFrame:
    """The squared error of each next frame, of standardized values; missing ones do not count.

    Args:
        predicts: what the head gives: the change of each channel since its last value, or the next value itself.
    """

    kind: ClassVar[str] = "next-frame"
    predicts: Literal["change", "value"] = "change"

    def __call__(self, model: LanguageModel, batch: ReadingBatch) -> Loss:
        """The loss summed over the values of the batch."""
        assert batch.targets is not None
        hidden, _ = model(batch.inputs)  # no real frame looks ahead to padding
        predicted = self.frames(model.head(hidden), batch.inputs["signal"].values)
        value = (predicted - batch.targets)[~batch.targets.isnan()].square().sum()
        return Loss(value, float(value.detach()), batch.tokens)

    def frames(self, outputs: Float[Tensor, "B N C"], read: Float[Tensor, "B T C"]) -> Float[Tensor, "B N C"]:
        """The next frame after each of the last N that were read, from the outputs of the head."""
        outputs = outputs.float()
        return outputs if self.predicts == "value" else outputs + last_values(read)[:, -outputs.shape[1] :]


def last_values(frames: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
    """The last value of each channel that is not missing; 0 where there is none."""
    steps = torch.arange(frames.shape[1], device=frames.device)[:, None]
    last = torch.where(frames.isnan(), -1, steps).cummax(1).values
    return frames.gather(1, last.clamp_min(0)).nan_to_num(nan=0.0)
