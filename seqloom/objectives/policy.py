"""Objectives of rewards: a model answers prompts, and its better answers become more probable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from seqloom.limits import Bounded, Bounds, Share, Weight
from seqloom.objectives.preference import DirectPreference
from seqloom.shapes import Bool, Float, Tensor

Scores = dict[str, float]
Grid = Float[Tensor, "R T"]
"""A number for each token of each answer."""


@dataclass(frozen=True)
class Answers:
    """G answers to each of P prompts (R = P G), those to a prompt side by side.

    Args:
        mask: True on the tokens that the model chose, the end included.
        rewards: the reward of each.
        sampled, reference: the log-probability of each token when it was sampled, and by the reference.
        learned: whether an answer is learned.
        distinct: False for an answer that its prompt has already.
        group: G.
        values: what the critic expected before each token; only for `PPO`.
    """

    mask: Bool[Tensor, "R T"]
    rewards: Float[Tensor, " R"]
    sampled: Grid
    reference: Grid
    learned: Bool[Tensor, " R"]
    distinct: Bool[Tensor, " R"]
    group: int
    values: Grid | None = None

    @property
    def divergence(self) -> Grid:
        """log pi / pi_ref of each token: its sum over an answer estimates KL(pi || pi_ref) ("k1", Schulman 2020)."""
        return torch.where(self.mask, self.sampled - self.reference, 0.0)


@dataclass(frozen=True)
class _Policy(Bounded):
    """What the objectives of sampled answers have in common.

    Args:
        beta: the weight of the divergence from the reference.
        kl: where it counts: "reward" = each answer's reward is less by beta log pi / pi_ref, whose best policy is
            pi_ref exp(reward / beta) / Z; "loss" = beta (pi_ref / pi - 1 - log pi_ref / pi) is added for each token
            ("k3"), whose gradient is that of KL(pi_ref || pi), so that the best policy is another one.
        truncated: whether answers that reach the most tokens without an end are learned.
    """

    beta: Weight = 0.05
    kl: Literal["reward", "loss"] = "reward"
    truncated: Literal["learn", "mask"] = "learn"
    critic: ClassVar[bool] = False

    def totals(self, answers: Answers) -> Float[Tensor, " R"]:
        """The rewards, less beta times the divergence where that counts as a reward."""
        return answers.rewards - (self.beta if self.kl == "reward" else 0.0) * answers.divergence.sum(1)

    def loss(self, log_p: Grid, answers: Answers, values: Grid | None = None) -> tuple[Float[Tensor, ""], Scores]:
        """The loss summed over the answers, and scores.

        Args:
            log_p: the log-probabilities of the tokens now.
            answers: the answers, with those when they were sampled.
            values: what the critic expects now.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class _Gradient(_Policy):
    """The clipped policy gradient; the objectives differ in the advantage of an answer.

    Args:
        beta, kl, truncated: see the class before.
        clip: a ratio pi / pi_sampled beyond 1 +- clip has no gradient away from 1 (Schulman et al. 2017).
        weigh: "tokens" = all tokens of a batch alike; "answers" = all answers alike, so that a token of a short answer
            counts more: of wrong answers short ones are punished most, of right ones they are learned fastest.
    """

    clip: Annotated[float, Bounds(0.001, 1000)] = 0.2
    weigh: Literal["tokens", "answers"] = "tokens"

    def advantages(self, answers: Answers) -> Grid:
        """By how much each token's answer is better than expected."""
        return self.compared(self.totals(answers), answers.group)[:, None].expand_as(answers.sampled)

    def compared(self, totals: Float[Tensor, " R"], group: int) -> Float[Tensor, " R"]:
        """By how much each answer is better than its baseline."""
        raise NotImplementedError

    def loss(self, log_p: Grid, answers: Answers, values: Grid | None = None) -> tuple[Float[Tensor, ""], Scores]:
        """See _Policy."""
        mask = answers.mask & answers.learned[:, None]
        ratio = torch.where(mask, log_p - answers.sampled, 0.0).exp()
        advantages = self.advantages(answers)
        kept = torch.minimum(ratio * advantages, ratio.clamp(1 - self.clip, 1 + self.clip) * advantages)
        terms = -kept
        if self.kl == "loss":
            back = torch.where(mask, answers.reference - log_p, 0.0)
            terms = terms + self.beta * (back.exp() - 1 - back)
        weights = mask.to(log_p.dtype)
        sizes = mask.sum(1, keepdim=True) if self.weigh == "answers" else mask.sum() / len(mask)
        weights = weights / sizes.to(log_p.dtype).clamp(min=1 / len(mask))
        clipped = (mask & ((ratio - 1).abs() > self.clip)).sum() / mask.sum().clamp(min=1)
        return (weights * terms).sum(), {"clipped": 100 * float(clipped)}


@dataclass(frozen=True)
class BatchMean(_Gradient):
    """REINFORCE (Williams 1992): the baseline is the mean of all other answers of the batch.

    Args:
        beta, kl, truncated, clip, weigh: as for "rloo".
    """

    kind: ClassVar[str] = "reinforce"

    def compared(self, totals: Float[Tensor, " R"], group: int) -> Float[Tensor, " R"]:
        """See _Gradient."""
        return _left_out(totals[None])[0]


@dataclass(frozen=True)
class LeaveOneOut(_Gradient):
    """RLOO (Ahmadian et al. 2024): the baseline is the mean of the other answers to the same prompt.

    Args:
        beta: the weight of the divergence from the reference.
        kl: where it counts: "reward" = each answer's reward is less by beta log pi / pi_ref; "loss" = it is added to
            the loss token by token, whose best policy is another one (docs/rewards.md).
        truncated: whether answers that reach the most tokens without an end are learned.
        clip: a ratio pi / pi_sampled beyond 1 +- clip has no gradient away from 1 (Schulman et al. 2017).
        weigh: "tokens" = all tokens of a batch count alike; "answers" = all answers.
    """

    kind: ClassVar[str] = "rloo"

    def compared(self, totals: Float[Tensor, " R"], group: int) -> Float[Tensor, " R"]:
        """See _Gradient."""
        return _left_out(totals.view(-1, group)).flatten()


@dataclass(frozen=True)
class GroupRelative(_Gradient):
    """GRPO (Shao et al. 2024): the baseline is the mean of all answers to the same prompt.

    Args:
        beta, kl, truncated, clip, weigh: as for "rloo"; the paper has kl = "loss" and weigh = "answers".
        deviation: whether advantages are divided by the deviation of the rewards of the same prompt, as in the paper.
            Then prompts with similar answers count as much as others, and the best policy is another one.
    """

    kind: ClassVar[str] = "grpo"
    deviation: bool = False

    def compared(self, totals: Float[Tensor, " R"], group: int) -> Float[Tensor, " R"]:
        """See _Gradient."""
        grouped = totals.view(-1, group)
        centred = grouped - grouped.mean(1, keepdim=True)
        return (centred / (grouped.std(1, keepdim=True) + 1e-6) if self.deviation else centred).flatten()


@dataclass(frozen=True)
class Proximal(_Gradient):
    """PPO (Schulman et al. 2017): a critic on the model's hidden vectors learns what reward to expect at each token.

    Args:
        beta, kl, truncated, clip, weigh: as for "rloo".
        lam: lambda of the generalized advantage estimate (Schulman et al. 2016); rewards are not discounted.
        value_weight: the weight of the critic's squared error in the loss.
    """

    kind: ClassVar[str] = "ppo"
    critic: ClassVar[bool] = True
    lam: Share = 0.95
    value_weight: Weight = 0.1

    def _estimates(self, answers: Answers) -> tuple[Grid, Grid]:
        """The advantage of each token, and the return that the critic should have expected before it."""
        assert answers.values is not None
        mask, values = answers.mask, torch.where(answers.mask, answers.values, 0.0)
        steps = -(self.beta if self.kl == "reward" else 0.0) * answers.divergence
        last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
        steps = steps + torch.where(last, answers.rewards[:, None], 0.0)
        estimates = torch.zeros_like(values)
        later = value = torch.zeros_like(values[:, 0])
        for t in range(values.shape[1] - 1, -1, -1):
            now = torch.where(mask[:, t], steps[:, t] + value - values[:, t] + self.lam * later, later)
            estimates[:, t], later, value = now, now, torch.where(mask[:, t], values[:, t], value)
        return estimates, estimates + values

    def advantages(self, answers: Answers) -> Grid:
        """See _Gradient: with mean 0 and deviation 1 over the batch, so that the step does not depend on their size."""
        estimates, _ = self._estimates(answers)
        chosen = estimates[answers.mask]
        return (estimates - chosen.mean()) / (chosen.std(correction=0) + 1e-6)

    def loss(self, log_p: Grid, answers: Answers, values: Grid | None = None) -> tuple[Float[Tensor, ""], Scores]:
        """See _Policy."""
        assert values is not None
        value, scores = super().loss(log_p, answers)
        _, returns = self._estimates(answers)
        errors = (values - returns)[answers.mask].square()
        critic = errors.mean() * len(answers.mask)
        return value + self.value_weight * critic, scores | {"critic_loss": float(errors.detach().mean())}


@dataclass(frozen=True)
class MinimumRisk(_Policy):
    """Minimum-risk training (Shen et al. 2016): the expected reward among the distinct answers to a prompt.

    Args:
        beta, kl, truncated: as for "rloo".
        sharpness: alpha: an answer counts by pi^alpha among those to its prompt.
    """

    kind: ClassVar[str] = "minimum-risk"
    sharpness: Annotated[float, Bounds(1e-6, 1000)] = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl == "loss":
            raise ValueError("objective.kl must be 'reward' for minimum-risk training")

    def loss(self, log_p: Grid, answers: Answers, values: Grid | None = None) -> tuple[Float[Tensor, ""], Scores]:
        """See _Policy."""
        scores = self.sharpness * torch.where(answers.mask, log_p, 0.0).sum(1)
        usable = (answers.learned & answers.distinct).view(-1, answers.group)
        grouped = scores.view(-1, answers.group).masked_fill(~usable, -torch.inf)[usable.any(1)]
        expected = grouped.softmax(1) * self.totals(answers).view(-1, answers.group)[usable.any(1)]
        return -answers.group * expected.sum() + 0.0 * scores.sum(), {}


@dataclass(frozen=True)
class BestAndWorst(_Policy):
    """Online DPO (Guo et al. 2024): of the answers to a prompt, the best is preferred to the worst.

    Only which answer is better counts, not by how much; a prompt whose answers have equal rewards teaches nothing.

    Args:
        beta: as for "dpo" in docs/preferences.md: smaller = farther from the reference.
        kl, truncated: as for "rloo"; kl must be "reward", and the divergence counts by DPO's loss alone.
    """

    kind: ClassVar[str] = "online-dpo"
    beta: Weight = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl == "loss" or not self.beta:
            raise ValueError("online-dpo needs objective.kl = 'reward' and an objective.beta above 0")

    def loss(self, log_p: Grid, answers: Answers, values: Grid | None = None) -> tuple[Float[Tensor, ""], Scores]:
        """See _Policy; the loss of a pair counts for all answers to its prompt."""
        rewards, learned = (each.view(-1, answers.group) for each in (answers.rewards, answers.learned))
        best = rewards.masked_fill(~learned, -torch.inf).argmax(1, keepdim=True)
        worst = rewards.masked_fill(~learned, torch.inf).argmin(1, keepdim=True)
        ratios = torch.where(answers.mask, log_p - answers.reference, 0.0).sum(1).view(-1, answers.group)
        losses = DirectPreference(self.beta).losses((ratios.gather(1, best) - ratios.gather(1, worst))[:, 0])
        differ = (rewards.gather(1, best) > rewards.gather(1, worst))[:, 0]
        return answers.group * torch.where(differ, losses, 0.0).sum(), {}


PolicyObjective = LeaveOneOut | GroupRelative | BatchMean | Proximal | MinimumRisk | BestAndWorst


def _left_out(totals: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Each total less the mean of the others in its row."""
    others = max(1, totals.shape[1] - 1)
    return (totals - totals.mean(1, keepdim=True)) * (totals.shape[1] / others)
