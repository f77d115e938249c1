from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.nn.convolution import GatedConvolution

B, T, D, K = 3, 7, 5, 3


@pytest.mark.parametrize("causal", [True, False])
def test_it_is_a_convolution_with_a_gate(causal):
    layer, x = GatedConvolution(D, K, causal=causal).double(), torch.randn(B, T, D).double()
    kernels = layer.weight.view(2 * D, K, D).transpose(1, 2)
    padded = F.pad(x.transpose(1, 2), (K - 1, 0) if causal else (K // 2, K // 2))
    both = F.conv1d(padded, kernels, layer.bias).transpose(1, 2)
    torch.testing.assert_close(layer(x), both[..., :D] * both[..., D:].sigmoid())


def test_the_past_stands_before_the_first_position():
    layer, x = GatedConvolution(D, K, causal=True), torch.randn(B, T, D)
    torch.testing.assert_close(layer(x[:, K - 1 :], x[:, : K - 1]), layer(x)[:, K - 1 :])


@torch.no_grad()
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_at_the_start_the_gates_keep_the_variance(dropout):
    layer = GatedConvolution(64, 3, causal=True, dropout=dropout)
    out = layer(F.dropout(torch.randn(200, 50, 64), dropout))
    assert 0.7 < float(out.var()) < 1.5
