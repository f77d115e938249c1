"""Embedder, decoder, head, and no encoder: a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from seqloom.config import Tree
from seqloom.models.decoders import DecoderConfig, make_decoder
from seqloom.models.presets import LANGUAGE, under
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.models.weights import initialize
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.nn.heads import VocabularyHead
from seqloom.nn.state import State
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Ids, Int, Tensor, Vectors


@dataclass(frozen=True)
class DecoderOnlyConfig:
    """A language model.

    Args:
        preset: small-lstm or small-transformer: what is not given otherwise.
        decoder: all that lies between the words read and the words predicted.
        embedding: E, the width of the word vectors; 0 = that of the decoder.
        tie: whether the vectors of words read and predicted are one table (Press and Wolf 2017).
        embedder: what the table of word vectors begins as, and whether it is learned.
    """

    kind: ClassVar[str] = "decoder-only"
    preset: str = ""
    decoder: DecoderConfig = field(default_factory=TransformerConfig)
    embedding: int = 0
    tie: bool = True
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        if isinstance(self.decoder, RecurrentDecoderConfig):
            self.decoder.check_alone()

    @property
    def carries(self) -> bool:
        """Whether a state goes on from one piece of a text to the next."""
        return isinstance(self.decoder, RecurrentDecoderConfig)

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree laid over its preset."""
        return under(LANGUAGE, tree)


class LanguageModel(nn.Module):
    """The model, over a vocabulary of so many words."""

    def __init__(self, config: DecoderOnlyConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        inputs = config.decoder.input_width(config.embedding)
        E = config.embedding or inputs
        self.embedder = TokenEmbedder(vocab_size, inputs, E, scaled=config.embedder.scaled)
        self.head = VocabularyHead(vocab_size, config.decoder.width, E, self.embedder.weight if config.tie else None)
        self.decoder = make_decoder(config.decoder, inputs)
        initialize(self)
        if config.embedder.frozen:
            self.embedder.weight.requires_grad_(False)

    @property
    def carries(self) -> bool:
        """Whether a state goes on from one piece of a text to the next."""
        return self.config.carries

    def start(self, *, keep: bool = True) -> State:
        """The state before the first word."""
        return self.decoder.start(None, keep=keep)

    def decode(self, ids: Ids, state: State) -> tuple[Vectors, State]:
        """The hidden vectors after each of the words, and the state after the last."""
        return self.decoder(self.embedder(ids), state)  # type: ignore[no-any-return]

    def forward(
        self, ids: Ids, before: Mapping[str, Tensor] | None = None, documents: Int[Tensor, "B T"] | None = None
    ) -> tuple[Vectors, dict[str, Tensor]]:
        """A piece of text at once: the hidden vectors that predict the word after each, and what goes on from here.

        Args:
            ids: the words read.
            before: what went on from the piece before it (see State.carried); None = the text begins.
            documents: which document of its row each word belongs to; attention stays within one. None = one a row.
        """
        state = self.start(keep=False).apart(documents).carrying(before or {})
        hidden, state = self.decode(ids, state)
        return hidden, state.carried
