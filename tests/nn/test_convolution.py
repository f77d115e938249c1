from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.nn.convolution import GatedConvolution

B, T, D, K = 3, 7, 5, 3


@pytest.mark.parametrize("causal", [True, False])
def test_it_is_a_convolution_with_a_gate(causal):
    layer, x = GatedConvolution(D, K, causal=causal).double(), torch.randn(B, T, D).double()
    kernels = layer.windows.weight.view(2 * D, K, D).transpose(1, 2)
    padded = F.pad(x.transpose(1, 2), (K - 1, 0) if causal else (K // 2, K // 2))
    both = F.conv1d(padded, kernels, layer.windows.bias).transpose(1, 2)
    torch.testing.assert_close(layer(x), both[..., :D] * both[..., D:].sigmoid())


def test_the_past_stands_before_the_first_position():
    layer, x = GatedConvolution(D, K, causal=True), torch.randn(B, T, D)
    torch.testing.assert_close(layer(x[:, K - 1 :], x[:, : K - 1]), layer(x)[:, K - 1 :])
