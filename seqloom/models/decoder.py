"""Embedder, decoder and head, without an encoder: a language model of tokens or frames, and one that scores texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from seqloom.config import Tree
from seqloom.limits import WidthOrZero
from seqloom.models.decoders import DecoderConfig, make_decoder
from seqloom.models.inputs import make_embedder, sized
from seqloom.models.presets import LANGUAGE, Preset
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import EmbedderConfig, FrameConfig, Inputs
from seqloom.nn.heads import LabelHead, VocabularyHead
from seqloom.nn.linear import initialize
from seqloom.nn.memory import Memory
from seqloom.nn.pooling import window_means
from seqloom.nn.state import State
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Float, Ids, Int, Tensor, Vectors


@dataclass(frozen=True)
class DecoderOnlyConfig(Preset):
    """A language model.

    Args:
        decoder: the layers between the embeddings and the head.
        embedding: E, the width of the token embeddings; 0 = that of the decoder.
        tie: whether input and output embeddings share one table (Press and Wolf 2017).
        embedder: what is read and predicted: tokens, or the frames of a signal.
    """

    kind: ClassVar[str] = "decoder-only"
    presets: ClassVar[Mapping[str, Tree]] = LANGUAGE
    decoder: DecoderConfig = field(default_factory=TransformerConfig)
    embedding: WidthOrZero = 0
    tie: bool = True
    embedder: EmbedderConfig | FrameConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.decoder, RecurrentDecoderConfig):
            self.decoder.check_alone()

    @property
    def carries(self) -> bool:
        """Whether the state is carried from one piece of a text to the next."""
        return isinstance(self.decoder, RecurrentDecoderConfig)

    def sized(self, sizes: Mapping[str, int]) -> DecoderOnlyConfig:
        """See `inputs.sized`."""
        return sized(self, "embedder", sizes)


class DecoderOnly(nn.Module):
    """The parts of a language model: over a vocabulary of the given size, or over the frames of a signal."""

    def __init__(self, config: DecoderOnlyConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.carries = config, config.carries
        inputs = config.decoder.input_width(config.embedding)
        E = config.embedding or inputs
        self.embedder: Any = make_embedder(config.embedder, inputs, vocab_size, E)
        self.head: Any
        if isinstance(config.embedder, FrameConfig):
            self.head = LabelHead(config.decoder.width, config.embedder.channels, 0.0, "states")
        else:
            table: Any = self.embedder.weight if config.tie else None
            self.head = VocabularyHead(vocab_size, config.decoder.width, E, table)
        self.decoder = make_decoder(config.decoder, inputs)
        initialize(self)
        if isinstance(self.head, LabelHead):
            nn.init.zeros_(self.head.linear.weight)  # a signal begins as one that does not change

    def start(self, *, keep: bool = True) -> State:
        """The state before the first token or frame."""
        return self.decoder.start(None, keep=keep)

    def decode(self, values: Ids | Float[Tensor, "B T C"], state: State) -> tuple[Vectors, State]:
        """The hidden vectors after each token or frame, and the state after the last."""
        return self.decoder(self.embedder(values), state)  # type: ignore[no-any-return]


class LanguageModel(DecoderOnly):
    """The model, over a vocabulary of the given size."""

    def forward(self, inputs: Inputs, before: Mapping[str, Tensor] | None = None) -> tuple[Vectors, dict[str, Tensor]]:
        """A piece at once: the hidden vectors that predict the token or frame after each, and what is carried on.

        Args:
            inputs: the text or signal; attention stays within its segments. Padding on the right needs no mask: no real
                position looks ahead.
            before: what the piece before it carried on (see State.carried); None = the text begins.
        """
        text = inputs[self.embedder.modality]
        state = self.start(keep=False).apart(text.segments).carrying(before or {})
        hidden, state = self.decode(text.values, state)
        return hidden, state.carried


class DecoderReader(DecoderOnly):
    """A language model that reads whole texts: a head scores the state of the last token.

    The head of the vocabulary stays, so that it is a language model's weights with one more head.

    Args:
        config, vocab_size: as for LanguageModel.
        heads: the number of outputs of each head.
    """

    def __init__(self, config: DecoderOnlyConfig, vocab_size: int, heads: Mapping[str, int]) -> None:
        super().__init__(config, vocab_size)
        if not config.tie:
            self.head.requires_grad_(False)  # it predicts nothing here
        width = config.decoder.width
        self.heads = nn.ModuleDict({name: LabelHead(width, n, 0.0, "pooled") for name, n in heads.items()})
        initialize(self.heads)

    def forward(self, inputs: Inputs) -> Memory:
        """The states of texts, each read from its beginning; the summary is the state of the last token."""
        text = inputs[self.embedder.modality]
        hidden, _ = self.decode(text.values, self.start(keep=False))
        last = hidden.shape[1] - 1 if text.mask is None else text.mask.sum(1) - 1
        return Memory(hidden, text.mask, hidden[torch.arange(len(hidden), device=hidden.device), last])

    def score(self, head: str, memory: Memory, owner: Int[Tensor, " R"] | None = None) -> Tensor:
        """The scores of a head (B L); see EncoderOnly.score."""
        scores: Tensor = self.heads[head](window_means(memory.summary, owner))
        return scores
