"""The next frame of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.limits import Bounded, LengthOrZero
from seqloom.models.decoder import LanguageModel
from seqloom.objectives.cross_entropy import Loss
from seqloom.shapes import Float, Tensor


@dataclass(frozen=True)
class NextFrame(Bounded):
    """The squared error of each next frame, of standardized values; missing ones do not count.

    The head gives the change of each channel since its last value.

    Args:
        difference: whether such changes are read, too, and not the values: where levels differ from series to series
            and say nothing. A level is then the sum of its changes, and cannot be returned to.
        free_running: in training the last so many frames of a batch are predicted from predictions, as in use, and not
            from what came; their errors are those of the values, not of single changes.
    """

    kind: ClassVar[str] = "next-frame"
    difference: bool = False
    free_running: LengthOrZero = 8

    def __call__(self, model: LanguageModel, batch: ReadingBatch) -> Loss:
        """The loss summed over the values of the batch."""
        assert batch.targets is not None
        frames, there = batch.inputs["signal"].values, ~batch.targets.isnan()
        forced = frames.shape[1] - min(self.free_running, frames.shape[1] - 1) * model.training
        errors = self._predicted(model, frames, forced) - batch.targets.nan_to_num(nan=0.0)
        if self.difference:  # the error of a value is the sum of those of all changes since the last one that came
            errors = torch.cat((errors[:, : forced - 1], errors[:, forced - 1 :].cumsum(1)), 1)
        value = errors[there].square().sum()
        return Loss(value, float(value.detach()), batch.tokens)

    def _predicted(self, model: LanguageModel, frames: Float[Tensor, "B T C"], forced: int) -> Float[Tensor, "B T C"]:
        """The frame after each one, of which only the first `forced` are read as they came; none looks ahead."""
        T, read = frames.shape[1], frames[:, :forced]
        hidden, state = model.decode(read, model.start(keep=forced < T))
        found = [self.frames(model.head(hidden), read)]
        for _ in range(T - forced):
            hidden, state = model.decode(found[-1][:, -1:], state)
            found.append(self.frames(model.head(hidden), found[-1]))
        return torch.cat(found, 1)

    def frames(self, outputs: Float[Tensor, "B N C"], read: Float[Tensor, "B T C"]) -> Float[Tensor, "B N C"]:
        """The frame after each of the last N that were read, from the outputs of the head."""
        outputs = outputs.to(read.dtype)
        return outputs if self.difference else outputs + last_values(read)[:, -outputs.shape[1] :]


def last_values(frames: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
    """The last value of each channel that is not missing; 0, the mean, before the first."""
    steps = torch.arange(frames.shape[1], device=frames.device)[:, None]
    last = torch.where(frames.isnan(), 0, steps).cummax(1).values
    return frames.gather(1, last).nan_to_num(nan=0.0)
