from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.linear import matrices
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.training.optimizer import FlatWeights, Muon, MuonStepper, Optimizer, nearest_orthogonal
from seqloom.training.precision import dtype_for


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (5, 13), (13, 5)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_vectors_stay_and_singular_values_become_about_one(rows, columns, size):
    u, s, vh = torch.linalg.svd(torch.randn(rows, columns).double(), full_matrices=False)
    turned = nearest_orthogonal(u @ torch.diag(size * s.clamp(min=s[0] / 10)) @ vh, torch.float64)
    inside = u.t() @ turned @ vh.t()
    values = inside.diagonal()
    torch.testing.assert_close(inside, torch.diag(values), rtol=0, atol=1e-9)
    torch.testing.assert_close(turned, u @ inside @ vh)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25


def test_half_the_digits_are_enough():
    matrix = torch.randn(11, 17)
    exact, rough = (nearest_orthogonal(matrix, dtype).float() for dtype in (torch.float32, torch.bfloat16))
    assert float((exact - rough).norm() / exact.norm()) < 0.05


def test_a_gradient_of_zeros_turns_nothing():
    assert not nearest_orthogonal(torch.zeros(3, 5), torch.float32).any()


# Matrices stacked in one

STACK = {"layers": 1, "width": 12, "inner": 7, "heads": 4, "kv_heads": 2}
HALVES: dict[str, tuple[Any, Any]] = {
    "transformer": tuple(TransformerConfig(activation="swiglu", **STACK) for _ in range(2)),
    "plain": tuple(TransformerConfig(activation="gelu", **STACK) for _ in range(2)),
    "convolution": tuple(ConvolutionalConfig(layers=1, width=11) for _ in range(2)),
} | {
    cell: (
        RecurrentEncoderConfig(cell, width=6),
        RecurrentDecoderConfig(cell, width=12, attention=AttentionConfig("multi-head")),
    )
    for cell in ("rnn", "lstm", "gru")
}
FUSED = {
    "transformer": {"attention.qkv": (12, 6, 6), "cross.key_value": (6, 6), "expand": (7, 7)},
    "plain": {"attention.qkv": (12, 6, 6), "cross.key_value": (6, 6), "expand": (7,)},
    "convolution": {"coder.blocks.0.weight": (11, 11)},
    "rnn": {"decoder.stack.layers.0.cells": (12,), "key_value": (12, 12), "bridge": (12,)},
    "lstm": {
        "decoder.stack.layers.0.cells": (12,) * 4,
        "encoder.layers.0.1.cells": (6,) * 4,
        "key_value": (12, 12),
        "bridge": (12, 12),
    },
    "gru": {
        "decoder.stack.layers.0.cells": (12,) * 3,
        "encoder.layers.0.1.cells": (6,) * 3,
        "key_value": (12, 12),
        "bridge": (12,),
    },
}


def make(member: str) -> EncoderDecoder:
    encoder, decoder = HALVES[member]
    return EncoderDecoder(EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie="none"), 13, 17)


@pytest.mark.parametrize("member", HALVES)
def test_every_matrix_says_what_is_stacked_in_it(member: str) -> None:
    model = make(member)
    found, shapes = matrices(model), {n: tuple(p.shape) for n, p in model.named_parameters() if p.ndim == 2}
    assert {n for n in shapes if n not in found} == {"source.weight", "target.weight", "head.weight"}
    assert {n: sum(rows) for n, rows in found.items()} == {n: shapes[n][0] for n in found}
    for part, rows in FUSED[member].items():
        assert (named := [n for n in found if part in n])
        assert {found[n] for n in named} == {rows}, part


@pytest.mark.parametrize("member", HALVES)
def test_a_step_on_a_stacked_matrix_is_a_step_on_each(member: str) -> None:
    model = make(member)
    flat, config = FlatWeights(model, torch.float32), Muon(lr=0.1, weight_decay=0.2, clip=0.0)
    optimizer, dtype = Optimizer(flat, config), dtype_for("auto", torch.device("cpu"))
    flat.grads.normal_()
    alone = {n: p.detach().clone().split(rows) for n, rows in flat.matrices.items() for p in [model.get_parameter(n)]}
    for name, parts in alone.items():
        for part, grad in zip(parts, flat.views(flat.grads)[name].split(flat.matrices[name]), strict=True):
            piece = torch.nn.Parameter(part)
            piece.grad = grad.clone()
            MuonStepper([piece], 0.2, config.momentum, dtype).step(0.1)
    optimizer.gather()
    optimizer.step(0.1, optimizer.norm())
    for name, parts in alone.items():
        torch.testing.assert_close(model.get_parameter(name).detach(), torch.cat(parts), rtol=1e-3, atol=1e-3)
