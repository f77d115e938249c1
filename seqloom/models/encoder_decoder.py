"""Encoder, memory, decoder, head: translation, and whatever else turns one sequence into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import nn

from seqloom.config import Tree
from seqloom.models.decoders import DecoderConfig, State, make_decoder
from seqloom.models.encoders import EncoderConfig, make_encoder
from seqloom.models.presets import TRANSLATION, under
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.models.weights import initialize
from seqloom.nn.attention import CrossAttention
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.nn.heads import VocabularyHead
from seqloom.nn.memory import Memory
from seqloom.nn.scored_attention import ScoredAttention
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Bool, Ids, Int, Tensor, Vectors


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """An encoder-decoder.

    Args:
        preset: tiny, small, base or big: what is not given otherwise.
        encoder, decoder: the two halves.
        embedding: E, the width of the word vectors; 0 = that of the half that uses them.
        tie: which of the source, target and output word vectors are one table; "inputs" = source and target.
        output_bias: whether each word has a score of its own, whatever was read.
        source, target: what the tables of word vectors begin as, and whether they are learned.
    """

    kind: ClassVar[str] = "encoder-decoder"
    preset: str = ""
    encoder: EncoderConfig = field(default_factory=TransformerConfig)
    decoder: DecoderConfig = field(default_factory=TransformerConfig)
    embedding: int = 0
    tie: Literal["none", "inputs", "decoder-output", "all"] = "all"
    output_bias: bool = False
    source: EmbedderConfig = field(default_factory=EmbedderConfig)
    target: EmbedderConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        if self.one_input and self.target != EmbedderConfig():
            raise ValueError(f"tie = '{self.tie}' has one table: give its vectors under source")
        widths = (half.input_width(self.embedding) for half in (self.encoder, self.decoder))
        if self.one_input and not self.embedding and len({*widths}) > 1:
            problem = f"tie = '{self.tie}' needs encoder and decoder of one width, or an 'embedding' width for both"
            raise ValueError(problem)
        if isinstance(self.decoder, RecurrentDecoderConfig) and self.decoder.attention is not None:
            self.decoder.attention.check(self.decoder.width, self.encoder.memory_width)

    @property
    def one_input(self) -> bool:
        """Whether source and target have one table, and so one vocabulary."""
        return self.tie in ("all", "inputs")

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree laid over its preset."""
        return under(TRANSLATION, tree)


class EncoderDecoder(nn.Module):
    """The model. `source_words` and `target_words` are the sizes of the two vocabularies."""

    def __init__(self, config: EncoderDecoderConfig, source_words: int, target_words: int) -> None:
        super().__init__()
        if config.one_input and source_words != target_words:
            raise ValueError(
                f"tie = '{config.tie}' needs one vocabulary for both sides, not {source_words} and {target_words} "
                "words; use tokenizer.joint = true or tie = 'decoder-output'"
            )
        self.config = config
        E = config.embedding
        into, onto = config.encoder.input_width(E), config.decoder.input_width(E)
        self.source = TokenEmbedder(source_words, into, E or into, scaled=config.source.scaled)
        shared = self.source.weight if config.one_input else None
        scaled = config.source.scaled if config.one_input else config.target.scaled
        self.target = TokenEmbedder(target_words, onto, E or onto, shared, scaled=scaled)
        tied = self.target.weight if config.tie in ("all", "decoder-output") else None
        self.head = VocabularyHead(target_words, config.decoder.width, E or onto, tied, bias=config.output_bias)
        self.encoder = make_encoder(config.encoder, into)
        self.decoder = make_decoder(config.decoder, onto, config.encoder.memory_width, self.encoder.summary_width)
        initialize(self)
        for embedder, own in ((self.source, config.source), (self.target, config.target)):
            if own.frozen:
                embedder.weight.requires_grad_(False)

    def encode(self, source: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"] | None) -> Memory:
        """The memory of the sources."""
        return self.encoder(self.source(source), mask)  # type: ignore[no-any-return]

    def start(self, memory: Memory, *, keep: bool = True) -> State:
        """The decoder's state before the first position."""
        return self.decoder.start(memory, keep=keep)

    def decode(self, target: Ids, state: State) -> tuple[Vectors, State]:
        """The hidden vectors after each of the target's words, and the state after the last."""
        return self.decoder(self.target(target), state)  # type: ignore[no-any-return]

    def forward(self, source: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"] | None, target: Ids) -> Vectors:
        """Teacher forcing: the hidden vectors that predict the word after each of `target`."""
        hidden, _ = self.decode(target, self.start(self.encode(source, mask), keep=False))
        return hidden


def cross_attentions(model: EncoderDecoder) -> dict[str, nn.Module]:
    """The layers by which the decoder attends to the memory, by name, in their order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, CrossAttention | ScoredAttention)}
