"""Linear layers whose weights can be packed for use.

A packed weight lies in memory as the processor's kernels read it. For the few rows of a step of decoding that is 1.5 to
4 times as fast as packing it anew in every product (docs/benchmarks.md, "Packed weights").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.shapes import Float, Tensor

_ROWS = 16  # for which the layout is chosen; what is best for these is good for any number


def product(
    x: Float[Tensor, "*B D"],
    weight: Float[Tensor, "E D"],
    bias: Float[Tensor, " E"] | None = None,
    packed: Tensor | None = None,
) -> Float[Tensor, "*B E"]:
    """x @ weight^T + bias. `packed` = the weight as `packed_weight` gave it; of no use where gradients are wanted."""
    if packed is None or torch.is_grad_enabled() or x.dtype != packed.dtype or not x.numel():
        return F.linear(x, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return found


class Linear(nn.Linear):
    """torch's linear layer by way of `product`."""

    packed: Tensor | None = None
    parts: tuple[int, ...] = ()
    """The rows of each of several matrices that are stacked in the weight; () = it is one."""

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B E"]:
        """Shape (... D) in, (... E) out."""
        return product(x, self.weight, self.bias, self.packed)


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
    """Packs the weights of a model that will not change any more; it takes their memory once more."""
    for module in model.modules():
        if hasattr(module, "packed") and isinstance(weight := module.weight, Tensor):
            setattr(module, "packed", packed_weight(weight))  # noqa: B010 - the attribute of two classes
