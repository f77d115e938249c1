"""The next frame against a loop written by hand, in float64."""

from __future__ import annotations

import pytest
import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import FrameConfig, Inputs
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.next_frame import NextFrame

C, B, T = 3, 2, 7
STACK = TransformerConfig(layers=2, width=12, inner=8, heads=2, dropout=0.0)
CELLS = RecurrentDecoderConfig(cell="lstm", layers=2, width=7, dropout=0.0)


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


def by_hand(model: LanguageModel, part: ReadingBatch) -> torch.Tensor:
    """The loss, frame by frame and value by value."""
    assert part.targets is not None
    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        state, last = model.start(), [0.0] * C
        for t in range(T):
            frame = part.inputs["signal"].values[b, t]
            hidden, state = model.decode(frame[None, None], state)
            last = [old if new.isnan() else float(new) for old, new in zip(last, frame, strict=True)]
            changes = model.head(hidden[0, 0])
            for c in range(C):
                target = part.targets[b, t, c]
                total = total + (0 if target.isnan() else (last[c] + changes[c] - target) ** 2)
    return total


@pytest.mark.parametrize("decoder", [STACK, CELLS], ids=lambda d: d.kind)
def test_loss_and_gradients_are_those_of_a_loop(decoder):
    torch.manual_seed(2)
    model = LanguageModel(DecoderOnlyConfig(decoder=decoder, embedder=FrameConfig(C)), 0).double()
    part, parameters = batch(), [*model.parameters()]
    with torch.no_grad():
        assert by_hand(model, part) == pytest.approx(
            float(NextFrame()(model, part).value)
        )  # it begins without a change
        model.head.linear.weight.normal_(std=0.3)
    loss = NextFrame()(model, part)
    with torch.no_grad():
        assert loss.nll == pytest.approx(float(by_hand(model, part)), rel=1e-12)
    assert loss.tokens == part.tokens
    if decoder is CELLS:  # the cache of a Transformer has no gradient
        gradients = [torch.autograd.grad(each, parameters) for each in (loss.value, by_hand(model, part))]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
