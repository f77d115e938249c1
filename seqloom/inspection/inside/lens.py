"""The logit lens: what a model would predict if it ended after an earlier layer (nostalgebraist 2020)."""

from __future__ import annotations

from typing import Any

import torch

from seqloom.errors import UsageError
from seqloom.inspection.inside.inspected import Inspected
from seqloom.nn.transformer import TransformerStack
from seqloom.shapes import Float, Tensor


@torch.no_grad()
def logit_lens(inspected: Inspected) -> Float[Tensor, "L N V"]:
    """The scores after each layer of the last stack, the embeddings first; the last are those of the model.

    Raises UsageError for a model whose head does not read a Transformer's residual stream.
    """
    modules, streams = dict(inspected.model.named_modules()), [*inspected.seen.streams]
    stack = max((name for name in streams if streams[-1].startswith(f"{name}.")), key=len, default="")
    module: Any = modules.get(stack)
    if not isinstance(module, TransformerStack):
        cure = "look at its recurrent layers or its residual stream"
        raise UsageError("a logit lens needs a Transformer before the head", cure=cure)
    return torch.stack([inspected.final(module.norm(x))[0].float().cpu() for x in inspected.seen.residual(stack)])
