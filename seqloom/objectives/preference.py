"""Objectives of preferences: of two answers to a prompt, one is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.data.batches.batch import ReadingBatch
from seqloom.data.batches.preferences import PreferenceBatch
from seqloom.limits import Bounded, Bounds, Weight
from seqloom.models.assemblies import TextReader
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.embedders import Inputs
from seqloom.objectives.cross_entropy import Loss
from seqloom.shapes import Float, Int, Tensor

Beta = Annotated[float, Bounds(1e-6, 1000)]
Smoothing = Annotated[float, Bounds(0, 0.5, below=True)]


@dataclass(frozen=True)
class BradleyTerry(Bounded):
    """The reward of the better answer exceeds that of the worse one: -log sigmoid(r_c - r_r - margin).

    The model of Bradley and Terry (1952), as in Ouyang et al. (2022); with a margin as in Touvron et al. (2023).

    Args:
        margin: by how much, besides the margin of a pair in the data.
    """

    kind: ClassVar[str] = "bradley-terry"
    margin: Weight = 0.0

    def __call__(self, model: TextReader, batch: ReadingBatch) -> Loss:
        """The loss summed over the pairs, whose two windows stand side by side, the better one first."""
        assert batch.targets is not None
        rewards = model.score("label", model(batch.inputs)).float().view(-1, 2)
        difference = rewards[:, 0] - rewards[:, 1]
        value = -F.logsigmoid(difference - self.margin - batch.targets.float()).sum()
        return Loss(value, float(-F.logsigmoid(difference.detach()).sum()), batch.tokens)


@dataclass(frozen=True)
class _Direct(Bounded):
    """What the objectives of a model that is its own reward have in common: beta (log pi - log pi_ref).

    Args:
        beta: how much the reward counts against the distance from the reference: smaller = farther from it.
        normalize: "length" = the log-probability of an answer is divided by the number of its tokens.
    """

    beta: Beta = 0.1
    normalize: Literal["none", "length"] = "none"

    def losses(self, difference: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The loss of each pair, from the difference of the log-ratios log pi / pi_ref of its two answers."""
        raise NotImplementedError

    def log_ratios(self, model: LanguageModel | EncoderDecoder, batch: PreferenceBatch) -> Float[Tensor, "2 B"]:
        """log pi / pi_ref of the chosen answers, and of the rejected ones."""
        ratios = answer_log_p(model, batch) - batch.reference
        if self.normalize == "length":
            ratios = ratios / (batch.targets >= 0).sum(1)
        return ratios.view(2, -1)

    def __call__(self, model: LanguageModel | EncoderDecoder, batch: PreferenceBatch) -> Loss:
        """The loss summed over the pairs."""
        model.eval()  # without dropout: the model begins as its reference, and the ratio is of two distributions
        chosen, rejected = self.log_ratios(model, batch)
        difference = chosen - rejected
        nll = -F.logsigmoid(self.beta * difference.detach()).sum()
        return Loss(self.losses(difference).sum(), float(nll), batch.tokens)


@dataclass(frozen=True)
class DirectPreference(_Direct):
    """Direct preference optimization (Rafailov et al. 2023): the reward is beta log pi / pi_ref.

    Args:
        beta, normalize: as in every such objective: beta is the weight of the distance from the reference, and
            normalize = "length" divides the log-probability of an answer by the number of its tokens.
        smoothing: the probability that a preference is the wrong way round ("conservative DPO", Mitchell 2023).
    """

    kind: ClassVar[str] = "dpo"
    smoothing: Smoothing = 0.0

    def losses(self, difference: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """See _Direct."""
        margin = self.beta * difference
        return -(1 - self.smoothing) * F.logsigmoid(margin) - self.smoothing * F.logsigmoid(-margin)


@dataclass(frozen=True)
class IdentityPreference(_Direct):
    """Identity preference optimization (Azar et al. 2023, eq. 17): the difference of the log-ratios is 1 / (2 beta).

    Unlike DPO's, its loss does not push answers further apart without end where every pair has one winner.

    Args:
        beta, normalize: as for "dpo"; beta is the paper's tau.
    """

    kind: ClassVar[str] = "ipo"

    def losses(self, difference: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """See _Direct."""
        return (difference - 1 / (2 * self.beta)).square()


PreferenceObjective = DirectPreference | IdentityPreference


def answer_log_p(model: LanguageModel | EncoderDecoder, batch: PreferenceBatch) -> Float[Tensor, " R"]:
    """The log-probability of each answer, its end included, given its prompt."""
    hidden = predicting(model, batch.inputs, batch.targets, batch.target_in)
    chosen = chosen_log_p(model.head(hidden), batch.targets)
    return torch.zeros_like(batch.reference).index_add(0, (batch.targets >= 0).nonzero()[:, 0], chosen)


def predicting(
    model: LanguageModel | EncoderDecoder, inputs: Inputs, targets: Int[Tensor, "R T"], fed: Tensor | None
) -> Float[Tensor, "N D"]:
    """The hidden vectors that predict the N tokens of the targets; see `seqloom.data.batches.preferences.laid_out`."""
    hidden = model(inputs)[0] if fed is None else model(inputs, fed)
    at = (targets >= 0).nonzero()
    vectors: Tensor = hidden[at[:, 0], at[:, 1]]
    return vectors


def chosen_log_p(
    logits: Float[Tensor, "N V"], targets: Int[Tensor, "R T"], temperature: float = 1.0
) -> Float[Tensor, " N"]:
    """The log-probability of each of the N tokens of the targets."""
    log_p = (logits.float() / temperature).log_softmax(-1)
    return log_p.gather(1, targets[targets >= 0][:, None])[:, 0]
