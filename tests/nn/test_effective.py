from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn.convolution import GatedConvolution
from seqloom.nn.effective import change, effective
from seqloom.nn.embedders import TokenEmbedder
from seqloom.nn.heads import VocabularyHead
from seqloom.nn.linear import Linear, pack
from seqloom.nn.recurrent import RecurrentLayer
from seqloom.objectives.cross_entropy import vocabulary_loss

D, V = 7, 11


class Added(nn.Module):
    """W + B A, as an adapter has it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(2, weight.shape[1]))
        self.b = nn.Parameter(torch.randn(weight.shape[0], 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def of_head(head: Any) -> Tensor:
    hidden = torch.linspace(-1, 1, 3 * D).view(3, D).requires_grad_()
    value, _ = vocabulary_loss(head, hidden, torch.tensor([1, 5, 10]), 0.1)
    return torch.cat((head(hidden).flatten(), value[None]))


SEQUENCE = torch.linspace(-1, 1, 2 * 5 * D).view(2, 5, D)
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Tensor], tuple[str, ...]]] = {
    "linear": (lambda: Linear(D, 5), lambda layer: layer(SEQUENCE), ("weight",)),
    "table": (lambda: TokenEmbedder(V, D, D), lambda layer: layer(torch.tensor([[1, 5, 1]])), ("weight",)),
    "head": (lambda: VocabularyHead(V, D, D), of_head, ("weight",)),
    "convolution": (lambda: GatedConvolution(D, 3, causal=True), lambda layer: layer(SEQUENCE), ("weight",)),
} | {
    cell: (
        lambda cell=cell: RecurrentLayer(cell, D, 5),
        lambda layer: layer(SEQUENCE, None, layer.matrices())[0],
        ("weight_ih_l0", "weight_hh_l0"),
    )
    for cell in ("rnn", "lstm", "gru")
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_changed_layer_computes_as_one_whose_weight_is_the_changed_one(kind: str) -> None:
    make, use, names = LAYERS[kind]
    layer, twin = make(), make()
    twin.load_state_dict(layer.state_dict())
    before = use(layer)
    assert torch.equal(before, use(twin))
    for name in names:
        owner, other = getattr(layer, "cells", layer), getattr(twin, "cells", twin)
        assert effective(owner, name) is getattr(owner, name)
        for _ in range(2):  # one after the other
            change(owner, name, Added(getattr(owner, name)))
        with torch.no_grad():
            getattr(other, name).copy_(effective(owner, name))
    torch.testing.assert_close(use(layer), use(twin))
    assert not torch.allclose(use(layer), before)
    use(layer).sum().backward()
    for name, parameter in layer.named_parameters():
        if "changes" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_what_is_packed_is_the_changed_weight() -> None:
    layer, x = Linear(D, 5), torch.randn(3, D)
    change(layer, "weight", Added(layer.weight))
    with torch.inference_mode():
        expected = nn.functional.linear(x, effective(layer), layer.bias)
        pack(layer)
        assert layer.packed is not None
        torch.testing.assert_close(layer(x), expected)
