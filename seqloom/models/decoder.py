"""Embedder, decoder and head, without an encoder: a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from seqloom.config import Tree
from seqloom.limits import Bounded, WidthOrZero
from seqloom.models.decoders import DecoderConfig, make_decoder
from seqloom.models.inputs import token_embedder
from seqloom.models.presets import LANGUAGE, under
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import EmbedderConfig, Inputs
from seqloom.nn.heads import VocabularyHead
from seqloom.nn.linear import initialize
from seqloom.nn.state import State
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Ids, Tensor, Vectors


@dataclass(frozen=True)
class DecoderOnlyConfig(Bounded):
    """A language model.

    Args:
        preset: a named model, whose values are the defaults of the other keys.
        decoder: the layers between the embeddings and the head.
        embedding: E, the width of the token embeddings; 0 = that of the decoder.
        tie: whether input and output embeddings share one table (Press and Wolf 2017).
        embedder: what the embedding table begins as, and whether it is learned.
    """

    kind: ClassVar[str] = "decoder-only"
    presets: ClassVar[Mapping[str, Tree]] = LANGUAGE
    preset: str = ""
    decoder: DecoderConfig = field(default_factory=TransformerConfig)
    embedding: WidthOrZero = 0
    tie: bool = True
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.decoder, RecurrentDecoderConfig):
            self.decoder.check_alone()

    @property
    def carries(self) -> bool:
        """Whether the state is carried from one piece of a text to the next."""
        return isinstance(self.decoder, RecurrentDecoderConfig)

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree merged over its preset."""
        return under(cls.presets, tree)


class LanguageModel(nn.Module):
    """The model, over a vocabulary of the given size."""

    def __init__(self, config: DecoderOnlyConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        inputs = config.decoder.input_width(config.embedding)
        E = config.embedding or inputs
        self.embedder = token_embedder(config.embedder, inputs, vocab_size, E)
        self.head = VocabularyHead(vocab_size, config.decoder.width, E, self.embedder.weight if config.tie else None)
        self.decoder = make_decoder(config.decoder, inputs)
        initialize(self)

    @property
    def carries(self) -> bool:
        """Whether the state is carried from one piece of a text to the next."""
        return self.config.carries

    def start(self, *, keep: bool = True) -> State:
        """The state before the first token."""
        return self.decoder.start(None, keep=keep)

    def decode(self, ids: Ids, state: State) -> tuple[Vectors, State]:
        """The hidden vectors after each token, and the state after the last."""
        return self.decoder(self.embedder(ids), state)  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs, before: Mapping[str, Tensor] | None = None) -> tuple[Vectors, dict[str, Tensor]]:
        """A piece of text at once: the hidden vectors that predict the token after each, and what is carried on.

        Args:
            inputs: the text; attention stays within its segments. Padding on the right needs no mask: no real position
                looks ahead.
            before: what the piece before it carried on (see State.carried); None = the text begins.
        """
        text = inputs[self.embedder.modality]
        state = self.start(keep=False).apart(text.segments).carrying(before or {})
        hidden, state = self.decode(text.values, state)
        return hidden, state.carried
