"""The next frame against a loop written by hand, in float64."""

from __future__ import annotations

import pytest
import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import FrameConfig, Inputs
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.next_frame import NextFrame

C, B, T = 3, 2, 7
DECODERS = [
    TransformerConfig(layers=2, width=12, inner=8, heads=2, dropout=0.0),
    RecurrentDecoderConfig(cell="lstm", layers=2, width=7, dropout=0.0),
    ConvolutionalConfig(layers=2, width=12, dropout=0.0),
]


def batch() -> ReadingBatch:
    """Two rows of standardized frames, of which one is padded, with values missing in what is read and predicted."""
    values = torch.randn(B, T + 1, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values[0, 2, 1] = values[1, 4] = torch.nan
    targets = values[:, 1:].clone()
    targets[1, 5:] = torch.nan
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[1, 6:] = False
    read = values[:, :-1].masked_fill(~mask[:, :, None], 0)
    return ReadingBatch(Inputs.signal(read, mask), targets, None, int((~targets.isnan()).sum()))


def by_hand(model: LanguageModel, part: ReadingBatch, forced: int) -> torch.Tensor:
    """The loss, frame by frame and value by value; from `forced` on, what was predicted is read."""
    assert part.targets is not None
    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        state, predicted = model.start(), torch.zeros(C, dtype=torch.float64)
        last = predicted
        for t in range(T):
            frame = part.inputs["signal"].values[b, t] if t < forced else predicted
            hidden, state = model.decode(frame[None, None], state)
            last = torch.stack([old if new.isnan() else new for old, new in zip(last, frame, strict=True)])
            predicted = model.head(hidden[0, 0]) + last
            for c in range(C):
                target = part.targets[b, t, c]
                total = total + (0 if target.isnan() else (predicted[c] - target) ** 2)
    return total


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: d.kind)
@pytest.mark.parametrize("free", [0, 4, 99])
def test_loss_and_gradients_are_those_of_a_loop(decoder, free):
    torch.manual_seed(2)
    model = LanguageModel(DecoderOnlyConfig(decoder=decoder, embedder=FrameConfig(C)), 0).double()
    torch.nn.init.normal_(model.head.linear.weight, std=0.3)
    objective, part, parameters = NextFrame(free), batch(), [*model.parameters()]
    for training, forced in ((True, max(1, T - free)), (False, T)):  # an evaluation reads what came
        loss = objective(model.train(training), part)
        expected = by_hand(model, part, forced)
        if training:
            gradients = [torch.autograd.grad(each, parameters) for each in (loss.value, expected)]
            for one, other in zip(*gradients, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert float(loss.value.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
        assert loss.nll == float(loss.value.detach())
        assert loss.tokens == part.tokens
