"""An imported encoder model, used for its states; this task has no training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from seqloom.data.sources.none import NoData
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, load_tokenizers
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.tasks.encoder.embed import compared_vectors
from seqloom.tasks.task import RunConfig
from seqloom.text.tokenizer import TokenizerFile


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(RunConfig):
    """The config of an imported encoder model without a task.

    Args:
        data: none; the model was trained elsewhere.
        tokenizer: the tokenizer that was imported with the model.
        model: the parts of the network and their sizes.
    """

    kind: ClassVar[str] = "encode"
    task: Literal["encode"] = "encode"
    data: NoData = field(default_factory=NoData)
    tokenizer: TokenizerFile = field(default_factory=TokenizerFile)
    model: EncoderOnlyConfig = field(default_factory=EncoderOnlyConfig)

    def assets(self, run: Run) -> Assets:
        """See RunConfig; a model of images has no tokenizer."""
        return Assets(load_tokenizers(run), load_facts(run))

    def build(self, assets: Assets) -> EncoderOnly:
        """See RunConfig."""
        return EncoderOnly(self.model, assets.vocab_size, (assets.facts or {})["heads"])

    def predictor(self, model: EncoderOnly, assets: Assets, **options: Any) -> EncoderOnly:
        """The model."""
        return model

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """See RunConfig."""
        return compared_vectors(other, texts)
