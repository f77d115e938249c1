"""Gated convolutions over a sequence (Dauphin et al. 2017; Gehring et al. 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.nn.effective import effective
from seqloom.shapes import Float, Int, Tensor


class GatedConvolution(nn.Module):
    """Windows of `kernel` positions -> 2 D features, half of which gate the other half (GLU).

    Args:
        width: D.
        kernel: k, the positions in a window.
        causal: whether a window ends at its position instead of being centered on it.
        dropout: the dropout of its input, which increases the variance; the initial weights compensate for it.
    """

    def __init__(self, width: int, kernel: int, *, causal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.kernel = kernel
        self.before = kernel - 1 if causal else (kernel - 1) // 2
        # Three times the usual variance, because the gates let about a third through. (Gehring et al. 2017, section
        # 3.5, use four times, for inputs so small that a quarter gets through.)
        variance = 3 * (1 - dropout) / (kernel * width)
        self.weight = nn.Parameter(torch.randn(2 * width, kernel * width) * variance**0.5)
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.stacked = {"weight": (width, width)}

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        past: Float[Tensor, "B P D"] | None = None,
        document: tuple[Int[Tensor, "B T"], Float[Tensor, "B 1 D"]] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The outputs.

        Args:
            x: the inputs.
            past: the positions before x; None = zeros.
            document: of a causal convolution, the position of each input in its document, and what fills the windows
                before the first one; None = one document per row.
        """
        B, T, D = x.shape
        around = (0, 0, self.before, self.kernel - 1 - self.before)
        x = F.pad(x, around) if past is None else torch.cat((past, x), 1)
        windows = x.unfold(1, self.kernel, 1)  # B T D k
        if document is not None:
            places, first = document
            back = torch.arange(self.kernel - 1, -1, -1, device=x.device)
            outside = back > places[:, :, None]  # B T k
            windows = torch.where(outside[:, :, None], first[..., None], windows)
        windows = windows.transpose(2, 3).reshape(B, T, self.kernel * D)  # B T (k D)
        return F.glu(F.linear(windows, effective(self), self.bias), -1)
