"""The keys of a config of translation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from seqloom.data.batches.order import BatchConfig
from seqloom.data.sources.captions import Captions
from seqloom.data.sources.chats.dialogues import Dialogues
from seqloom.data.sources.digits import Digits
from seqloom.data.sources.glyphs import Glyphs
from seqloom.data.sources.none import NoData
from seqloom.data.sources.pairs import Files
from seqloom.data.sources.phrases.corpus import Phrases
from seqloom.data.sources.programs import Programs
from seqloom.data.sources.signals import SignalPairs
from seqloom.decoding.config import BeamSearch, DecodingConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.models.inputs import check_reads
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.tasks.task import GradientConfig
from seqloom.text.tokenizer import BPE, TokenizerConfig
from seqloom.training.config import Metric
from seqloom.training.precision import Precision

DataConfig = Files | Dialogues | Phrases | Digits | Programs | Captions | Glyphs | SignalPairs | NoData


@dataclass(frozen=True)
class TranslateKeys(GradientConfig):
    """What is chosen for a translation run.

    Args:
        data: the pairs of texts, or of images or signals and texts, for training, validation and test.
        tokenizer: how texts are cut into tokens.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how pairs are put together into batches.
        decoding: how translations are decoded, in evaluations and by default in use.
    """

    task: Literal["translate"] = "translate"
    other_run: ClassVar[str] = "name runs of pairs: translation, programs, dialogues"
    measured_in: ClassVar[Precision] = "auto"
    metrics: ClassVar[tuple[Metric, ...]] = ("bleu", "cider", "exact_match", "loss")
    """What "best" may mean."""
    data: DataConfig = field(default_factory=Phrases)
    tokenizer: TokenizerConfig = field(default_factory=BPE)
    model: EncoderDecoderConfig = field(default_factory=EncoderDecoderConfig)
    objective: CrossEntropy = field(default_factory=CrossEntropy)
    batches: BatchConfig = field(default_factory=BatchConfig)
    decoding: DecodingConfig = field(default_factory=BeamSearch)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training.check_metric(*self.metrics)
        check_reads(self.model, "source", self.modality)
        sampled = isinstance(self.objective, CrossEntropy) and self.objective.samples
        if sampled and isinstance(self.model.decoder, TransformerConfig):
            raise ValueError("objective.teacher_forcing below 1 needs a recurrent or convolutional decoder")
        if self.model.one_input and not self.tokenizer.joint:
            problem = f"model.tie = '{self.model.tie}' needs one vocabulary for both sides"
            raise ValueError(f"{problem}: set tokenizer.joint = true, or model.tie = 'decoder-output'")

    @property
    def modality(self) -> str:
        """What the sources are: "text", "image", ..."""
        modality: str = getattr(self.data, "modality", "text")
        return modality
