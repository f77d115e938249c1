"""What may be asked of the state of a decoder that does not keep its positions apart."""

import pytest
import torch

from seqloom.errors import UsageError
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.transformer import TransformerConfig

STACK = TransformerConfig(layers=1, width=6, inner=10, heads=2, dropout=0.0)
FOLDED = [RecurrentDecoderConfig(width=7, layers=1, dropout=0.0), ConvolutionalConfig(width=7, layers=2, dropout=0.0)]
IDS = torch.tensor([[3, 1, 4, 1, 5]])


@pytest.mark.parametrize("decoder", FOLDED, ids=lambda d: d.kind)
def test_folded_positions_cannot_be_taken_out_again(decoder: object) -> None:
    model = LanguageModel(DecoderOnlyConfig(decoder=decoder), 11).eval()  # type: ignore[arg-type]
    _, state = model.decode(IDS, model.start())
    assert not state.keeps_positions
    assert state.length == 5
    assert state.back(0) is state.padded(None) is state.apart(None) is state
    with pytest.raises(UsageError, match="cannot go back"):
        state.back(1)
    with pytest.raises(UsageError, match="cannot read padded rows"):
        state.padded(torch.tensor([1]))


def test_windows_within_a_text_cannot_be_told_apart() -> None:
    model = LanguageModel(DecoderOnlyConfig(decoder=FOLDED[1]), 11).eval()  # type: ignore[arg-type]
    _, state = model.decode(IDS, model.start())
    with pytest.raises(UsageError, match="documents cannot be told apart"):
        state.apart(torch.tensor([[0, 1, 1, 1, 1]]))


@torch.inference_mode()
def test_kept_positions_can() -> None:
    model = LanguageModel(DecoderOnlyConfig(decoder=STACK), 11).eval()
    _, five = model.decode(IDS, model.start())
    again, _ = model.decode(IDS[:, 3:], five.back(2))
    whole, _ = model.decode(IDS, model.start())
    torch.testing.assert_close(again, whole[:, 3:])
    padded, _ = model.decode(torch.cat((torch.tensor([[9, 9]]), IDS), 1), model.start().padded(torch.tensor([2])))
    torch.testing.assert_close(padded[:, 2:], whole)
