"""The assemblies that a config can ask for: encoder-decoders, decoders and encoders alone; and their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from seqloom.errors import UsageError
from seqloom.models.decoder import DecoderOnlyConfig, DecoderReader, LanguageModel
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.multimodal import Reading, Writing
from seqloom.nn.embedders import TokenEmbedder
from seqloom.nn.heads import VocabularyHead

ModelConfig = DecoderOnlyConfig | EncoderDecoderConfig | EncoderOnlyConfig
Model = LanguageModel | EncoderDecoder | EncoderOnly
TextReader = EncoderOnly | DecoderReader | Reading
"""What reads whole texts, with a head that scores them."""
TextWriter = EncoderDecoder | Writing
"""What reads a source and writes a text."""
CONFIGS = {c.kind: c for c in (DecoderOnlyConfig, EncoderDecoderConfig, EncoderOnlyConfig)}
"""Configs by kind."""


def make_model(config: ModelConfig, vocab_size: int, heads: Mapping[str, int]) -> Model:
    """The model, with freshly drawn weights. Raises UsageError for a language model with other heads."""
    match config:
        case DecoderOnlyConfig() if heads:
            raise UsageError("a language model that scores whole texts has no published format", cure="use it here")
        case DecoderOnlyConfig():
            return LanguageModel(config, vocab_size)
        case EncoderDecoderConfig():
            return EncoderDecoder(config, vocab_size, vocab_size)
    return EncoderOnly(config, vocab_size, heads)


class Undrawn(TorchFunctionMode):
    """A context that leaves out the drawing of initial values, which takes longer than all the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def unallocated() -> Iterator[None]:
    """A context in which models are made without memory: their parameters have shapes and no values."""
    with torch.device("meta"), Undrawn():
        yield


def limit_of(config: ModelConfig) -> int | None:
    """The most positions the model reads, or None; a front makes fewer of them."""
    if isinstance(config, DecoderOnlyConfig):
        return config.decoder.limit
    limit, front = config.encoder.limit, getattr(config, "front", None)
    return limit if limit is None or front is None else limit * front.stride


def parameter_count(model: nn.Module) -> int:
    """The number of parameters; a shared table counts once."""
    return sum(p.numel() for p in model.parameters())


def vocabulary_parameters(model: nn.Module) -> list[str]:
    """The names of the parameters with one row a token: embedding tables, weights and biases of vocabulary heads."""
    tables = [m for m in model.modules() if isinstance(m, TokenEmbedder | VocabularyHead)]
    ids = {id(p) for m in tables for p in (m.weight, getattr(m, "bias", None)) if p is not None}
    return [name for name, parameter in model.named_parameters() if id(parameter) in ids]
