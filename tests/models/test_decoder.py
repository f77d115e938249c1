from __future__ import annotations

import pytest
import torch

from seqloom.config import build
from seqloom.errors import ConfigError
from seqloom.models.assemblies import parameter_count
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.presets import LANGUAGE
from seqloom.models.recurrent import RecurrentDecoder, RecurrentDecoderConfig
from seqloom.nn.scored_attention import AttentionConfig


def preset(name: str, words: int) -> LanguageModel:
    with torch.device("meta"):
        return LanguageModel(build(DecoderOnlyConfig, {"preset": name}), words)


@pytest.mark.parametrize(
    ("name", "words", "size"),
    [
        ("gpt2", 50257, 124_439_808),
        ("gpt2-medium", 50257, 354_823_168),
        ("gpt2-large", 50257, 774_030_080),
        ("gpt2-xl", 50257, 1_557_611_200),
        ("llama-135m", 49152, 134_515_008),
        ("llama-360m", 49152, 361_821_120),
    ],
)
def test_the_published_sizes(name: str, words: int, size: int) -> None:
    assert parameter_count(preset(name, words)) == size


def test_the_small_presets_are_of_one_size() -> None:
    small = {name: parameter_count(preset(name, 8000)) for name in LANGUAGE if name.startswith("small-")}
    assert len(small) == 3
    assert small == pytest.approx(dict.fromkeys(small, small["small-transformer"]), rel=0.01)
    assert all(6e6 < size < 8e6 for size in small.values())


def test_the_lstm_counted_by_hand() -> None:
    E, D, V = 320, 512, 8000
    lstm = 4 * D * (E + D + 2) + 4 * D * (D + D + 2)
    assert parameter_count(preset("small-lstm", V)) == V * E + D * E + lstm


@pytest.mark.parametrize(
    "decoder", [{"attention": {"score": "dot"}}, {"context": "repeated"}, {"input_feeding": True}], ids=str
)
def test_what_needs_a_memory_is_refused(decoder: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="need an encoder's memory, and this model has none"):
        build(DecoderOnlyConfig, {"decoder": {"kind": "recurrent", **decoder}})
    with pytest.raises(ValueError, match="need an encoder's memory"):
        RecurrentDecoder(RecurrentDecoderConfig(attention=AttentionConfig()), 5, 0, 0)


def test_no_parameter_is_for_a_memory() -> None:
    for kind in ("recurrent", "convolutional", "transformer"):
        names = dict(LanguageModel(build(DecoderOnlyConfig, {"decoder": {"kind": kind}}), 11).named_parameters())
        assert not [n for n in names if any(word in n for word in ("cross", "bridge", "contexts", "start_from"))]


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_an_impossible_weight_drop_is_refused(drop: float) -> None:
    with pytest.raises(ValueError, match="weight_drop must be from 0 to below 1"):
        RecurrentDecoderConfig(weight_drop=drop)
