"""Linear layers whose weights can be packed for inference.

A packed weight has the memory layout that the processor's kernels read. For the few rows of a decoding step this is up
to 4 times as fast as packing it again in every product, but slower for small weights (docs/benchmarks.md, "Packed
weights").
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
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


def _by_packed(x: Float[Tensor, "*B D"], packed: Tensor, bias: Float[Tensor, " E"] | None) -> Float[Tensor, "*B E"]:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]


class Linear(nn.Linear):
    """torch's linear layer, computed by `product`.

    Args:
        inputs: D.
        outputs: E, or the rows of each of several matrices stacked in the weight.
        bias: whether there is a bias.
    """

    packed: Tensor | None = None
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


def pack(model: nn.Module, packed: Mapping[int, Tensor] = MappingProxyType({})) -> None:
    """Packs the weights of a model that will not be trained further, where it pays; this doubles their memory.

    `packed`: weights that are packed already, by the address of the weight.
    """
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "packed") and isinstance(layer.weight, Tensor):
            weight = effective(layer)
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


def packed_weights(model: nn.Module) -> dict[int, Tensor]:
    """What `pack` packed, by the address of the weight."""
    layers: Any = (layer for layer in model.modules() if getattr(layer, "packed", None) is not None)
    return {layer.weight.data_ptr(): layer.packed for layer in layers}


def unpack(model: nn.Module) -> None:
    """Takes back what `pack` did."""
    for layer in model.modules():
        vars(layer).pop("packed", None)
