from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn.norms import RMSNorm, make_norm

WIDTH = 13


def layer_norm(row: list[float], weight: list[float], bias: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / math.sqrt(variance + 1e-5) * w + b for x, w, b in zip(row, weight, bias, strict=True)]


def rms_norm(row: list[float], weight: list[float]) -> list[float]:
    rms = math.sqrt(sum(x * x for x in row) / len(row) + 1e-6)
    return [x / rms * w for x, w in zip(row, weight, strict=True)]


def shaken(norm: nn.Module) -> nn.Module:
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def test_layer_norm_is_the_formula() -> None:
    norm = shaken(make_norm("layer", WIDTH)).double()
    x = 3 * torch.randn(2, 5, WIDTH, dtype=torch.float64) + 7
    weight, bias = norm.weight.tolist(), norm.bias.tolist()
    expected = torch.tensor([[layer_norm(row, weight, bias) for row in sentence] for sentence in x.tolist()])
    torch.testing.assert_close(norm(x).float(), expected)


def test_rms_norm_is_the_formula() -> None:
    norm = shaken(make_norm("rms", WIDTH))
    x = 3 * torch.randn(2, 5, WIDTH) + 7
    expected = torch.tensor([[rms_norm(row, norm.weight.tolist()) for row in sentence] for sentence in x.tolist()])
    torch.testing.assert_close(norm(x), expected)


def test_rms_norm_and_its_gradient_are_torchs() -> None:
    ours, theirs = shaken(RMSNorm(WIDTH)), nn.RMSNorm(WIDTH, eps=1e-6)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, WIDTH)

    def run(norm: nn.Module) -> tuple[Tensor, ...]:
        leaf = x.clone().requires_grad_()
        out = norm(leaf)
        return out, *torch.autograd.grad(out.square().sum(), [leaf, norm.weight])

    torch.testing.assert_close(run(ours), run(theirs))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_norm_looks_at_one_position_and_at_no_scale(kind: str) -> None:
    norm = make_norm(kind, WIDTH)
    x = 10 * torch.randn(3, 5, WIDTH)
    torch.testing.assert_close(norm(x)[1, 2], norm(x[1, 2]))
    torch.testing.assert_close(norm(1000 * x), norm(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_bfloat16_stays_bfloat16_and_does_not_overflow(kind: str) -> None:
    norm = make_norm(kind, WIDTH).bfloat16()
    x = torch.randn(5, WIDTH)
    out = norm((1e18 * x).bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), make_norm(kind, WIDTH)(1e3 * x), rtol=0, atol=5e-2)
