"""The next frame of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seqloom.data.batches.batch import ReadingBatch
from seqloom.models.decoder import LanguageModel
from seqloom.nn.heads import changed
from seqloom.objectives.cross_entropy import Loss


@dataclass(frozen=True)
class NextFrame:
    """The squared error of each next frame, of standardized values; missing ones do not count.

    The head gives the change of each channel since its last value.
    """

    kind: ClassVar[str] = "next-frame"

    def __call__(self, model: LanguageModel, batch: ReadingBatch) -> Loss:
        """The loss summed over the values of the batch."""
        assert batch.targets is not None
        hidden, _ = model(batch.inputs)  # no real frame looks ahead to padding
        predicted = changed(batch.inputs["signal"].values, model.head(hidden))
        value = (predicted - batch.targets)[~batch.targets.isnan()].square().sum()
        return Loss(value, float(value.detach()), batch.tokens)
