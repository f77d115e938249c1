"""The keys of a config of several tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from seqloom.data.batches.order import BatchConfig
from seqloom.data.batches.windows import TextBatchConfig
from seqloom.data.sources.captions import Illustrated
from seqloom.data.sources.images import ImageFiles, SmallDigits
from seqloom.data.sources.labelled import LabelledFiles
from seqloom.data.sources.signals import SignalFiles
from seqloom.decoding.config import BeamSearch, DecodingConfig
from seqloom.errors import nearest
from seqloom.limits import Accumulate, Bounded, Bounds
from seqloom.models.multimodal import MultimodalConfig
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.objectives.reading import Labels, Numbers
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.seq2seq.config import DataConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import GradientConfig
from seqloom.text.tokenizer import BPE, TokenizerConfig
from seqloom.training.config import Metric, TrainingConfig
from seqloom.training.schedule import Linear, Schedule

_MODALITIES = ("text", "image", "signal")
Share = Annotated[int, Bounds(1, 1000)]


@dataclass(frozen=True, kw_only=True)
class Part(Bounded):
    """One of the tasks.

    Args:
        share: how many batches of this task a round has; the tasks of a round are shuffled.
        metric: what its part of the score is.
    """

    share: Share = 1
    metric: Metric = "accuracy"
    data: Any

    whole: ClassVar[type[ClassifyConfig] | type[TranslateConfig]]
    """The config of the task by itself, whose keys these are."""

    def model(self, of: MultimodalConfig) -> Any:
        """The config of the model of the task by itself."""
        raise NotImplementedError

    def alone(self, config: MultimodalKeys, tokenizer: TokenizerConfig) -> ClassifyConfig | TranslateConfig:
        """The task by itself, with its part of the model. Raises ValueError where they do not fit."""
        own: Any = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("share", "metric")}
        training = TrainingConfig(metric=self.metric)
        more: Any = {"tokenizer": tokenizer, "seed": config.seed, "training": training}
        return self.whole(**own, **more, model=self.model(config.model))

    @property
    def modality(self) -> str:
        """What it reads: "text", "image" or "signal"."""
        modality: str = getattr(self.data, "modality", "text")
        return modality

    @property
    def reads(self) -> set[str]:
        """The same, with what is read beside it."""
        return {self.modality, getattr(self.data, "beside", "")} - {""}


@dataclass(frozen=True, kw_only=True)
class ClassifyPart(Part):
    """Labels of texts, images or signals; the keys are those of the task classify.

    Args:
        data, objective, batches: see the task classify.
    """

    kind: ClassVar[str] = "classify"
    whole = ClassifyConfig
    data: LabelledFiles | ImageFiles | SmallDigits | SignalFiles
    objective: Labels | Numbers = field(default_factory=Labels)
    batches: TextBatchConfig = field(default_factory=TextBatchConfig)

    def model(self, of: MultimodalConfig) -> Any:
        """See Part."""
        return of.encoders[self.modality]


@dataclass(frozen=True, kw_only=True)
class TranslatePart(Part):
    """Texts or images to texts; the keys are those of the task translate.

    Args:
        data, objective, batches, decoding: see the task translate.
    """

    kind: ClassVar[str] = "translate"
    whole = TranslateConfig
    metric: Metric = "bleu"
    data: DataConfig | Illustrated
    objective: CrossEntropy = field(default_factory=CrossEntropy)
    batches: BatchConfig = field(default_factory=BatchConfig)
    decoding: DecodingConfig = field(default_factory=BeamSearch)

    def model(self, of: MultimodalConfig) -> Any:
        """See Part."""
        return of.writer(self.modality)


@dataclass(frozen=True)
class StepConfig(Bounded):
    """What a step of the optimizer is taken on.

    Args:
        accumulate: batches per step, each of one task.
    """

    accumulate: Accumulate = 1


@dataclass(frozen=True, kw_only=True)
class MultimodalKeys(GradientConfig):
    """What is chosen for a run of several tasks.

    Args:
        tasks: the tasks by name, each of the kind "classify" or "translate", with the keys of that task but for model
            and tokenizer.
        tokenizer: how texts are cut into tokens, in all tasks.
        model: the encoders of the modalities and the joint decoder.
        batches: how many make a step; their sizes are those of the tasks.
    """

    task: Literal["multimodal"] = "multimodal"
    tasks: dict[str, ClassifyPart | TranslatePart]
    tokenizer: TokenizerConfig = field(default_factory=BPE)
    model: MultimodalConfig = field(default_factory=MultimodalConfig)
    batches: StepConfig = field(default_factory=StepConfig)
    schedule: Schedule = field(default_factory=lambda: Linear(warmup=100))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="score"))
    unit: ClassVar[str] = "labels and tokens"
    other_run: ClassVar[str] = "name a run of the task multimodal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training.check_metric("score", "loss")
        if not self.tasks:
            raise ValueError('there are no tasks: write [tasks.NAME] with kind = "classify" or "translate"')
        for name, part in self.tasks.items():
            if part.metric == "latest":
                raise ValueError(f"tasks.{name}.metric is a part of the score: name a score")
            if not name.isidentifier() or name == "shared":
                raise ValueError(f"a task cannot be called {name!r}: give it a name of letters and digits")
            for modality in sorted(part.reads - self.model.encoders.keys()):
                raise ValueError(f"tasks.{name} reads {modality}s: write [model.encoders.{modality}]")
            try:
                self.alone(name)
            except ValueError as error:
                problem = str(error).replace("training.metric", f"tasks.{name}.metric")
                raise ValueError(f"tasks.{name}: {problem}") from None
        if unknown := sorted(self.model.encoders.keys() - {*_MODALITIES}):
            raise ValueError(f"unknown modality in model.encoders.{unknown[0]}: {nearest(unknown[0], _MODALITIES)}")
        for modality in sorted(self.model.encoders.keys() - {m for part in self.tasks.values() for m in part.reads}):
            raise ValueError(f"model.encoders.{modality} is for {modality}s, which no task reads: leave it out")

    def alone(self, name: str, tokenizer: TokenizerConfig | None = None) -> ClassifyConfig | TranslateConfig:
        """A task by itself."""
        return self.tasks[name].alone(self, self.tokenizer if tokenizer is None else tokenizer)
