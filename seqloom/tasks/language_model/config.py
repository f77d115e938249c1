"""The config of a language model's run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from seqloom.config import Tree
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.rows import NoData
from seqloom.data.sources.conversations import Conversations
from seqloom.data.sources.standard_library import StandardLibrary
from seqloom.data.sources.text import TextFiles
from seqloom.decoding.search import DecodingConfig
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.objectives.next_word import NextWord
from seqloom.tasks.building import on_start
from seqloom.tasks.task import GradientConfig
from seqloom.text.tokenizer import BPE, TokenizerConfig
from seqloom.training.fit import TrainingConfig

DataConfig = TextFiles | StandardLibrary | Conversations | NoData


def _sampling() -> DecodingConfig:
    return DecodingConfig(beam=1, sample=True, temperature=0.8, top_p=0.95)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(GradientConfig):
    """All of a language model's run.

    Args:
        data: without any, the library of Python; with files and no kind, text.
        start: a run whose weights and tokenizer training starts from, and by default its model.
        tokenizer: how texts are cut into tokens.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how a text is cut into batches.
        decoding: how a continuation is chosen, in samples and by default in use.
    """

    task: Literal["language_model"] = "language_model"
    start: str = ""
    data: DataConfig = field(default_factory=StandardLibrary)
    tokenizer: TokenizerConfig = field(default_factory=BPE)
    model: DecoderOnlyConfig = field(default_factory=DecoderOnlyConfig)
    objective: NextWord = field(default_factory=NextWord)
    batches: StreamConfig = field(default_factory=StreamConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="loss"))
    decoding: DecodingConfig = field(default_factory=_sampling)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.metric != "loss":
            raise ValueError("training.metric must be 'loss' for a language model")
        if isinstance(self.tokenizer, BPE) and self.tokenizer.dropout:
            raise ValueError("tokenizer.dropout is for pairs of sentences; a running text is cut into words once")
        limit = self.model.decoder.limit
        if limit is not None and limit < self.batches.length:
            raise ValueError(f"batches.length {self.batches.length} is more than the model's {limit} positions")

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree with the kind of its data, laid over the run it starts from."""
        data = tree.get("data")
        if isinstance(data, Mapping) and data and "kind" not in data:
            tree = {**tree, "data": {"kind": "text", **data}}
        return on_start(tree)
