"""The common part of all tasks with encoder models: config, training, the outputs of a model and its attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from seqloom.config import Tree
from seqloom.data.batches.windows import Item, LengthConfig, TextBatchConfig, by_length, collate
from seqloom.data.checks.pairs import Finding
from seqloom.files import Json
from seqloom.inspection.attention import Example
from seqloom.inspection.inside.inspected import Inspected
from seqloom.models.assemblies import TextReader, limit_of
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.models.inputs import check_reads
from seqloom.models.presets import for_modality
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.objectives.reading import batch_scores
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, load_tokenizers
from seqloom.tasks.building import on_start
from seqloom.tasks.task import GradientConfig, Numbered, Prepared, Seen, gradient_plan
from seqloom.text.tokenizer import BPE, Tokenizer, TokenizerConfig
from seqloom.training.config import Metric, TrainingConfig
from seqloom.training.fit import Measured, Plan
from seqloom.training.schedule import Linear, Schedule

_TOKENS = 8192  # tokens of a batch without gradients
SHOWN = 40  # tokens of a text whose attention is shown


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(GradientConfig):
    """The keys of all tasks with encoder models.

    Args:
        tokenizer: how texts are cut into tokens.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how texts are grouped into batches.
    """

    other_run: ClassVar[str] = "name a run of the task classify, tag, answer or masked_words"
    starts: ClassVar[tuple[str, ...]] = (EncoderOnlyConfig.kind,)
    """The kinds of models that a training may start from."""
    models: ClassVar[Mapping[str, str]] = {"image": "small-vit", "signal": "signal-transformer"}
    """The preset of a model for a modality, where the config names none; that for text is the default of its keys."""
    tokenizer: TokenizerConfig = field(default_factory=BPE)
    model: EncoderOnlyConfig = field(default_factory=EncoderOnlyConfig)
    objective: Any = None
    batches: LengthConfig = field(default_factory=TextBatchConfig)
    schedule: Schedule = field(default_factory=lambda: Linear(warmup=100))
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(metric="loss"))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training.check_metric(*self.metrics)
        if isinstance(self.tokenizer, BPE) and self.tokenizer.dropout:
            raise ValueError("tokenizer.dropout is for pairs of sentences to translate")
        check_reads(self.model, "embedder", self.modality)
        limit = limit_of(self.model)
        if self.modality != "image" and limit is not None and limit < self.batches.length:
            raise ValueError(f"batches.length {self.batches.length} is more than the model's {limit} positions")

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree merged into the model of the run that training starts from, or into that for its modality."""
        return for_modality(cls, on_start(tree, *cls.starts), cls.models)

    @property
    def modality(self) -> str:
        """What the data are: "text", "image", ..."""
        modality: str = getattr(getattr(self, "data", None), "modality", "text")
        return modality

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What "best" may mean."""
        return ("loss",)

    @property
    def pairs(self) -> bool:
        """Whether the inputs are pairs of texts."""
        return False

    def heads(self, facts: Json) -> Mapping[str, int]:
        """The number of outputs of each head, from the facts about the data."""
        raise NotImplementedError

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        return Assets(load_tokenizers(run), load_facts(run))

    def build(self, assets: Assets) -> EncoderOnly:
        """See RunConfig."""
        torch.manual_seed(self.seed)
        facts = assets.facts or {}
        return EncoderOnly(self.model.sized(facts.get("sizes", {})), assets.vocab_size, self.heads(facts))

    def tables(self, model: EncoderOnly, assets: Assets) -> Iterable[tuple[EmbedderConfig, TokenEmbedder, Tokenizer]]:
        """See RunConfig."""
        if isinstance(self.model.embedder, EmbedderConfig) and isinstance(model.embedder, TokenEmbedder):
            return ((self.model.embedder, model.embedder, assets.tokenizer),)
        return ()

    def prepared(
        self,
        corpus: Mapping[str, str],
        assets: Assets,
        batches: Numbered,
        measure: Callable[[Any], Callable[[int], Measured]],
        summary: Callable[[], list[Json]],
        findings: Callable[[], list[Finding]] = list,
    ) -> Prepared:
        """The data of a task with an encoder model, ready for training."""

        def plan(config: Any, model: Any) -> Plan:
            return gradient_plan(config, model, batches, measure(model))

        sizes = f"{batches.per_epoch} batches an epoch"
        sizes += f"; {assets.vocab_size:,} in the vocabulary" if assets.tokenizers is not None else ""
        return Prepared(corpus, assets, plan, sizes, summary, findings, part=(batches, measure))


@torch.inference_mode()
def outputs(model: TextReader, head: str, items: Sequence[Item]) -> list[list[np.ndarray]]:
    """The outputs of a head for each text: one vector (L) for "label", else one matrix (T L) for each window."""
    results: list[list[np.ndarray]] = [[] for _ in items]
    device, pooled = next(model.parameters()).device, model.heads[head].reads == "pooled"
    model.eval()
    for part in by_length(items, _TOKENS):
        batch = collate([replace(items[i], targets=None) for i in part]).to(device)
        rows = iter(batch_scores(model, head, batch).float().cpu().numpy())
        for i in part:
            windows = items[i].windows
            results[i] = [next(rows)] if pooled else [next(rows)[: w.length] for w in windows]
    return results


def seen(looks: Sequence[Inspected], parameters: int) -> Seen:
    """What each token of some texts attends to; nothing where nothing attends."""
    read = [(next(iter(look.sides.values())).names, look.maps()) for look in looks]
    return Seen([Example(" ".join(tokens), "", "", maps) for tokens, maps in read if maps], parameters)
