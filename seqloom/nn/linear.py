"""Linear layers whose weights can be packed for inference.

A packed weight has the memory layout that the processor's kernels read. For the few rows of a decoding step this is up
to 4 times as fast as packing it again in every product, but slower for small weights (docs/benchmarks.md, "Packed
weights").
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.nn.effective import add_by_row, effective
from seqloom.shapes import Float, Tensor

_GAINS = ((1 << 19, 4), (1 << 18, 16))
"""Where one row of float32 gains nothing: from so many values of a weight on, so many rows gain."""
_ROUNDED = 1 << 17  # values of a weight from which on 8 bits are faster
_ROWS = 16  # the number of rows the layout is chosen for; it is good for any other number, too


def product(x: Float[Tensor, "*B D"], layer: nn.Module) -> Float[Tensor, "*B E"]:
    """x @ weight^T + bias, with the effective weight of the layer.

    `layer.packed` is None or that weight as `packed_weight` returns it; it is not used where gradients are needed, nor
    for fewer than `layer.packed_from` rows. `layer.beside` is None or what `add_by_row` adds.
    """
    packed: Any = layer.packed
    bias: Any = layer.bias
    least: Any = layer.packed_from
    few = x.numel() < max(1, least * x.shape[-1])
    if packed is None or torch.is_grad_enabled() or x.dtype != packed.dtype or few:
        outputs = F.linear(x, effective(layer), bias)
    else:
        outputs = _by_packed(x, packed, bias)
    return outputs if layer.beside is None else add_by_row(layer, x, outputs)


@dataclass(frozen=True)
class Rounded:
    """A weight in 8 bits, each output's by its greatest value, in the layout of FBGEMM's kernels.

    A row of inputs is rounded to 8 bits in the same way, whatever stands beside it, where the processor adds such
    products without overflow (VNNI), else to 7; sums are exact.
    """

    weight: Any
    outputs: int
    dtype: torch.dtype = torch.float32

    def product(self, x: Float[Tensor, "*B D"], bias: Float[Tensor, " E"] | None) -> Float[Tensor, "*B E"]:
        """x @ weight^T + bias."""
        rows = x.reshape(-1, x.shape[-1])
        greatest = rows.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(x.dtype).tiny)
        steps = 127 if torch.cpu._is_vnni_supported() else 63
        sums = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows / greatest, 1 / steps, steps + 1, self.weight
        )
        outputs: Tensor = sums * greatest if bias is None else torch.addcmul(bias, sums, greatest)
        return outputs.view(*x.shape[:-1], self.outputs)


def rounded_weight(weight: Float[Tensor, "E D"]) -> Rounded | None:
    """The weight in 8 bits; None where it is no float32 on a processor that has kernels for it."""
    engines, engine = torch.backends.quantized.supported_engines, torch.backends.quantized.engine
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or "fbgemm" not in engines:
        return None
    scales = (weight.detach().abs().amax(1).double() / 127).clamp_(min=1e-30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have people take another package for training with rounding
        torch.backends.quantized.engine = "fbgemm"
        try:
            zeros = torch.zeros(len(weight), dtype=torch.long)
            small = torch.quantize_per_channel(weight.detach(), scales, zeros, 0, torch.qint8)
            return Rounded(torch.ops.quantized.linear_prepack(small, None), len(weight))
        finally:
            torch.backends.quantized.engine = engine


def _by_packed(
    x: Float[Tensor, "*B D"], packed: Tensor | Rounded, bias: Float[Tensor, " E"] | None
) -> Float[Tensor, "*B E"]:
    if isinstance(packed, Rounded):
        return packed.product(x, bias)
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]


class Linear(nn.Linear):
    """torch's linear layer, computed by `product`.

    Args:
        inputs: D.
        outputs: E, or the rows of each of several matrices stacked in the weight.
        bias: whether there is a bias.
    """

    packed: Tensor | Rounded | None = None
    packed_from: int = 1
    beside: Mapping[int | None, Any] | None = None

    def __init__(self, inputs: int, outputs: int | tuple[int, ...], bias: bool = True) -> None:
        rows = (outputs,) if isinstance(outputs, int) else outputs
        super().__init__(inputs, sum(rows), bias)
        self.stacked = {"weight": rows}

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B E"]:
        """Shape (... D) in, (... E) out."""
        return product(x, self)


def initialize(model: nn.Module) -> None:
    """Glorot-uniform matrices and zero biases; embeddings keep their own normal start."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def matrices(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The weight matrices of a model's layers by name, each with the rows of the matrices stacked in it.

    A layer declares them as `stacked`, by the names of its parameters; torch's own linear layers have one each.
    Embedding tables are not included.
    """
    rows_of: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_modules():
        default = {"weight": (layer.out_features,)} if isinstance(layer, nn.Linear) else {}
        rows_of |= {f"{name}.{key}".lstrip("."): rows for key, rows in getattr(layer, "stacked", default).items()}
    return rows_of


def packed_weight(weight: Float[Tensor, "E D"]) -> Tensor | None:
    """A copy in the kernels' layout; None where this device or processor has no kernels for its type."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    bf16 = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if weight.dtype != torch.float32 and not bf16:
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
    return packed


def pack(
    model: nn.Module, packed: Mapping[int, Tensor | Rounded] = MappingProxyType({}), *, int8: bool = False
) -> None:
    """Packs the weights of a model that will not be trained further, where it pays; this doubles their memory.

    Args:
        model: the model.
        packed: weights that are packed already, by the address of the weight.
        int8: whether weights that are large enough for it to pay are rounded to 8 bits.
    """
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "packed") and isinstance(layer.weight, Tensor):
            weight = effective(layer)
            if int8 and weight.numel() >= _ROUNDED and (rounded := rounded_weight(weight)) is not None:
                layer.packed, layer.packed_from = rounded, 1
                continue
            # A changed weight would be computed again in every product.
            least = _rows_that_gain(weight) if weight is layer.weight else 1
            if least:
                layer.packed, layer.packed_from = packed.get(weight.data_ptr()), least
                layer.packed = packed_weight(weight) if layer.packed is None else layer.packed


def _rows_that_gain(weight: Float[Tensor, "E D"]) -> int:
    """From how many rows on a product is faster with the packed weight; 0 = with none."""
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or _one_row_gains():
        return 1
    return next((rows for size, rows in _GAINS if weight.numel() >= size), 0)


@cache
@torch.inference_mode()
def _one_row_gains() -> bool:
    """Whether one row of float32 gains by a packed weight, as it does by 2.6 where plain products are slow.

    It is timed, as no name of a processor says it; elsewhere it loses a fifth, so that noise decides nothing.
    """
    x, weight = torch.zeros(1, 768), torch.zeros(3072, 768)
    if (packed := packed_weight(weight)) is None:
        return False
    ways, best = (partial(F.linear, x, weight), partial(_by_packed, x, packed, None)), [math.inf, math.inf]
    for _ in range(8):
        for i, way in enumerate(ways):
            begun = time.perf_counter()
            way()
            best[i] = min(best[i], time.perf_counter() - begun)
    return best[0] > 1.5 * best[1]


def packed_weights(model: nn.Module) -> dict[int, Tensor | Rounded]:
    """What `pack` packed, by the address of the weight."""
    layers: Any = (layer for layer in model.modules() if getattr(layer, "packed", None) is not None)
    return {layer.weight.data_ptr(): layer.packed for layer in layers}


def unpack(model: nn.Module) -> None:
    """Takes back what `pack` did."""
    for layer in model.modules():
        vars(layer).pop("packed", None)
