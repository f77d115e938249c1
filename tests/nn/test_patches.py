"""Patches of images as vectors, and what represents their places."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.errors import ConfigError
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoders import BagConfig
from seqloom.nn.embedders import Inputs, PatchConfig, PatchEmbedder, grid_sinusoids
from seqloom.nn.positions import Learned, NoPositions
from seqloom.nn.transformer import TransformerConfig

D = 14
PIXELS = torch.randn(3, 2, 15, 15)


def embedder(**options: object) -> PatchEmbedder:
    return PatchEmbedder(PatchConfig(size=15, patch=5, channels=2, **options), D).eval()  # type: ignore[arg-type]


def test_a_convolution_is_a_linear_layer_on_flattened_patches() -> None:
    made = embedder(class_token=False)
    out, weight = made(PIXELS), made.project.weight.flatten(1)
    assert out.shape == (3, 9, D)
    for b, row, column in ((0, 0, 0), (1, 2, 1), (2, 0, 2)):
        patch = PIXELS[b, :, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5].flatten()
        torch.testing.assert_close(out[b, 3 * row + column], F.linear(patch, weight, made.project.bias))


def test_the_class_token_and_learned_places() -> None:
    made = embedder(places="learned")
    out, plain = made(PIXELS), embedder(class_token=False)
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if k.startswith("project")})
    assert made.places is not None
    assert made.first is not None
    assert made.places.shape == (10, D)
    torch.testing.assert_close(out[:, 0], (made.first + made.places[0]).expand(3, D))
    torch.testing.assert_close(out[:, 1:], plain(PIXELS) + made.places[1:])


def test_sines_state_row_and_column() -> None:
    made, plain = embedder(places="sines"), embedder()
    plain.load_state_dict(made.state_dict())
    added = (made(PIXELS) - plain(PIXELS))[0]
    torch.testing.assert_close(added[0], torch.zeros(D))
    for row, column in ((0, 0), (2, 1), (1, 2)):
        for k in (0, 3):  # of 7 features for each, 4 are sines
            rate = 10_000 ** (-2 * k / 7)
            vector = added[1 + 3 * row + column]
            assert vector[k].item() == pytest.approx(math.sin(row * rate), abs=1e-5)
            assert vector[7 + k].item() == pytest.approx(math.sin(column * rate), abs=1e-5)
    assert len({tuple(v.tolist()) for v in grid_sinusoids(5, 8)}) == 25


@pytest.mark.parametrize(("patch", "stem", "side"), [(4, 1, 4), (8, 2, 2), (2, 3, 8)])
def test_a_stem_halves_the_image_down_to_its_patches(patch: int, stem: int, side: int) -> None:
    made = PatchEmbedder(PatchConfig(size=16, patch=patch, channels=3, stem=stem, class_token=False), 13).eval()
    pixels = torch.randn(2, 3, 16, 16)
    out = made(pixels)
    assert out.shape == (2, side * side, 13)
    assert len(made.stem) == stem * int(math.log2(patch))
    torch.testing.assert_close(made(pixels[1:]), out[1:])  # batch-mates change nothing
    changed = pixels.clone()
    changed[:, :, -1, -1] += 1
    assert not torch.allclose(made(changed)[:, -1], out[:, -1])


def test_sizes_come_from_the_data() -> None:
    config = EncoderOnlyConfig(encoder=TransformerConfig(width=12, heads=2), embedder=PatchConfig(patch=5))
    made = config.sized({"size": 15, "channels": 2, "unrelated": 3}).embedder
    assert made == PatchConfig(size=15, patch=5, channels=2)
    assert config.sized({}) == config
    with pytest.raises(ConfigError, match=r"model.embedder.size: is 15, that of the data 20"):
        config.sized({"size": 15}).sized({"size": 20})
    with pytest.raises(ConfigError, match="patch 5 must divide size 12"):
        config.sized({"size": 12})


def test_what_cannot_be_is_refused() -> None:
    patches, stack = PatchConfig(size=15, patch=5, channels=2), TransformerConfig(width=12, heads=2)
    with pytest.raises(ValueError, match="length is 9, an image has 10 positions"):
        EncoderOnlyConfig(encoder=TransformerConfig(width=12, heads=2, positions=Learned(9)), embedder=patches)
    with pytest.raises(ValueError, match="class_token must be true"):
        EncoderOnlyConfig(encoder=stack, embedder=PatchConfig(class_token=False), pooling="first")
    with pytest.raises(ValueError, match="must be a power of 2, not 6"):
        PatchConfig(patch=6, stem=1)


def test_a_cnn_is_a_stem_and_a_bag() -> None:
    patches = PatchConfig(size=8, patch=2, channels=1, stem=2, class_token=False)
    config = EncoderOnlyConfig(encoder=BagConfig(12, 0.0), embedder=patches, pooling="mean", segments=0)
    model, pixels = EncoderOnly(config, 0, {"label": 3}).eval(), torch.randn(2, 1, 8, 8)
    memory = model(Inputs.image(pixels))
    torch.testing.assert_close(model.pooled(memory), model.embedder(pixels).mean(1))


def test_without_positions_the_order_of_the_patches_changes_nothing() -> None:
    stack = TransformerConfig(layers=1, width=12, inner=8, heads=2, positions=NoPositions())
    patches = PatchConfig(size=8, patch=4, channels=1)
    model = EncoderOnly(EncoderOnlyConfig(encoder=stack, embedder=patches, segments=0), 0, {"label": 3}).eval()
    pixels = torch.randn(2, 1, 8, 8)
    one, other = (model.score("label", model(Inputs.image(p))) for p in (pixels, pixels.roll(4, 3)))
    torch.testing.assert_close(one, other)


def test_drop_path_leaves_sublayers_of_whole_examples_out() -> None:
    stack = TransformerConfig(layers=2, width=12, inner=8, heads=2, dropout=0.0, drop_path=0.5)
    patches = PatchConfig(size=8, patch=4, channels=1)
    model = EncoderOnly(EncoderOnlyConfig(encoder=stack, embedder=patches, segments=0), 0, {})
    blocks = model.encoder.stack.blocks
    assert [block.drop_path for block in blocks] == [0.25, 0.5]
    x = torch.randn(400, 5, 12)
    h = torch.ones_like(x)
    kept = (blocks[1].train()._join(x, h, torch.nn.Identity()) - x)[:, 0, 0]
    assert kept.round(decimals=3).unique().tolist() == [0, 2]
    assert (kept > 0).float().mean().item() == pytest.approx(0.5, abs=0.12)
    torch.testing.assert_close(blocks[1].eval()._join(x, h, torch.nn.Identity()), x + h)
