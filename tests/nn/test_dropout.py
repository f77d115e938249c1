from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqloom.nn.dropout import Dropout, keep_mask

PROBABILITIES = [0.1, 0.3, 0.5, 0.9]


def true(p: float) -> float:
    return min(max(round(256 * p), 1), 255) / 256


@pytest.mark.parametrize("p", PROBABILITIES)
def test_every_element_is_dropped_as_often_as_every_other(p: float) -> None:
    # The random bytes come eight to a word: each place in a word must be fair, not only their mean.
    dropped = (keep_mask(torch.empty(25_000, 8), p) == 0).double().mean(0)
    assert (dropped - true(p)).abs().max() < 5 * math.sqrt(p * (1 - p) / 25_000)


@pytest.mark.parametrize("p", PROBABILITIES)
def test_the_expectation_is_the_input(p: float) -> None:
    x = torch.full((200_003,), 7.0)
    out = Dropout(p).train()(x)
    assert abs(out.double().mean().item() / 7 - 1) < 5 * math.sqrt(p / (1 - p) / x.numel())


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 40))
def test_what_is_kept_is_scaled_by_the_probability_in_steps_of_256(p: float, size: int) -> None:
    mask = keep_mask(torch.empty(size, dtype=torch.float64), p)
    assert mask.shape == (size,)
    assert set(mask.tolist()) <= {0.0, 256 / (256 - 256 * true(p))}


def test_bfloat16_gets_a_bfloat16_mask() -> None:
    mask = keep_mask(torch.empty(5, 3, dtype=torch.bfloat16), 0.1)
    assert mask.dtype == torch.bfloat16
    assert set(mask.flatten().tolist()) <= {0.0, torch.tensor(256 / 230).bfloat16().item()}


@pytest.mark.parametrize(("training", "p"), [(False, 0.5), (True, 0.0)])
def test_nothing_is_dropped_or_drawn_when_not_asked_for(training: bool, p: float) -> None:
    dropout, x, residual = Dropout(p).train(training), torch.randn(5, 3), torch.randn(5, 3)
    before = torch.get_rng_state()
    assert torch.equal(dropout(x), x)
    assert torch.equal(dropout.add(residual, x), residual + x)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_is_the_mask() -> None:
    x = torch.rand(13, 17).add(1).requires_grad_()
    out = Dropout(0.3).train()(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, out.detach() / x.detach())
    assert 0 < (grad == 0).sum() < grad.numel()


def test_add_is_the_residual_plus_dropout_of_the_same_draw() -> None:
    dropout = Dropout(0.3).train()
    x, residual, weights = torch.randn(3, 13, 17).unbind()
    leaves = [x.clone().requires_grad_(), residual.clone().requires_grad_()]
    torch.manual_seed(1)
    fused = dropout.add(leaves[1], leaves[0])
    torch.manual_seed(1)
    plain = leaves[1] + dropout(leaves[0])
    torch.testing.assert_close(fused, plain)
    gradients = [torch.autograd.grad((out * weights).sum(), leaves) for out in (fused, plain)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_two_calls_draw_twice_and_a_seed_draws_again() -> None:
    x, dropout = torch.ones(100), Dropout(0.5).train()
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
