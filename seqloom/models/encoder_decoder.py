"""Encoder, memory, decoder and head: translation, and whatever else turns one sequence into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from seqloom.config import Tree
from seqloom.limits import WidthOrZero
from seqloom.models.decoders import DecoderConfig, make_decoder
from seqloom.models.encoders import EncoderConfig, make_encoder
from seqloom.models.inputs import make_embedder, sized
from seqloom.models.presets import CAPTIONS, MOVEMENTS, TRANSLATION, Preset
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.attention import CrossAttention
from seqloom.nn.embedders import EmbedderConfig, FrameConfig, Inputs, PatchConfig, TokenEmbedder
from seqloom.nn.front import Front, FrontConfig
from seqloom.nn.heads import VocabularyHead
from seqloom.nn.linear import initialize
from seqloom.nn.memory import Memory
from seqloom.nn.scored_attention import ScoredAttention
from seqloom.nn.state import State
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Ids, Mask, Vectors


@dataclass(frozen=True)
class EncoderDecoderConfig(Preset):
    """An encoder-decoder.

    Args:
        encoder, decoder: the two halves.
        embedding: E, the width of the token embeddings; 0 = that of the half that uses them.
        tie: which of the source, target and output embeddings share one table; "inputs" = source and target. Images
            and signals have no table.
        output_bias: whether each token has a score of its own, whatever was read.
        source: what is read: tokens, and what their table begins as; or the patches of an image, or the frames of a
            signal.
        front: convolutions between the frames of a signal and the encoder.
        target: what the table of the target begins as, and whether it is learned.
    """

    kind: ClassVar[str] = "encoder-decoder"
    presets: ClassVar[Mapping[str, Tree]] = {**TRANSLATION, **CAPTIONS, **MOVEMENTS}
    encoder: EncoderConfig = field(default_factory=TransformerConfig)
    decoder: DecoderConfig = field(default_factory=TransformerConfig)
    embedding: WidthOrZero = 0
    tie: Literal["none", "inputs", "decoder-output", "all"] = "all"
    output_bias: bool = False
    source: EmbedderConfig | PatchConfig | FrameConfig = field(default_factory=EmbedderConfig)
    front: FrontConfig = field(default_factory=FrontConfig)
    target: EmbedderConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.source, PatchConfig):
            self.source.check(self.encoder.limit)
        if self.front.strides and not isinstance(self.source, FrameConfig):
            raise ValueError("model.front is for signals; the convolutions of images are source.stem")
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
        return self.tie in ("all", "inputs") and isinstance(self.source, EmbedderConfig)

    @property
    def embedder(self) -> EmbedderConfig | PatchConfig | FrameConfig:
        """What embeds the input, as models that only read call it."""
        return self.source

    def sized(self, sizes: Mapping[str, int]) -> EncoderDecoderConfig:
        """See `sized`."""
        return sized(self, "source", sizes)


class EncoderDecoder(nn.Module):
    """The model, over a source and a target vocabulary of the given sizes."""

    def __init__(self, config: EncoderDecoderConfig, source_size: int, target_size: int) -> None:
        super().__init__()
        if config.one_input and source_size != target_size:
            problem = f"needs one vocabulary for both sides, not {source_size} and {target_size} tokens"
            raise ValueError(f"tie = '{config.tie}' {problem}; use tokenizer.joint = true or tie = 'decoder-output'")
        self.config = config
        E = config.embedding
        into, onto = config.encoder.input_width(E), config.decoder.input_width(E)
        read = E or into  # the width of what is embedded, before the front
        self.source = make_embedder(config.source, read if config.front.strides else into, source_size, read)
        self.front = Front(config.front, read, into) if config.front.strides else None
        target, shared = config.target, None
        if config.one_input and isinstance(config.source, EmbedderConfig) and isinstance(self.source, TokenEmbedder):
            target, shared = config.source, self.source.weight
        self.target = TokenEmbedder(target_size, onto, E or onto, shared, target)
        tied = self.target.weight if config.tie in ("all", "decoder-output") else None
        self.head = VocabularyHead(target_size, config.decoder.width, E or onto, tied, bias=config.output_bias)
        self.encoder = make_encoder(config.encoder, into)
        self.decoder = make_decoder(config.decoder, onto, config.encoder.memory_width, self.encoder.summary_width)
        initialize(self)

    def embed(self, inputs: Inputs) -> tuple[Vectors, Mask | None]:
        """What the encoder reads, and the mask of what is real."""
        source = inputs[self.source.modality]
        x = self.source(source.values)
        return (x, source.mask) if self.front is None else self.front(x, source.mask)

    def encode(self, inputs: Inputs) -> Memory:
        """The memory of the source."""
        return self.encoder(*self.embed(inputs))  # type: ignore[no-any-return]

    def start(self, memory: Memory, *, keep: bool = True) -> State:
        """The decoder's state before the first position."""
        return self.decoder.start(memory, keep=keep)

    def decode(self, target: Ids, state: State) -> tuple[Vectors, State]:
        """The hidden vectors after each of the target's tokens, and the state after the last."""
        return self.decoder(self.target(target), state)  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs, target: Ids) -> Vectors:
        """Teacher forcing: the hidden vectors that predict the token after each of `target`."""
        hidden, _ = self.decode(target, self.start(self.encode(inputs), keep=False))
        return hidden


def cross_attentions(model: nn.Module) -> dict[str, nn.Module]:
    """The layers by which the decoder attends to the memory, by name, in their order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, CrossAttention | ScoredAttention)}
