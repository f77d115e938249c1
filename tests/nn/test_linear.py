from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn import linear
from seqloom.nn.heads import VocabularyHead
from seqloom.nn.linear import Linear, pack, packed_weight


@pytest.fixture(autouse=True, params=["one row gains", "it loses"])
def gains(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    one_row = str(request.param) == "one row gains"
    monkeypatch.setattr(linear, "_one_row_gains", lambda: one_row)
    monkeypatch.setattr(linear, "_GAINS", ((13 * 13, 2), (11 * 13, 3)))
    return one_row


TYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 13), (7, 13), (3, 1, 13), (2, 5, 13), (0, 13)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_packed_weights_give_the_same(dtype: torch.dtype, shape: tuple[int, ...], bias: bool) -> None:
    layer, x = Linear(13, 11, bias=bias).to(dtype), torch.randn(shape).to(dtype)
    with torch.inference_mode():
        expected = nn.functional.linear(x, layer.weight, layer.bias)
        pack(layer)
        packs = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        assert (layer.packed is not None) == packs  # a processor without bfloat16 computes in it all the same
        got = layer(x)
    assert got.shape == (*shape[:-1], 11)
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=1e-5)


def test_they_are_not_used_where_gradients_are_wanted_or_the_type_is_another() -> None:
    layer, x = Linear(13, 11), torch.randn(2, 13)
    layer.packed = packed_weight(torch.zeros(11, 13))
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.inference_mode():
        assert torch.equal(layer(x), layer.bias.expand(2, -1))
        layer.double()
        assert torch.equal(layer(x.double()), nn.functional.linear(x.double(), layer.weight, layer.bias))


def test_a_model_is_packed_with_its_head_and_no_weight_is_lost() -> None:
    table = nn.Parameter(torch.randn(17, 13))
    model = nn.ModuleDict({"layer": Linear(13, 13), "head": VocabularyHead(17, 13, 13, table, bias=True)})
    names, x = list(model.state_dict()), torch.randn(3, 13)
    with torch.inference_mode():
        expected = model["head"](model["layer"](x))
        pack(model)
        assert model["head"].packed is not None
        torch.testing.assert_close(model["head"](model["layer"](x)), expected)
    assert list(model.state_dict()) == names


def test_small_weights_and_few_rows_are_left_to_plain_products_where_these_are_faster(gains: bool) -> None:
    small, middle, large = Linear(13, 10), Linear(13, 11), Linear(13, 14)
    pack(nn.ModuleList([small, middle, large]))
    assert (small.packed is None) == (not gains)
    for layer, enough in ((middle, 3), (large, 2)):
        assert layer.packed is not None
        layer.packed = packed_weight(torch.zeros_like(layer.weight))  # so that it shows which weight is used
        with torch.inference_mode():
            for rows in (1, 2, 3):
                x = torch.randn(rows, 13)
                plain = nn.functional.linear(x, layer.weight, layer.bias)
                packed = layer.bias.expand(rows, -1)
                assert torch.equal(layer(x), packed if gains or rows >= enough else plain)


def test_half_precision_is_always_packed_where_it_has_kernels() -> None:
    layer = Linear(2, 3).to(torch.bfloat16)
    pack(layer)
    assert (layer.packed is not None) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert layer.packed_from == 1


@pytest.mark.parametrize("faster", [True, False])
def test_whether_one_row_gains_is_timed(monkeypatch: pytest.MonkeyPatch, faster: bool) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(linear, "_by_packed", lambda *_: None if faster else time.sleep(0.01))
    assert linear._one_row_gains.__wrapped__() == faster


ROUNDS = "fbgemm" in torch.backends.quantized.supported_engines
needs_kernels = pytest.mark.skipif(not ROUNDS, reason="NOT TESTED: 8 bits, for which torch has no kernels here")


def rounded_by_loops(x: Tensor, layer: Linear) -> Tensor:
    """The product of a row and the weight in whole numbers, by the scales of both."""
    steps = 127 if torch.cpu._is_vnni_supported() else 63
    outputs = torch.zeros(len(x), len(layer.weight), dtype=torch.float64)
    for r, row in enumerate(x.double()):
        greatest = row.abs().max().clamp(min=1e-30)
        numbers = (row / greatest * steps).round()
        for e, weights in enumerate(layer.weight.detach().double()):
            scale = weights.abs().max() / 127
            outputs[r, e] = (numbers * (weights / scale).round()).sum() * scale * greatest / steps
    return outputs if layer.bias is None else outputs + layer.bias.detach()


@needs_kernels
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vnni", [True, False])
def test_8_bits_are_rounded_by_row_and_output(monkeypatch: pytest.MonkeyPatch, bias: bool, vnni: bool) -> None:
    if vnni and not torch.cpu._is_vnni_supported():
        pytest.skip("NOT TESTED: inputs in 8 bits, whose products this processor does not add without overflow")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    monkeypatch.setattr(linear, "_ROUNDED", 1)
    layer, x = Linear(67, 11, bias=bias), torch.randn(5, 67) * torch.tensor([[1], [1e3], [1e-3], [0], [1]])
    pack(layer, int8=True)
    with torch.inference_mode():
        found = layer(x)
        step = layer.weight.abs().amax(1) / 127 * x.abs().amax(1, keepdim=True)
        assert bool(((found - rounded_by_loops(x, layer)).abs() <= 0.02 * step + 1e-6).all())
        for r in range(5):
            assert torch.equal(layer(x[r : r + 1]), found[r : r + 1])
        assert torch.equal(layer(x.view(5, 1, 67)), found.view(5, 1, 11))
        assert torch.equal(found[3], torch.zeros(11) if layer.bias is None else layer.bias)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))  # with gradients


@needs_kernels
def test_small_weights_and_other_types_are_not_rounded() -> None:
    small, large, half = Linear(13, 11), Linear(512, 256), Linear(512, 256).to(torch.bfloat16)
    pack(nn.ModuleList([small, large, half]), int8=True)
    rounded = [isinstance(layer.packed, linear.Rounded) for layer in (small, large, half)]
    assert rounded == [False, True, False]
    with torch.inference_mode():
        x = torch.randn(3, 512)
        exact = nn.functional.linear(x, large.weight, large.bias)
        assert 0 < float((large(x) - exact).norm() / exact.norm()) < 0.03


def test_what_no_kernel_knows_stays_as_it_is() -> None:
    assert packed_weight(torch.zeros(3, 5, dtype=torch.float64)) is None
