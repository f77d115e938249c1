"""Objectives of models that read whole texts or images: labels, numbers, labels of words, spans, masked tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.data.batches.batch import ReadingBatch
from seqloom.limits import Bounded, ShareBelowOne, Weight
from seqloom.models.assemblies import TextReader
from seqloom.models.encoder import EncoderOnly
from seqloom.nn.heads import MaskedTokenHead
from seqloom.nn.memory import Memory
from seqloom.objectives.cross_entropy import Loss, passes_loss, vocabulary_loss
from seqloom.shapes import Float, Tensor


@dataclass(frozen=True)
class Labels(Bounded):
    """Cross-entropy of a label: of a text, of each word, or of the first and last position of a span.

    Args:
        smoothing: the share of the target probability spread evenly over all labels.
        r_drop: the weight of the divergence between two passes with different dropout (Liang et al. 2021); 0 = off.
    """

    kind: ClassVar[str] = "labels"
    smoothing: ShareBelowOne = 0.0
    r_drop: Weight = 0.0

    def __call__(self, model: TextReader, batch: ReadingBatch) -> Loss:
        """The loss summed over the batch's labels; that of a span is the mean of its two positions."""
        assert batch.targets is not None
        (head,) = model.heads
        shared = batch.targets.is_floating_point()
        targets = batch.targets if shared else batch.targets.flatten().long()
        real = torch.full((len(targets),), True, device=targets.device) if shared else targets != -1
        passes = [_flat_scores(model, head, batch)[real] for _ in range(2 if self.r_drop > 0 and model.training else 1)]
        value, nll = passes_loss(passes, targets[real], self.smoothing, self.r_drop)
        share = 0.5 if head == "span" else 1.0
        return Loss(share * value, share * nll, batch.tokens)


@dataclass(frozen=True)
class Numbers:
    """The squared difference from a number, in units of the training data's standard deviation."""

    kind: ClassVar[str] = "numbers"

    def __call__(self, model: TextReader, batch: ReadingBatch) -> Loss:
        """The loss summed over the batch's texts."""
        assert batch.targets is not None
        value = (batch_scores(model, "label", batch)[:, 0].float() - batch.targets.float()).square().sum()
        return Loss(value, float(value.detach()), batch.tokens)


@dataclass(frozen=True)
class MaskedTokens(Bounded):
    """Cross-entropy of the masked tokens (Devlin et al. 2019), and of whether a second text follows the first.

    Args:
        next_weight: the weight of a pair's loss, where there are pairs, relative to that of a masked token.
    """

    kind: ClassVar[str] = "masked-tokens"
    next_weight: Weight = 1.0

    def __call__(self, model: EncoderOnly, batch: ReadingBatch) -> Loss:
        """The loss summed over the masked tokens; the mean over the pairs is added to their mean."""
        memory = model(batch.inputs)
        value, nll = self.tokens(model, memory, batch)
        if batch.pairs is not None:
            value = value + self.next_weight * batch.tokens * F.cross_entropy(
                model.score("next", memory).float(), batch.pairs
            )
        return Loss(value, nll, batch.tokens)

    def tokens(self, model: EncoderOnly, memory: Memory, batch: ReadingBatch) -> tuple[Tensor, float]:
        """The summed loss of the masked tokens alone, and the same as a number."""
        hidden, targets = masked(memory, batch)
        head = model.heads["masked"]
        assert isinstance(head, MaskedTokenHead)
        return vocabulary_loss(head, hidden, targets, 0.0)


def masked(memory: Memory, batch: ReadingBatch) -> tuple[Float[Tensor, "N D"], Tensor]:
    """The states of the masked tokens, and the tokens."""
    assert batch.targets is not None
    at = (batch.targets.flatten() >= 0).nonzero().squeeze(1)
    return memory.states.flatten(0, 1).index_select(0, at), batch.targets.flatten().index_select(0, at)


def _flat_scores(model: TextReader, head: str, batch: ReadingBatch) -> Float[Tensor, "N L"]:
    scores = batch_scores(model, head, batch).float()
    return (scores.transpose(1, 2) if head == "span" else scores).flatten(0, -2)


def batch_scores(model: TextReader, head: str, batch: ReadingBatch) -> Tensor:
    """The scores of a head: (B L) of texts, whose windows' pooled vectors are averaged, or (R T L) of tokens."""
    return memory_scores(model, head, model(batch.inputs), batch)


def memory_scores(model: TextReader, head: str, memory: Memory, batch: ReadingBatch) -> Tensor:
    """The same from the memory of the batch.

    A span cannot lie in padding or in the first text of a pair, except at the very first position.
    """
    scores = model.score(head, memory, batch.owner)
    if head != "span" or (text := batch.inputs["text"]).segments is None:
        return scores
    passage = text.segments == 1 if text.mask is None else (text.segments == 1) & text.mask
    passage[:, 0] = True
    return scores.float().masked_fill(~passage[:, :, None], -1e9)
