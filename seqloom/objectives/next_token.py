"""The next token of a running text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from seqloom.data.batches.batch import StreamBatch
from seqloom.limits import Bounded, ShareBelowOne
from seqloom.models.decoder import LanguageModel
from seqloom.objectives.cross_entropy import Loss, vocabulary_loss
from seqloom.shapes import Tensor


@dataclass(frozen=True)
class NextToken(Bounded):
    """Cross-entropy of each next token; a recurrent state is carried from batch to batch, its gradients are not.

    This is truncated back-propagation through time (Williams and Peng 1990).

    Args:
        smoothing: the share of the target probability spread evenly over all tokens.
    """

    kind: ClassVar[str] = "next-token"
    smoothing: ShareBelowOne = 0.0

    def __call__(self, model: LanguageModel, batch: StreamBatch, carry: Mapping[str, Tensor] | None = None) -> Loss:
        """The loss summed over the batch's tokens; `carry` is that of the batch before it."""
        hidden, after = model(batch.inputs, None if batch.reset else carry)
        hidden, targets = hidden.flatten(0, 1), batch.targets.flatten()
        if batch.tokens < len(targets):
            real = (targets >= 0).nonzero().squeeze(1)
            hidden, targets = hidden.index_select(0, real), targets.index_select(0, real)
        value, nll = vocabulary_loss(model.head, hidden, targets, self.smoothing)
        return Loss(value, nll, batch.tokens, after)
