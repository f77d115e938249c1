"""Linear layers whose weights can be packed for use.

A packed weight lies in memory as the processor's kernels read it. For the few rows of a step of decoding that is up to
4 times as fast as packing it anew in every product, and slower where weights are small (docs/benchmarks.md, "Packed
weights").
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.nn.effective import effective
from seqloom.shapes import Float, Tensor

_SMALL = 1 << 18  # values of a weight below which packing does not pay on a processor with AVX2 alone
_ROWS = 16  # for which the layout is chosen; what is best for these is good for any number


def product(x: Float[Tensor, "*B D"], layer: nn.Module) -> Float[Tensor, "*B E"]:
    """x @ weight^T + bias of a layer, by its effective weight.

    Its `packed` is None or that weight as `packed_weight` gave it, which is of no use where gradients are wanted, or
    for fewer than `packed_from` rows.
    """
    packed: Any = layer.packed
    bias: Any = layer.bias
    least: Any = layer.packed_from
    few = x.numel() < max(1, least * x.shape[-1])
    if packed is None or torch.is_grad_enabled() or x.dtype != packed.dtype or few:
        return F.linear(x, effective(layer), bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return found


class Linear(nn.Linear):
    """torch's linear layer by way of `product`.

    Args:
        inputs: D.
        outputs: E, or the rows of each of several matrices that are stacked in the weight.
        bias: whether there is one.
    """

    packed: Tensor | None = None
    packed_from: int = 1

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
    """Of each matrix that a layer of the model multiplies by, the rows of each of those that are stacked in it.

    A layer says so itself, as `stacked`, by the names of its parameters; torch's own linear layers have one each.
    Tables of vectors are not among them.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_modules():
        own = {"weight": (layer.out_features,)} if isinstance(layer, nn.Linear) else {}
        found |= {f"{name}.{key}".lstrip("."): rows for key, rows in getattr(layer, "stacked", own).items()}
    return found


def packed_weight(weight: Float[Tensor, "E D"]) -> Tensor | None:
    """A copy in the layout of the kernels; None where there are none for its device, or its type on this processor."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    bf16 = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if weight.dtype != torch.float32 and not bf16:
        return None
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
    return found


def pack(model: nn.Module) -> None:
    """Packs the weights of a model that will not change any more, where it pays; it takes their memory once more."""
    wide = torch.backends.cpu.get_cpu_capability() != "AVX2"
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "packed") and isinstance(layer.weight, Tensor):
            weight = effective(layer)
            always = wide or weight is not layer.weight  # a changed weight would be made anew in every product
            if always or weight.numel() >= _SMALL:
                layer.packed, layer.packed_from = packed_weight(weight), 1 if always else 2
