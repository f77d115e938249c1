"""Encoders of several modalities, one joint memory, a joint decoder, and queries and a head for each task (UniT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

from seqloom.config import Tree
from seqloom.limits import Length, WidthOrZero
from seqloom.models.decoders import DecoderConfig, make_decoder
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.models.inputs import Join
from seqloom.models.presets import Preset
from seqloom.nn.embedders import Inputs, TokenEmbedder
from seqloom.nn.heads import LabelHead, VocabularyHead
from seqloom.nn.linear import initialize
from seqloom.nn.memory import Memory
from seqloom.nn.pooling import window_means
from seqloom.nn.state import State
from seqloom.nn.transformer import TransformerConfig
from seqloom.shapes import Float, Ids, Int, Tensor, Vectors

_SHARED = "shared"
_DECODER: Tree = {"layers": 2, "width": 128, "inner": 512, "heads": 4, "activation": "gelu"}


def _small() -> TransformerConfig:
    return TransformerConfig(**_DECODER)


@dataclass(frozen=True)
class MultimodalConfig(Preset):
    """A model of several modalities and tasks (Hu and Singh 2021, "UniT").

    Args:
        encoders: what reads each modality: "text", "image" or "signal".
        decoder: what the queries of the tasks, and the tokens that they write, go through.
        separate: whether each task has a decoder of its own.
        queries: the vectors by which a task of labels asks the decoder; the label is read from the last one. To write,
            a task has one, which is added to every token.
        embedding: E, the width of the token embeddings that are written; 0 = that of the decoder.
    """

    kind: ClassVar[str] = "multimodal"
    presets: ClassVar[Mapping[str, Tree]] = {
        "small-unit": {"decoder": _DECODER},
    }
    encoders: dict[str, EncoderOnlyConfig] = field(default_factory=dict)
    decoder: DecoderConfig = field(default_factory=_small)
    separate: bool = False
    queries: Length = 4
    embedding: WidthOrZero = 0

    def sized(self, modality: str, sizes: Mapping[str, int]) -> MultimodalConfig:
        """See `inputs.sized`, for the encoder of one modality."""
        return replace(self, encoders={**self.encoders, modality: self.encoders[modality].sized(sizes)})

    def writer(self, modality: str) -> EncoderDecoderConfig:
        """The encoder of a modality with the decoder, as one that writes."""
        encoder: Any = self.encoders[modality]
        tie: Any = "decoder-output"
        return EncoderDecoderConfig(
            encoder=encoder.encoder,
            decoder=self.decoder,
            embedding=self.embedding,
            tie=tie,
            source=encoder.embedder,
            front=encoder.front,
        )


class Multimodal(nn.Module):
    """The model.

    Args:
        config: of the model.
        vocab_size: V, of all texts that are read or written; 0 = there are none.
        tasks: what each task reads, and the number of its outputs of labels or numbers; 0 = it writes texts.
    """

    def __init__(self, config: MultimodalConfig, vocab_size: int, tasks: Mapping[str, tuple[str, int]]) -> None:
        super().__init__()
        self.config, self.reads = config, {name: modality for name, (modality, _) in tasks.items()}
        reading = {name: outputs for name, (_, outputs) in tasks.items() if outputs}
        D, inputs = config.decoder.width, config.decoder.input_width(config.embedding)
        kinds = sorted(config.encoders.items())  # the order of their memories
        readers = {m: EncoderOnly(c, vocab_size if m == "text" else 0, {}) for m, c in kinds}
        self.encoders = nn.ModuleDict(readers)
        widths = {m: (r.config.encoder.memory_width, r.encoder.summary_width) for m, r in readers.items()}
        self.join = Join(widths, D)
        names = [*tasks] if config.separate else [_SHARED]
        self.decoders = nn.ModuleDict({name: make_decoder(config.decoder, inputs, D, D) for name in names})
        # As large as token embeddings: with small ones a trained model does without them.
        self.queries = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(config.queries if name in reading else 1, inputs)) for name in tasks}
        )
        self.heads = nn.ModuleDict({name: LabelHead(D, outputs, 0.1, "pooled") for name, outputs in reading.items()})
        self.target: TokenEmbedder | None = None
        self.head: VocabularyHead | None = None
        if len(reading) < len(tasks):
            self.target = TokenEmbedder(vocab_size, inputs, config.embedding or inputs)
            self.head = VocabularyHead(vocab_size, D, config.embedding or inputs, self.target.weight)
        initialize(self)

    def encode(self, inputs: Inputs) -> Memory:
        """The joint memory of the modalities that are given. Raises UsageError where it reads none of them."""
        given = [name for name in self.encoders if name in inputs.modalities] or [next(iter(self.encoders))]
        memories = {name: self.encoders[name](inputs) for name in given}
        joint: Memory = self.join(memories)
        return joint

    def decoder(self, task: str) -> Any:
        """The decoder of a task."""
        return self.decoders[task if self.config.separate else _SHARED]

    def view(self, task: str) -> Reading | Writing:
        """A task of the model, with its weights, as a model that only reads one modality, or that reads and writes."""
        return Reading(self, task) if task in self.heads else Writing(self, task)


class Reading(nn.Module):
    """A task of labels: a model like EncoderOnly, whose states are what the decoder made of the task's queries."""

    def __init__(self, model: Multimodal, task: str) -> None:
        super().__init__()
        self.reader: Any = model.encoders[model.reads[task]]
        self.embedder, self.front, self.config = self.reader.embedder, self.reader.front, self.reader.config
        self.model, self.task, self.queries = model, task, len(model.queries[task])
        self.heads = {"label": model.heads[task]}

    def forward(self, inputs: Inputs) -> Memory:
        """What the queries have become (B Q D); the summary is the last of them."""
        memory, decoder = self.model.encode(inputs), self.model.decoder(self.task)
        queries = self.model.queries[self.task].expand(len(memory.states), -1, -1)
        states, _ = decoder(queries.to(memory.states.dtype), decoder.start(memory, keep=False))
        return Memory(states, None, states[:, -1])

    def score(self, head: str, memory: Memory, owner: Int[Tensor, " R"] | None = None) -> Float[Tensor, "B L"]:
        """The scores of the labels, from the mean over the windows of each example where `owner` assigns them."""
        scores: Tensor = self.heads[head](window_means(memory.summary, owner))
        return scores


class Writing(nn.Module):
    """A task that writes: a model like EncoderDecoder, whose tokens are decoded with the task's query added."""

    def __init__(self, model: Multimodal, task: str) -> None:
        super().__init__()
        assert model.head is not None
        assert model.target is not None
        modality = model.reads[task]
        reader: Any = model.encoders[modality]
        self.front = reader.front
        self.encoder, self.source, self.target = reader.encoder, reader.embedder, model.target  # as EncoderDecoder has
        self.model, self.task, self.config, self.head = model, task, model.config.writer(modality), model.head

    def encode(self, inputs: Inputs) -> Memory:
        """The memory of the source."""
        return self.model.encode(inputs)

    def start(self, memory: Memory, *, keep: bool = True) -> State:
        """The decoder's state before the first position."""
        state: State = self.model.decoder(self.task).start(memory, keep=keep)
        return state

    def decode(self, target: Ids, state: State) -> tuple[Vectors, State]:
        """The hidden vectors after each of the target's tokens, and the state after the last."""
        x: Tensor = self.target(target)
        result: tuple[Vectors, State] = self.model.decoder(self.task)(x + self.model.queries[self.task], state)
        return result

    def forward(self, inputs: Inputs, target: Ids) -> Vectors:
        """Teacher forcing: the hidden vectors that predict the token after each of `target`."""
        hidden, _ = self.decode(target, self.start(self.encode(inputs), keep=False))
        return hidden
