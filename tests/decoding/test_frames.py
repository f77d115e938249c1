"""Signals continued step by step are what the model gives for all steps at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqloom.decoding.engine import Engine
from seqloom.decoding.frames import continued
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import FrameConfig, Inputs
from seqloom.nn.positions import Learned
from seqloom.nn.transformer import TransformerConfig

C, R, T, N = 3, 2, 5, 6
DECODERS = [
    TransformerConfig(layers=2, width=12, inner=8, heads=2, positions=Learned(length=8)),
    RecurrentDecoderConfig(cell="gru", layers=2, width=7),
    ConvolutionalConfig(layers=2, width=12, positions=Learned(length=8)),
]


def next_frame(model: LanguageModel, frames: Tensor) -> Tensor:
    return frames[:, -1:] + model.head(model(Inputs.signal(frames))[0][:, -1:])


@torch.no_grad()
@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
def test_each_prediction_is_read_as_the_next_frame_and_a_full_context_starts_over(decoder):
    torch.manual_seed(1)
    model = LanguageModel(DecoderOnlyConfig(decoder=decoder, embedder=FrameConfig(C)), 0).eval()
    context = None if model.carries else 8
    frames = torch.randn(R, T, C)
    torch.nn.init.normal_(model.head.linear.weight, std=0.3)
    frames[0, 1, 2] = torch.nan
    found = continued(Engine(model, context, 0), frames, N)
    read = frames
    for n in range(N):
        new = next_frame(model, read)
        torch.testing.assert_close(found[:, n : n + 1], new, rtol=1e-4, atol=1e-5)
        read = torch.cat((read, new), 1)
        if context is not None and read.shape[1] > context:
            read = read[:, -context // 2 :]
