"""The next frame of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.limits import Bounded, Weight
from seqloom.models.decoder import LanguageModel
from seqloom.nn.embedders import Inputs
from seqloom.objectives.cross_entropy import Loss


@dataclass(frozen=True)
class NextFrame(Bounded):
    """The squared error of each next frame, of standardized values; missing ones do not count.

    Args:
        noise: the deviation of what is added to the frames read in training, in units of that of the data: a model that
            later reads its own predictions learns to correct their errors.
    """

    kind: ClassVar[str] = "next-frame"
    noise: Weight = 0.0

    def __call__(self, model: LanguageModel, batch: ReadingBatch) -> Loss:
        """The loss summed over the values of the batch."""
        assert batch.targets is not None
        frames = batch.inputs["signal"].values
        if self.noise and model.training:
            frames = frames + self.noise * torch.randn_like(frames)
        hidden, _ = model(Inputs.signal(frames))  # no real frame looks ahead to padding
        value = (model.head(hidden).float() - batch.targets)[~batch.targets.isnan()].square().sum()
        return Loss(value, float(value.detach()), batch.tokens)
