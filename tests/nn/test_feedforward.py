from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from seqloom.nn.dropout import keep_mask
from seqloom.nn.feedforward import Activation, FeedForward

WIDTH, INNER = 5, 7


def tanh_gelu(a: float) -> float:
    return 0.5 * a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))


FORMULAS: dict[str, Callable[[list[float]], list[float]]] = {
    "relu": lambda h: [max(0.0, a) for a in h],
    "gelu": lambda h: [a * 0.5 * (1 + math.erf(a / math.sqrt(2))) for a in h],
    "gelu-tanh": lambda h: [tanh_gelu(a) for a in h],
    "silu": lambda h: [a / (1 + math.exp(-a)) for a in h],
    "geglu": lambda h: [tanh_gelu(g) * v for g, v in zip(h[:INNER], h[INNER:], strict=True)],
    "swiglu": lambda h: [g / (1 + math.exp(-g)) * v for g, v in zip(h[:INNER], h[INNER:], strict=True)],
}


def linear(row: list[float], layer: torch.nn.Linear) -> list[float]:
    biases = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * x for w, x in zip(weights, row, strict=True)) + b
        for weights, b in zip(layer.weight.tolist(), biases, strict=True)
    ]


def test_every_activation_has_its_formula_here() -> None:
    assert set(FORMULAS) == set(get_args(Activation))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", FORMULAS)
def test_it_is_the_formula(activation: Activation, bias: bool) -> None:
    layer = FeedForward(WIDTH, INNER, activation, bias, 0.1).double().eval()
    x = 2 * torch.randn(3, WIDTH, dtype=torch.float64)
    rows = [linear(FORMULAS[activation](linear(row, layer.expand)), layer.contract) for row in x.tolist()]
    torch.testing.assert_close(layer(x), torch.tensor(rows, dtype=torch.float64))
    assert (layer.expand.bias is None) == (layer.contract.bias is None) == (not bias)


@pytest.mark.parametrize("activation", FORMULAS)
def test_dropout_is_inside(activation: Activation) -> None:
    layer = FeedForward(WIDTH, INNER, activation, True, 0.3).train()
    x = torch.randn(11, WIDTH)
    torch.manual_seed(1)
    mask = keep_mask(torch.empty(11, INNER), 0.3)
    inner = [FORMULAS[activation](linear(row, layer.expand)) for row in x.tolist()]
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x), layer.contract(torch.tensor(inner) * mask))
