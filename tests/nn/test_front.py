"""Convolutions over time: patches, lengths, padding; and frames with missing values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.errors import ConfigError
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoders import BagConfig
from seqloom.nn.embedders import FrameConfig, FrameEmbedder, Inputs, PatchConfig
from seqloom.nn.front import Front, FrontConfig

LENGTHS = torch.tensor([13, 7, 2])
MASK = torch.arange(13) < LENGTHS[:, None]


@pytest.mark.parametrize(("strides", "kernel"), [((1,), 1), ((3,), 3), ((2, 2), 5), ((1, 2, 3), 4), ((5, 1), 7)])
def test_padding_and_batch_mates_change_nothing(strides: tuple[int, ...], kernel: int) -> None:
    config = FrontConfig(strides, kernel)
    front, x = Front(config, 5, 6).double().eval(), torch.randn(3, 13, 5).double()
    states, mask = front(torch.where(MASK[:, :, None], x, 99.0), MASK)
    assert mask is not None
    for b, length in enumerate(LENGTHS.tolist()):
        alone, _ = front(x[b : b + 1, :length], None)
        assert int(mask[b].sum()) == alone.shape[1] == -(-length // config.stride)
        torch.testing.assert_close(states[b, : alone.shape[1]], alone[0])


def test_one_convolution_as_wide_as_its_stride_is_a_linear_layer_on_patches() -> None:
    front, x = Front(FrontConfig((3,), 3), 5, 6), torch.randn(2, 7, 5)
    layer = front.layers[0]
    assert isinstance(layer, torch.nn.Conv1d)
    patches = F.pad(x, (0, 0, 0, 2)).reshape(2, 3, 15)
    expected = F.linear(patches, layer.weight.transpose(1, 2).flatten(1), layer.bias)
    torch.testing.assert_close(front(x, None)[0], expected)


def test_a_convolution_reads_the_positions_around_its_own() -> None:
    front, x = Front(FrontConfig((1,), 5), 2, 3), torch.zeros(1, 11, 2)
    base, x[0, 6] = front(x.clone(), None)[0], 1.0
    changed = (front(x, None)[0] != base).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [4, 5, 6, 7, 8]


def test_a_missing_value_is_the_mean_and_is_marked() -> None:
    made, frames = FrameEmbedder(FrameConfig(channels=2), 7), torch.randn(1, 3, 2)
    frames[0, 1, 0] = torch.nan
    weight, bias = made.project.weight, made.project.bias
    assert bias is not None
    out = made(frames)
    torch.testing.assert_close(out[0, 0], weight[:, :2] @ frames[0, 0] + bias)
    torch.testing.assert_close(out[0, 1], weight[:, 1] * frames[0, 1, 1] + weight[:, 2] + bias)
    assert out.isfinite().all()


def test_a_front_has_its_limits() -> None:
    with pytest.raises(ValueError, match="kernel must be at least the stride 4"):
        FrontConfig((2, 4), 3)
    with pytest.raises(ValueError, match=r"model.front is for tokens and frames"):
        EncoderOnlyConfig(embedder=PatchConfig(size=8), front=FrontConfig((1,)))
    config = EncoderOnlyConfig(encoder=BagConfig(width=6), front=FrontConfig((2,)), pooling="mean")
    for head in ("tags", "span", "masked"):
        with pytest.raises(ConfigError, match=r"model.front.strides: shortens what is read"):
            EncoderOnly(config, 11, {head: 2})
    model = EncoderOnly(config, 11, {"label": 2}).eval()
    memory = model(Inputs.text(torch.randint(11, (3, 7))))
    assert memory.states.shape == (3, 4, 6)
    assert model.score("label", memory).shape == (3, 2)
