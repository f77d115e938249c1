from __future__ import annotations

import pytest
import torch
from torch import nn

from seqloom.errors import UsageError
from seqloom.models.decoders import make_decoder
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoders import BagConfig
from seqloom.models.inputs import Join, make_embedder
from seqloom.nn.embedders import EmbedderConfig, Inputs, PatchConfig, PatchEmbedder, TokenEmbedder
from seqloom.nn.memory import Memory
from seqloom.nn.transformer import TransformerConfig

B, D = 2, 12


def memory(positions: int, width: int, summary: int, mask: list[list[bool]] | None = None) -> Memory:
    real = None if mask is None else torch.tensor(mask)
    return Memory(torch.randn(B, positions, width).double(), real, torch.randn(B, summary).double())


@torch.no_grad()
def test_attention_over_joined_memories_is_that_over_their_projected_states() -> None:
    text = memory(3, 7, 5, [[True, True, False], [True, False, False]])
    image = memory(5, D, 11)
    join = Join({"text": (7, 5), "image": (D, 11)}, D).double()
    joint = join({"text": text, "image": image})
    decoder = make_decoder(TransformerConfig(layers=1, width=D, inner=5, heads=2), D, D, D).double().eval()
    x = torch.randn(B, 4, D).double()
    together, _ = decoder(x, decoder.start(joint, keep=False))
    layer = join.states["text"]
    states = torch.cat(
        (text.states @ layer.weight.T + layer.bias + join.kinds["text"], image.states + join.kinds["image"]), 1
    )
    for b, length in enumerate((2, 1)):
        own = torch.cat((states[b : b + 1, :length], states[b : b + 1, 3:]), 1)
        alone, _ = decoder(x[b : b + 1], decoder.start(Memory(own, None, joint.summary[b : b + 1]), keep=False))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-12)
    summaries = [join.summaries[name](m.summary) for name, m in (("text", text), ("image", image))]
    torch.testing.assert_close(joint.summary, sum(summaries) / 2)


def test_only_what_has_another_width_is_projected() -> None:
    join = Join({"text": (D, D), "image": (D, 7)}, D)
    assert [type(layer) for layer in join.states.values()] == [nn.Identity, nn.Identity]
    assert isinstance(join.summaries["text"], nn.Identity)
    assert join.summaries["image"].weight.shape == (D, 7)


@pytest.mark.parametrize("widths", [(7, 5), (8, 11)], ids=["summaries", "states"])
def test_memories_of_unequal_width_are_not_joined_as_they_are(widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="unequal width"):
        memory(2, 7, 11).concat(memory(3, *widths))


def test_an_embedder_is_chosen_by_kind() -> None:
    tokens = make_embedder(EmbedderConfig(frozen=True), D, 17, 5)
    assert isinstance(tokens, TokenEmbedder)
    assert (tokens.weight.shape, tokens.weight.requires_grad, tokens.modality) == ((17, 5), False, "text")
    assert TokenEmbedder(17, D, 5, tokens.weight).weight is tokens.weight
    patches = make_embedder(PatchConfig(size=6, patch=3, channels=3), D, 0, 0)
    assert isinstance(patches, PatchEmbedder)
    assert patches.modality == "image"


def test_a_model_refuses_inputs_of_another_modality() -> None:
    model = EncoderOnly(EncoderOnlyConfig(encoder=BagConfig(D)), 17, {})
    with pytest.raises(UsageError, match="reads text, the inputs are image"):
        model(Inputs.image(torch.zeros(1, 3, 6, 6)))
