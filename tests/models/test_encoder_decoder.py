from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.config import build
from seqloom.errors import ConfigError
from seqloom.models.assemblies import parameter_count
from seqloom.models.decoders import make_decoder
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.presets import TRANSLATION
from seqloom.nn.embedders import Inputs
from seqloom.nn.memory import Memory
from seqloom.nn.positions import Learned
from seqloom.nn.transformer import TransformerConfig

STACK = TransformerConfig(layers=1, width=15, inner=13, heads=3, dropout=0.0)
V = 11


def model(words: int = V, **choices: Any) -> EncoderDecoder:
    return EncoderDecoder(EncoderDecoderConfig(**({"encoder": STACK, "decoder": STACK} | choices)), V, words)


def preset(name: str, words: int) -> EncoderDecoder:
    """The model of a preset, without memory for its weights."""
    with torch.device("meta"):
        return EncoderDecoder(build(EncoderDecoderConfig, {"preset": name}), words, words)


def test_all_tied_is_one_table() -> None:
    for embedding in (0, 7):
        tied = model(tie="all", embedding=embedding)
        assert tied.source.weight is tied.target.weight is tied.head.weight
        apart = parameter_count(model(tie="none", embedding=embedding))
        assert apart - parameter_count(tied) == 2 * V * (embedding or 15)


def test_decoder_and_output_tied_are_one_table_and_the_source_another() -> None:
    tied = model(tie="decoder-output", words=13)
    assert tied.target.weight is tied.head.weight
    assert tied.source.weight is not tied.target.weight
    assert (len(tied.source.weight), len(tied.target.weight)) == (11, 13)


def test_untied_are_three_tables_which_share_no_storage() -> None:
    free = model(tie="none")
    assert (
        len({t.untyped_storage().data_ptr() for t in (free.source.weight, free.target.weight, free.head.weight)}) == 3
    )


def test_a_tied_table_stays_one_when_it_moves() -> None:
    for moved in (model().double(), model().bfloat16()):
        assert moved.source.weight is moved.target.weight is moved.head.weight


def test_the_halves_may_differ_in_width_and_depth() -> None:
    encoder = TransformerConfig(layers=2, width=14, inner=5, heads=7)
    mixed = model(encoder=encoder, tie="decoder-output", words=13).eval()
    source, target = (torch.zeros(2, length, dtype=torch.long) for length in (3, 5))
    assert mixed(Inputs.text(source), target).shape == (2, 5, 15)


def test_impossible_ties_are_refused() -> None:
    other = TransformerConfig(width=14, heads=7)
    with pytest.raises(ValueError, match="of one width"):
        EncoderDecoderConfig(encoder=STACK, decoder=other, tie="all")
    assert EncoderDecoderConfig(encoder=STACK, decoder=other, tie="all", embedding=5).embedding == 5
    with pytest.raises(ValueError, match="one vocabulary for both sides, not 11 and 13"):
        model(words=13, tie="all")


def test_matrices_start_glorot_uniform_and_biases_at_zero() -> None:
    start = model()
    weight = start.encoder.stack.blocks[0].feedforward.expand.weight
    bound = (6 / (15 + 13)) ** 0.5
    assert 0.9 * bound < weight.abs().max().item() <= bound
    assert not start.encoder.stack.blocks[0].attention.qkv.bias.any()


def test_the_limits_are_those_of_the_positions() -> None:
    learned = TransformerConfig(positions=Learned(length=7))
    assert (STACK.limit, learned.limit) == (None, 7)


def test_a_decoder_without_a_memory_is_a_language_model() -> None:
    decoder, x = make_decoder(STACK, 15, 15, 15).eval(), torch.randn(2, 5, 15)
    whole, _ = decoder(x, decoder.start(None, keep=False))
    state, steps = decoder.start(None, keep=True), []
    for piece in x.split(2, dim=1):
        hidden, state = decoder(piece, state)
        steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    other, _ = decoder(x, decoder.start(Memory(torch.randn(2, 3, 15), None, torch.randn(2, 15)), keep=False))
    assert not torch.allclose(other, whole)


@pytest.mark.parametrize("name", TRANSLATION)
def test_every_preset_is_a_model(name: str) -> None:
    made = preset(name, 97)
    assert all(p.is_meta for p in made.parameters())
    source, target = (torch.zeros(2, length, dtype=torch.long, device="meta") for length in (3, 5))
    hidden = made(Inputs.text(source), target)
    assert hidden.shape == (2, 5, made.config.decoder.width)


@pytest.mark.parametrize(("name", "millions"), [("base", 65), ("big", 213)])
def test_the_papers_models_have_the_papers_sizes(name: str, millions: int) -> None:
    assert parameter_count(preset(name, 37_000)) == pytest.approx(millions * 1e6, rel=0.03)


def test_the_lstm_of_2014_has_its_size() -> None:
    # Sutskever et al. 2014, section 3.4: 384 million, 64 million of them recurrent; the bridge is ours.
    with torch.device("meta"):
        made = EncoderDecoder(build(EncoderDecoderConfig, {"preset": "seq2seq-2014"}), 160_000, 80_000)
    recurrent = parameter_count(made.encoder) + parameter_count(made.decoder.stack)
    assert recurrent == pytest.approx(64e6, rel=0.01)
    assert parameter_count(made) - parameter_count(made.decoder.bridge) == pytest.approx(384e6, rel=0.01)


def test_attention_that_does_not_fit_is_refused() -> None:
    tree = {"encoder": {"kind": "recurrent"}, "decoder": {"kind": "recurrent", "attention": {"score": "dot"}}}
    with pytest.raises(ConfigError, match="as wide as the memory, 512, not 256"):
        build(EncoderDecoderConfig, tree)


def test_base_counted_by_hand() -> None:
    D, F, layers, words = 512, 2048, 6, 37_000
    attention, norm, feedforward = 4 * (D * D + D), 2 * D, D * F + F + F * D + D
    encoder, decoder = attention + feedforward + 2 * norm, 2 * attention + feedforward + 3 * norm
    assert parameter_count(preset("base", words)) == layers * (encoder + decoder) + words * D


def test_what_is_given_lies_over_the_preset() -> None:
    config = build(EncoderDecoderConfig, {"preset": "base", "encoder": {"layers": 12}, "tie": "none"})
    assert (config.encoder.layers, config.decoder.layers, config.encoder.width) == (12, 6, 512)
    assert (config.tie, config.preset) == ("none", "base")
    with pytest.raises(ConfigError, match=r"unknown preset 'bsae'.*did you mean 'base'"):
        build(EncoderDecoderConfig, {"preset": "bsae"})
