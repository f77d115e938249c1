"""The keys of a config of a language model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from seqloom.data.batches.stream import Layout, StreamConfig
from seqloom.data.sources.chats.conversations import Conversations
from seqloom.data.sources.none import NoData
from seqloom.data.sources.standard_library import StandardLibrary
from seqloom.data.sources.text import TextFiles
from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.inputs import check_reads
from seqloom.objectives.next_token import NextToken
from seqloom.tasks.task import GradientConfig
from seqloom.text.tokenizer import BPE, TokenizerConfig
from seqloom.training.config import Metric, TrainingConfig

DataConfig = TextFiles | StandardLibrary | Conversations | NoData


@dataclass(frozen=True, kw_only=True)
class LanguageModelKeys(GradientConfig):
    """The keys of a run of a language model.

    Args:
        data: the text to train on; by default Python's standard library. Files without a kind are text files.
        tokenizer: how texts are split into tokens.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how texts are cut into batches.
        decoding: how continuations are decoded, in samples and by default in use.
    """

    task: Literal["language_model"] = "language_model"
    other_run: ClassVar[str] = "name a run of a language model"
    metrics: ClassVar[tuple[Metric, ...]] = ("loss",)
    """What "best" may mean."""
    data: DataConfig = field(default_factory=StandardLibrary)
    tokenizer: TokenizerConfig = field(default_factory=BPE)
    model: DecoderOnlyConfig = field(default_factory=DecoderOnlyConfig)
    objective: NextToken = field(default_factory=NextToken)
    batches: StreamConfig = field(default_factory=StreamConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="loss"))
    decoding: DecodingConfig = field(default_factory=lambda: Sampling(temperature=0.8, top_p=0.95))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.metric not in self.metrics:
            raise ValueError(f"training.metric must be {' or '.join(map(repr, self.metrics))} for a language model")
        if isinstance(self.tokenizer, BPE) and self.tokenizer.dropout:
            raise ValueError("tokenizer.dropout is for pairs of sentences; running text is tokenized once")
        check_reads(self.model, "embedder", "text")
        limit = self.model.decoder.limit
        if limit is not None and limit < self.batches.length:
            raise ValueError(f"batches.length {self.batches.length} is more than the model's {limit} positions")

    @property
    def layout(self) -> Layout:
        """How texts are laid out for the model."""
        return Layout(self.batches, self.seed, self.model.carries)
