"""The assemblies that a config can ask for: encoder-decoders, decoders and encoders alone."""

from __future__ import annotations

from collections.abc import Mapping

from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

ModelConfig = DecoderOnlyConfig | EncoderDecoderConfig | EncoderOnlyConfig
Model = LanguageModel | EncoderDecoder | EncoderOnly
CONFIGS = {c.kind: c for c in (DecoderOnlyConfig, EncoderDecoderConfig, EncoderOnlyConfig)}
"""Configs by kind."""


def make_model(config: ModelConfig, vocab_size: int, heads: Mapping[str, int]) -> Model:
    """The model, its weights still to be filled in."""
    match config:
        case DecoderOnlyConfig():
            return LanguageModel(config, vocab_size)
        case EncoderDecoderConfig():
            return EncoderDecoder(config, vocab_size, vocab_size)
    return EncoderOnly(config, vocab_size, heads)


def limit_of(config: ModelConfig) -> int | None:
    """The most positions of what is read, or None."""
    return config.decoder.limit if isinstance(config, DecoderOnlyConfig) else config.encoder.limit
