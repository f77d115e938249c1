"""The objectives of preferences, against loops in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqloom.data.batches.preferences import EncodedPreference, preference_batch
from seqloom.data.batches.windows import Item, Window, collate
from seqloom.models.decoder import DecoderOnlyConfig, DecoderReader, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.preference import (
    BradleyTerry,
    DirectPreference,
    IdentityPreference,
    PreferenceObjective,
    answer_log_p,
)

STACK = TransformerConfig(layers=2, width=12, inner=17, heads=2, dropout=0.3)
V, START = 23, 2


def pairs(seed: int = 0, count: int = 5) -> list[EncodedPreference]:
    draw = np.random.default_rng(seed)

    def ids(most: int) -> np.ndarray:
        return draw.integers(3, V, draw.integers(1, most))

    return [EncodedPreference(np.append(START, ids(7)), (ids(11), ids(11)), 0.0, i) for i in range(count)]


def language(kind: str = "transformer") -> LanguageModel:
    torch.manual_seed(1)
    decoder = STACK if kind == "transformer" else RecurrentDecoderConfig(layers=1, width=12)
    return LanguageModel(DecoderOnlyConfig(decoder=decoder), V).eval()


def translator() -> EncoderDecoder:
    torch.manual_seed(1)
    return EncoderDecoder(EncoderDecoderConfig(encoder=STACK, decoder=STACK), V, V).eval()


def one_by_one(model: LanguageModel | EncoderDecoder, prompt: np.ndarray, answer: np.ndarray) -> float:
    """log p of an answer, token by token, each from a row of its own."""
    total = 0.0
    for t in range(len(answer)):
        read = torch.from_numpy(np.concatenate((prompt, answer[:t])))[None]
        with torch.no_grad():
            if isinstance(model, LanguageModel):
                hidden, _ = model(Inputs.text(read))
            else:
                fed = torch.from_numpy(np.concatenate(([START], answer[:t])))[None]
                hidden = model(Inputs.text(torch.from_numpy(prompt)[None]), fed)
            total += float(model.head(hidden[0, -1]).double().log_softmax(-1)[answer[t]])
    return total


@pytest.mark.parametrize("make", [language, lambda: language("recurrent"), translator], ids=["lm", "lstm", "seq2seq"])
def test_the_log_probability_of_an_answer_does_not_depend_on_padding_and_batch_mates(
    make: Callable[[], LanguageModel | EncoderDecoder],
) -> None:
    model, rows = make(), pairs()
    start = START if isinstance(model, EncoderDecoder) else None
    batch = preference_batch(rows, np.zeros((len(rows), 2)), start)
    assert int((batch.targets >= 0).sum()) == sum(len(answer) for pair in rows for answer in pair.answers)
    found = answer_log_p(model, batch).tolist()
    expected = [one_by_one(model, pair.prompt, pair.answers[side]) for side in (0, 1) for pair in rows]
    assert found == pytest.approx(expected, abs=1e-5)


def expected_loss(objective: PreferenceObjective, rows: list[EncodedPreference], log_p: list[float]) -> float:
    total, count = 0.0, len(rows)
    for i, pair in enumerate(rows):
        ratios = [log_p[i + side * count] - (-3.0 - i + side) for side in (0, 1)]
        if objective.normalize == "length":
            ratios = [ratio / len(answer) for ratio, answer in zip(ratios, pair.answers, strict=True)]
        difference = ratios[0] - ratios[1]
        if isinstance(objective, IdentityPreference):
            total += (difference - 1 / (2 * objective.beta)) ** 2
        else:
            p = 1 / (1 + math.exp(-objective.beta * difference))
            total -= (1 - objective.smoothing) * math.log(p) + objective.smoothing * math.log(1 - p)
    return total


@pytest.mark.parametrize("normalize", ["none", "length"])
@pytest.mark.parametrize(
    "objective", [DirectPreference(beta=0.3), DirectPreference(beta=0.2, smoothing=0.1), IdentityPreference(beta=0.4)]
)
def test_the_losses_of_a_batch_are_those_of_a_loop(objective: PreferenceObjective, normalize: str) -> None:
    objective = replace(objective, normalize=normalize)
    model, rows = language(), pairs()
    reference = np.array([(-3.0 - i, -2.0 - i) for i in range(len(rows))])
    log_p = [one_by_one(model, pair.prompt, pair.answers[side]) for side in (0, 1) for pair in rows]
    loss = objective(model, preference_batch(rows, reference, None))
    assert loss.value.item() == pytest.approx(expected_loss(objective, rows, log_p), rel=1e-5)
    assert loss.tokens == len(rows)
    plain = DirectPreference(beta=objective.beta, normalize=objective.normalize)
    assert loss.nll == pytest.approx(expected_loss(plain, rows, log_p), rel=1e-5)


def test_the_first_loss_is_that_of_no_preference_even_with_dropout() -> None:
    """What is learned begins as the reference, to the bit: the loss is log 2 (DPO), (1 / 2 beta)^2 (IPO)."""
    model, rows = language().train(), pairs()
    batch = preference_batch(rows, np.zeros((len(rows), 2)), None)
    model.eval()
    with torch.inference_mode():
        reference = answer_log_p(model, batch).view(2, -1).T.double().numpy()
    batch = preference_batch(rows, reference, None)
    for objective, first in (
        (DirectPreference(), math.log(2)),
        (DirectPreference(smoothing=0.2), math.log(2)),
        (IdentityPreference(beta=0.25), 4.0),
    ):
        loss = objective(model.train(), batch)
        assert loss.value.item() == pytest.approx(len(rows) * first, rel=1e-7)
        loss.value.backward()
    with torch.no_grad():
        assert torch.equal(objective.log_ratios(model, batch), torch.zeros(2, len(rows)))


@pytest.mark.parametrize("objective", [DirectPreference(), IdentityPreference()])
def test_a_step_makes_the_chosen_answer_more_probable_than_the_rejected_one(objective: PreferenceObjective) -> None:
    model, rows = language(), pairs(3)
    batch = preference_batch(rows, np.zeros((len(rows), 2)), None)
    with torch.no_grad():
        before = answer_log_p(model, batch)
    batch = replace(batch, reference=before)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    objective(model, batch).value.backward()
    optimizer.step()
    with torch.no_grad():
        chosen, rejected = (answer_log_p(model, batch) - before).view(2, -1)
    assert float((chosen - rejected).mean()) > 0


def test_one_answer_is_no_preference() -> None:
    """Where both answers are the same, nothing is learned."""
    row = pairs()[0]
    model = language()
    batch = preference_batch([replace(row, answers=(row.answers[0], row.answers[0]))], np.zeros((1, 2)), None)
    DirectPreference()(model, batch).value.backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6


# A bandit: one state, five arms


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dpo_finds_the_policy_that_its_theory_promises(seed: int) -> None:
    """From all pairs, weighted by how often a Bradley-Terry judge prefers one: pi = pi_ref exp(r / beta) / Z."""
    torch.manual_seed(seed)
    beta, reference, rewards = 0.5, torch.randn(5).double().log_softmax(0), torch.randn(5).double()
    objective, logits = DirectPreference(beta=beta), reference.clone().requires_grad_()
    wins = torch.sigmoid(rewards[:, None] - rewards[None, :])
    wins.fill_diagonal_(0)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        ratios = logits.log_softmax(0) - reference
        loss = (wins * objective.losses((ratios[:, None] - ratios[None, :]).flatten()).view(5, 5)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found, promised = logits.detach().softmax(0), (reference + rewards / beta).softmax(0)
    assert 0.5 * float((found - promised).abs().sum()) < 0.02
    assert 0.5 * float((reference.exp() - promised).abs().sum()) > 0.1


# Rewards


def test_the_loss_of_rewards_is_that_of_a_loop() -> None:
    torch.manual_seed(0)
    model = DecoderReader(DecoderOnlyConfig(decoder=STACK), V, {"label": 1}).eval()
    rows = pairs()
    items = [
        Item(tuple(Window(ids.astype(np.int32), len(ids)) for ids in pair.rows), np.array(0.5 * i))
        for i, pair in enumerate(rows)
    ]
    expected = plain = 0.0
    for i, pair in enumerate(rows):
        with torch.no_grad():
            chosen, rejected = (
                float(model.score("label", model(Inputs.text(torch.from_numpy(ids)[None])))) for ids in pair.rows
            )
        expected += math.log1p(math.exp(-(chosen - rejected - 0.25 - 0.5 * i)))
        plain += math.log1p(math.exp(-(chosen - rejected)))
    loss = BradleyTerry(margin=0.25)(model, collate(items))
    assert loss.value.item() == pytest.approx(expected, rel=1e-5)
    assert (loss.nll, loss.tokens) == (pytest.approx(plain, rel=1e-5), len(rows))
