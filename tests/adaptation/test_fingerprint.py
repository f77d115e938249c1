"""The fingerprint of models of every modality: the same for the same weights, another for others."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from seqloom.adaptation.fingerprint import TOLERANCE, apart, fingerprint
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.embedders import FrameConfig, PatchConfig
from seqloom.nn.front import FrontConfig
from seqloom.nn.transformer import TransformerConfig

STACK = TransformerConfig(layers=1, width=12, inner=7, heads=2)
PATCHES = PatchConfig(size=6, patch=3, channels=1)
MODELS = {
    "texts": lambda: EncoderOnly(EncoderOnlyConfig(encoder=STACK), 17, {"label": 3}),
    "images": lambda: EncoderOnly(EncoderOnlyConfig(encoder=STACK, embedder=PATCHES, segments=0), 0, {"label": 3}),
    "signals": lambda: EncoderOnly(
        EncoderOnlyConfig(encoder=STACK, embedder=FrameConfig(5), front=FrontConfig((2, 1), 3), pooling="mean"),
        0,
        {"label": 3},
    ),
    "captions": lambda: EncoderDecoder(
        EncoderDecoderConfig(encoder=STACK, decoder=STACK, source=PATCHES, tie="decoder-output"), 0, 17
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_it_tells_weights_apart(kind: str) -> None:
    model: nn.Module = MODELS[kind]().eval()
    numbers = fingerprint(model)
    assert len({*numbers}) == len(numbers)
    assert all(map(math.isfinite, numbers))
    assert apart(numbers, fingerprint(model)) == 0
    inside = "encoder.stack.blocks.0.feedforward.expand.weight"
    reading = next(n for n, p in model.named_parameters() if p.ndim > 1 and n.split(".")[0] in ("embedder", "source"))
    for name in (inside, reading):
        with torch.no_grad():
            model.get_parameter(name).mul_(1.2)
        other = fingerprint(model)
        assert apart(numbers, other) > TOLERANCE, name
        numbers = other
