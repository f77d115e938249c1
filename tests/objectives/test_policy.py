"""Objectives of rewards against loops in float64, and on a bandit whose best policy is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.objectives.policy import (
    Answers,
    BatchMean,
    BestAndWorst,
    GroupRelative,
    LeaveOneOut,
    MinimumRisk,
    Proximal,
)

P, G, T = 3, 5, 7


def drawn(seed: int = 1) -> tuple[Tensor, Answers, Tensor]:
    """Random log-probabilities, answers of different lengths and expectations, in float64."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (P * G,), generator=g)
    mask = torch.arange(T) < lengths[:, None]
    sampled, reference, log_p, values = (-torch.rand(P * G, T, generator=g, dtype=torch.float64) for _ in range(4))
    rewards = torch.randn(P * G, generator=g, dtype=torch.float64)
    learned = torch.rand(P * G, generator=g) < 0.8
    distinct = torch.rand(P * G, generator=g) < 0.8
    distinct[::G] = learned[::G] = True
    return log_p, Answers(mask, rewards, sampled, reference, learned, distinct, G, values), values + 0.1


def loop_total(answers: Answers, r: int, beta: float) -> float:
    steps = (t for t in range(T) if answers.mask[r, t])
    return float(answers.rewards[r]) - beta * sum(float(answers.sampled[r, t] - answers.reference[r, t]) for t in steps)


def loop_advantage(objective: Any, answers: Answers, r: int) -> float:
    totals = [loop_total(answers, i, objective.beta if objective.kl == "reward" else 0.0) for i in range(P * G)]
    own = totals[r // G * G : (r // G + 1) * G]
    match objective:
        case BatchMean():
            others = totals[:r] + totals[r + 1 :]
            return totals[r] - sum(others) / len(others)
        case LeaveOneOut():
            others = own[: r % G] + own[r % G + 1 :]
            return totals[r] - sum(others) / len(others)
    mean = sum(own) / G
    deviation = math.sqrt(sum((x - mean) ** 2 for x in own) / (G - 1)) + 1e-6 if objective.deviation else 1.0
    return (totals[r] - mean) / deviation


def loop_loss(objective: Any, log_p: Tensor, answers: Answers, advantage: Any) -> float:
    rows = [r for r in range(P * G) if answers.learned[r]]
    everything = sum(int(answers.mask[r].sum()) for r in rows)
    total = 0.0
    for r in rows:
        for t in range(int(answers.mask[r].sum())):
            ratio = math.exp(float(log_p[r, t] - answers.sampled[r, t]))
            a, low, high = advantage(r, t), 1 - objective.clip, 1 + objective.clip
            term = -min(ratio * a, min(max(ratio, low), high) * a)
            if objective.kl == "loss":
                back = float(answers.reference[r, t] - log_p[r, t])
                term += objective.beta * (math.exp(back) - 1 - back)
            total += term * (P * G / everything if objective.weigh == "tokens" else 1 / int(answers.mask[r].sum()))
    return total


@pytest.mark.parametrize("kind", [BatchMean, LeaveOneOut, GroupRelative])
@pytest.mark.parametrize("kl", ["reward", "loss"])
@pytest.mark.parametrize("weigh", ["tokens", "answers"])
@pytest.mark.parametrize("deviation", [False, True])
def test_policy_gradients_agree_with_a_loop(kind: Any, kl: str, weigh: str, deviation: bool) -> None:
    if deviation and kind is not GroupRelative:
        pytest.skip("only GRPO divides by the deviation")
    objective = kind(beta=0.3, kl=kl, weigh=weigh, clip=0.13, **({"deviation": True} if deviation else {}))
    log_p, answers, _ = drawn()
    value, scores = objective.loss(log_p, answers)
    expected = loop_loss(objective, log_p, answers, lambda r, t: loop_advantage(objective, answers, r))
    assert float(value) == pytest.approx(expected, rel=1e-10)
    assert scores["clipped"] > 0


def test_ppo_agrees_with_a_loop() -> None:
    objective = Proximal(beta=0.3, lam=0.7, value_weight=0.4, clip=0.13)
    log_p, answers, values = drawn()
    assert answers.values is not None
    estimates: dict[tuple[int, int], float] = {}
    for r in range(P * G):
        length = int(answers.mask[r].sum())
        for t in range(length):
            later = 0.0
            for u in range(length - 1, t - 1, -1):
                step = -objective.beta * float(answers.sampled[r, u] - answers.reference[r, u])
                step += float(answers.rewards[r]) if u == length - 1 else 0.0
                after = float(answers.values[r, u + 1]) if u + 1 < length else 0.0
                later = step + after - float(answers.values[r, u]) + objective.lam * later
            estimates[r, t] = later
    mean = sum(estimates.values()) / len(estimates)
    deviation = math.sqrt(sum((e - mean) ** 2 for e in estimates.values()) / len(estimates)) + 1e-6
    expected = loop_loss(objective, log_p, answers, lambda r, t: (estimates[r, t] - mean) / deviation)
    errors = [(float(values[r, t]) - e - float(answers.values[r, t])) ** 2 for (r, t), e in estimates.items()]
    expected += objective.value_weight * sum(errors) / len(errors) * P * G
    assert float(objective.loss(log_p, answers, values)[0]) == pytest.approx(expected, rel=1e-10)


def test_minimum_risk_agrees_with_a_loop() -> None:
    objective = MinimumRisk(beta=0.3, sharpness=0.6)
    log_p, answers, _ = drawn()
    expected = 0.0
    for p in range(P):
        rows = [r for r in range(p * G, (p + 1) * G) if answers.learned[r] and answers.distinct[r]]
        weights = [math.exp(0.6 * float(log_p[r][answers.mask[r]].sum())) for r in rows]
        totals = [loop_total(answers, r, 0.3) for r in rows]
        expected -= G * sum(w * t for w, t in zip(weights, totals, strict=True)) / sum(weights)
    assert float(objective.loss(log_p, answers)[0]) == pytest.approx(expected, rel=1e-10)


def test_online_dpo_agrees_with_a_loop() -> None:
    objective = BestAndWorst(beta=0.3)
    log_p, answers, _ = drawn()
    expected = 0.0
    for p in range(P):
        rows = sorted((r for r in range(p * G, (p + 1) * G) if answers.learned[r]), key=lambda r: answers.rewards[r])
        if len(rows) > 1:
            ratios = [float((log_p - answers.reference)[r][answers.mask[r]].sum()) for r in (rows[-1], rows[0])]
            expected += G * math.log1p(math.exp(-0.3 * (ratios[0] - ratios[1])))
    assert expected > 0
    assert float(objective.loss(log_p, answers)[0]) == pytest.approx(expected, rel=1e-10)


def test_online_dpo_learns_nothing_from_answers_of_equal_reward() -> None:
    log_p, answers, _ = drawn()
    log_p = log_p.detach().requires_grad_(True)
    value, _ = BestAndWorst().loss(log_p, replace(answers, rewards=torch.ones_like(answers.rewards)))
    value.backward()
    assert float(value.detach()) == 0
    assert log_p.grad is not None
    assert not log_p.grad.any()


def test_online_dpo_asks_only_which_answer_is_better() -> None:
    """Rewards of the same order teach the same, and the best arm is learned."""
    log_p, answers, _ = drawn()
    ranked = replace(answers, rewards=answers.rewards.argsort().argsort().double())
    assert torch.equal(BestAndWorst().loss(log_p, answers)[0], BestAndWorst().loss(log_p, ranked)[0])
    policy = learned_policy(BestAndWorst(beta=BETA), 1)
    assert int(policy.argmax()) == int(REWARDS.argmax()) != int(REFERENCE.argmax())


REFERENCE = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05], dtype=torch.float64).log()
REWARDS = torch.tensor([0.1, 0.3, 0.0, 0.8, 0.5], dtype=torch.float64)
BETA = 0.3


def learned_policy(objective: Any, seed: int, group: int = 8, prompts: int = 16, steps: int = 300) -> Tensor:
    """The distribution over the arms of a bandit that an objective arrives at: the mean of its last steps."""
    g = torch.Generator().manual_seed(seed)
    logits = REFERENCE.clone().requires_grad_(True)
    critic = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits, critic], lr=0.05)
    mean = torch.zeros(5, dtype=torch.float64)
    for step in range(steps):
        for part in optimizer.param_groups:
            part["lr"] = 0.05 * (1 - step / steps) + 1e-4
        log_p = logits.log_softmax(0)
        arms = torch.multinomial(log_p.exp().detach(), prompts * group, replacement=True, generator=g)
        one, yes = torch.ones(len(arms), 1, dtype=torch.bool), torch.ones(len(arms), dtype=torch.bool)
        chosen, values = log_p[arms][:, None], critic.expand(len(arms))[:, None]
        answers = Answers(
            one, REWARDS[arms], chosen.detach(), REFERENCE[arms][:, None], yes, yes, group, values.detach()
        )
        optimizer.zero_grad()
        loss, _ = objective.loss(chosen, answers, values)
        (loss / len(arms)).backward()
        optimizer.step()
        if step >= steps // 2:
            mean += logits.detach().softmax(0) / (steps - steps // 2)
    return mean


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum() / 2)


BEST = (REFERENCE + REWARDS / BETA).softmax(0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", [BatchMean, LeaveOneOut, GroupRelative, Proximal])
def test_on_a_bandit_the_policy_becomes_the_reference_times_exp_of_the_reward_by_beta(kind: Any, seed: int) -> None:
    assert apart(REFERENCE.exp(), BEST) > 0.2
    assert apart(learned_policy(kind(beta=BETA), seed), BEST) < 0.02


def test_dividing_by_the_deviation_sharpens_where_the_divergence_is_in_the_loss() -> None:
    """In the reward, nothing is left to compare at the best policy, so that it stays what it is."""
    assert apart(learned_policy(GroupRelative(beta=BETA, deviation=True), 1), BEST) < 0.02
    plain, divided = (
        learned_policy(GroupRelative(beta=BETA, kl="loss", deviation=deviation), 1) for deviation in (False, True)
    )
    assert float(divided.max() - plain.max()) > 0.05
    assert int(divided.argmax()) == int(REWARDS.argmax())


def test_k3_in_the_loss_descends_the_other_divergence() -> None:
    """Its fixed point solves sum_a (r_a - mean) pi_a = beta (pi - pi_ref): found here by gradient ascent, exactly."""
    logits = REFERENCE.clone().requires_grad_(True)
    for _ in range(20_000):
        log_p = logits.log_softmax(0)
        back = (REFERENCE.exp() * (REFERENCE - log_p)).sum()  # KL(pi_ref || pi)
        gradient = torch.autograd.grad((log_p.exp() * REWARDS).sum() - BETA * back, logits)[0]
        logits = (logits + 0.5 * gradient).detach().requires_grad_(True)
    expected = logits.detach().softmax(0)
    assert apart(expected, BEST) > 0.05
    assert apart(learned_policy(LeaveOneOut(beta=BETA, kl="loss"), 1, prompts=200), expected) < 0.02


def test_means_over_answers_prefer_short_wrong_answers() -> None:
    """Two wrong answers, of one token and of six: by answers, the short one loses six times as much per token."""
    mask = torch.arange(6) < torch.tensor([1, 6, 3, 3])[:, None]
    zeros, yes = torch.zeros(4, 6), torch.ones(4, dtype=torch.bool)
    answers = Answers(mask, torch.tensor([0.0, 0.0, 1.0, 1.0]), zeros, zeros, yes, yes, 4)
    gradients = []
    for weigh in ("tokens", "answers"):
        log_p = zeros.clone().requires_grad_(True)
        LeaveOneOut(beta=0.0, weigh=weigh).loss(log_p, answers)[0].backward()  # type: ignore[arg-type]
        assert log_p.grad is not None
        gradients.append(log_p.grad)
    by_token, by_answer = gradients
    assert torch.equal(by_token[0, 0], by_token[1, 5])
    assert float(by_answer[0, 0] / by_answer[1, 5]) == pytest.approx(6)
