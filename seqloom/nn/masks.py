"""Boolean masks; True = may be attended to."""

from __future__ import annotations

import torch

from seqloom.shapes import Bool, Int, Tensor


def padding_mask(lengths: Int[Tensor, " B"], size: int) -> Bool[Tensor, "B S"]:
    """True on the first `lengths[b]` of `size` positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def causal_mask(queries: int, keys: int, device: torch.device | None = None, window: int = 0) -> Bool[Tensor, "T S"]:
    """Each of the last `queries` of `keys` positions sees itself and earlier ones, `window` at most (0 = all)."""
    past = torch.ones(queries, keys, dtype=torch.bool, device=device).tril_(keys - queries)
    return past.triu_(keys - queries - window + 1) if window else past


def additive(mask: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Tensor:
    """0 where the mask is True, elsewhere a number so low that softmax gives exactly 0.

    It is finite, so that a row that may attend to nothing gets equal weights instead of NaN.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min / 2)
