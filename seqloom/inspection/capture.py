"""Attention weights of a running model, captured without changing its output; and their entropy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from seqloom.inspection.attention import AttentionMap
from seqloom.nn.attention import observed
from seqloom.nn.embedders import Inputs
from seqloom.shapes import Bool, Float, Int, Tensor


@contextmanager
def captured(model: nn.Module) -> Iterator[dict[str, list[Float[Tensor, "B H T S"]]]]:
    """Collects the weights of each attention layer by the layer's name, one entry a call; on the CPU in float32."""
    names = {module: name for name, module in model.named_modules()}
    weights: dict[str, list[Tensor]] = {}

    def note(layer: nn.Module, seen: Tensor) -> None:
        if (name := names.get(layer)) is not None:
            weights.setdefault(name, []).append(seen.detach().float().cpu())

    with observed(note):
        yield weights


def attention_map(
    title: str, rows: Sequence[str], columns: Sequence[str], layers: Sequence[list[Tensor]]
) -> AttentionMap:
    """The captured weights of some layers over the first sequence of a batch; the steps of a layer are joined."""
    return AttentionMap(title, rows, columns, torch.stack([torch.cat(calls, 2)[0] for calls in layers]).numpy())


def self_attention(model: nn.Module, inputs: Inputs, tokens: Sequence[str]) -> list[AttentionMap]:
    """What each token of one text attends to; none where nothing attends."""
    with torch.inference_mode(), captured(model) as weights:
        model(inputs)
    return [attention_map("self-attention", tokens, tokens, [*weights.values()])] if weights else []


def entropies(
    weights: Float[Tensor, "B H T S"], mask: Bool[Tensor, "B T"], visible: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "N H"], Float[Tensor, " N"]]:
    """The entropy in nats of each real query's weights by head, and its maximum: the log of the visible positions.

    Weights that do not sum to one (a local window's bell) are normalized. Queries that see one position are left out.
    """
    p = weights / weights.sum(-1, keepdim=True)
    chosen = mask & (visible > 1)
    entropy = -(p * p.clamp(min=1e-30).log()).sum(-1).transpose(1, 2)  # B T H
    return entropy[chosen], visible[chosen].float().log()
