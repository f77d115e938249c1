"""A few numbers by which an adapted model is recognized where its adapter is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from seqloom.models.assemblies import limit_of
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.models.multimodal import Multimodal, Writing
from seqloom.nn.embedders import FrameEmbedder, Inputs, Modality, PatchEmbedder
from seqloom.shapes import Ids, Tensor

TOLERANCE = 1e-4
"""How far two fingerprints of one model may be apart, as a share of the size of its outputs.

In float32, other kernels and numbers of threads differ by less than a tenth of it; see docs/adaptation.md.
"""
_TOKENS, _SUMS = 12, 7


@torch.no_grad()
def fingerprint(model: Any) -> list[float]:
    """The size (root of the mean square) of a model's outputs for fixed inputs, and weighted sums over all of them.

    The outputs are the logits of a language model or a translator, and those of all heads of a model that reads, or of
    all tasks. Half of the tokens are the last of the vocabulary, where new ones are.
    """
    values = _outputs(model).double()
    places = torch.arange(len(values)).double()
    sums = [float((values * (k * places).cos()).sum()) / len(values) ** 0.5 for k in range(1, _SUMS + 1)]
    return [float(values.square().mean().sqrt()), *sums]


def _outputs(model: Any) -> Tensor:
    match model:
        case LanguageModel():
            outputs: Tensor = model.head(model(_inputs(model, model.embedder))[0])
        case EncoderDecoder() | Writing():
            target = _tokens(model, model.target).flip(1)
            outputs = model.head(model(_inputs(model, model.source), target))
        case Multimodal():
            outputs = torch.cat([_outputs(model.view(task)) for task in model.reads])
        case _:
            memory = model(_inputs(model, model.embedder))
            outputs = torch.cat([model.score(name, memory).flatten() for name in model.heads])
    return outputs.flatten()


def apart(numbers: Sequence[float], others: Sequence[float]) -> float:
    """How far two fingerprints are apart, as a share of the size of the outputs of the first."""
    return max(abs(a - b) for a, b in zip(numbers, others, strict=True)) / max(numbers[0], 1e-30)


def _inputs(model: Any, embedder: Any) -> Inputs:
    match embedder:
        case PatchEmbedder(config=config):
            shape: tuple[int, ...] = (1, config.channels, config.size, config.size)
        case FrameEmbedder():
            shape = (1, _TOKENS, embedder.channels)
        case _:
            return Inputs.text(_tokens(model, embedder))
    values = torch.arange(math.prod(shape)).cos().view(shape)
    return Inputs({embedder.modality: Modality(values)})


def _tokens(model: Any, embedder: Any) -> Ids:
    V, limits = len(embedder.weight), [limit_of(model.config)]
    limits += [model.config.decoder.limit] if isinstance(model, EncoderDecoder | Writing) else []
    count = min([_TOKENS, *(limit for limit in limits if limit)])
    last = count // 2
    ids = [*(i * V // (count - last) for i in range(count - last)), *((V - 1 - i) % V for i in range(last))]
    return torch.tensor([ids])
