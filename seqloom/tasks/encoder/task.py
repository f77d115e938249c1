"""What all tasks have in common whose models read whole texts: config, training, and the trained model found again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from seqloom import config as configs
from seqloom.config import Tree
from seqloom.data.batches.windows import Item, LengthConfig, TextBatchConfig, by_length, collate
from seqloom.data.checks.pairs import Finding
from seqloom.errors import RunError
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.objectives.reading import batch_scores
from seqloom.run import Json, Run, write_json
from seqloom.tasks import part_for
from seqloom.tasks.building import (
    load_tokenizers,
    make_tokenizer,
    on_start,
    save_tokenizers,
    start_tokenizer,
    take_start,
)
from seqloom.tasks.task import GradientConfig, Numbered, Ready, gradient_plan, train_run, trained
from seqloom.tasks.word_vectors.starting import take_vectors
from seqloom.text.tokenizer import BPE, Tokenizer, TokenizerConfig
from seqloom.training.fit import Measured, Metric, Plan, TrainingConfig
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision
from seqloom.training.schedule import Linear, Schedule

_FACTS = "labels.json"
_TOKENS = 8192  # words of a batch where nothing is learned


@dataclass
class Prepared:
    """What a task has made of its data.

    Args:
        corpus: the digest of each split.
        tokenizer: of the run.
        facts: what is learned from the data beside it: the labels.
        batches: to train on.
        measure: (model) -> (step) -> the validation.
        summary: of each split.
        findings: what is suspicious in the data.
    """

    corpus: Mapping[str, str]
    tokenizer: Tokenizer
    facts: Json
    batches: Numbered
    measure: Callable[[EncoderOnly], Callable[[int], Measured]]
    summary: Callable[[], list[Json]]
    findings: Callable[[], list[Finding]] = list


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(GradientConfig):
    """What the configs of all tasks have whose models read whole texts.

    Args:
        start: the run whose model and tokenizer training begins with; "" = the model is drawn, the tokenizer made.
        tokenizer: how texts are cut into tokens.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how texts are put together into batches.
    """

    start: str = ""
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
        if not isinstance(self.model.embedder, EmbedderConfig):
            raise ValueError("model.embedder must be of the kind 'words': texts are read here")
        if self.pairs and self.model.segments == 1:
            raise ValueError("model.segments must be 0, or 2 to tell the texts of a pair apart")
        limit = self.model.encoder.limit
        if limit is not None and limit < self.batches.length:
            raise ValueError(f"batches.length {self.batches.length} is more than the model's {limit} positions")

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree laid over the model of the run that is started from."""
        tree = on_start(tree)
        model = tree.get("model")
        kind = model.get("kind") if isinstance(model, Mapping) else None
        if tree.get("start") and kind not in (None, EncoderOnlyConfig.kind):
            raise ValueError(f"start must name a run whose model reads whole texts, not one of the kind {kind!r}")
        return tree

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What "best" may mean."""
        return ("loss",)

    @property
    def pairs(self) -> bool:
        """Whether there are pairs of texts."""
        return False

    def heads(self, facts: Json) -> Mapping[str, int]:
        """Of the model, when the facts of the data are known."""
        raise NotImplementedError

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """Reads the data, makes (or, in a run that has one, loads) the tokenizer, and lays out the batches."""
        raise NotImplementedError


def tokenizer_for(config: ReadingConfig, run: Run | None, texts: Callable[[], Any]) -> Tokenizer:
    """That of a run that has one, of the run started from, or one made of texts."""
    if run is not None and (run.path / "run.json").is_file():
        return load_tokenizers(run)[0]
    return start_tokenizer(config.start) if config.start else make_tokenizer(config.tokenizer, texts())


def build_model(config: ReadingConfig, words: int, heads: Mapping[str, int]) -> EncoderOnly:
    """The model, with weights drawn from the config's seed."""
    torch.manual_seed(config.seed)
    return EncoderOnly(config.model, words, heads)


def train_reader(config: ReadingConfig, reporter: Reporter) -> Run:
    """Trains to the end and returns the run; goes on where an earlier call stopped."""

    def ready(run: Run) -> Ready:
        prepared = config.prepare(reporter, run)
        batches, tokenizer = prepared.batches, prepared.tokenizer

        def build() -> EncoderOnly:
            model = build_model(config, tokenizer.words, config.heads(prepared.facts))
            if not run.checkpoints():
                begin(config, model, tokenizer, reporter)
            return model

        def plan(model: EncoderOnly) -> Plan:
            return gradient_plan(config, model, batches, prepared.measure(model))

        def save(path: Path) -> None:
            save_tokenizers(path, tokenizer, tokenizer)
            write_json(path / _FACTS, prepared.facts)

        sizes = f"{batches.per_epoch} batches an epoch; {tokenizer.words:,} in the vocabulary"
        return Ready(prepared.corpus, save, [tokenizer.digest()] * 2, build, plan, sizes)

    return train_run(config, reporter, ready)


def begin(config: ReadingConfig, model: EncoderOnly, tokenizer: Tokenizer, reporter: Reporter) -> None:
    """Gives a new model what it starts from: the weights of a run, but for heads that differ, or word vectors."""
    if config.start:
        fresh = _differing(config.start, model)
        take_start(config.start, model, tokenizer.words, reporter, fresh)
        if drawn := [name for name in fresh if any(n.startswith(name) for n, _ in model.named_parameters())]:
            reporter.say(f"drawn anew: {', '.join(drawn)}")
    elif isinstance(config.model.embedder, EmbedderConfig) and isinstance(model.embedder, TokenEmbedder):
        take_vectors(config.model.embedder, model.embedder, tokenizer, reporter)


def _differing(start: str, model: EncoderOnly) -> tuple[str, ...]:
    """The heads, layers of the pooling and vectors of matches that a run's weights have not, or have otherwise."""
    path = Run.open(start).best(lambda text: None).path / "model.safetensors"
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    with safe_open(path, "pt") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    found: dict[str, bool] = {}
    for name in own.keys() | saved.keys():
        part = ".".join(name.split(".")[:2])
        if part.startswith(("heads.", "pooling.", "matches")):
            grown = part == "heads.words" and name in own and name in saved  # by new words of the tokenizer
            found[part] = found.get(part, False) or (own.get(name) != saved.get(name) and not grown)
    return tuple(sorted(part for part, differs in found.items() if differs))


def load_model(
    path: str | Path,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Any, EncoderOnly, Tokenizer, Json]:
    """Config, model, tokenizer and facts of a run, from its best checkpoint.

    Args:
        path: the run directory.
        precision: what to compute in; "auto" = bfloat16 where it is fast.
        device: "auto" = a GPU if there is one.
        say: is told which damaged checkpoints were passed over.
    """
    run = Run.open(path)
    config = configs.load(part_for(run, "config"), run.path / "config.toml")
    if not isinstance(config, ReadingConfig):
        cure = "name a run of the task classify, tag, answer or masked_words"
        raise RunError(f"is a run of the task {config.task!r}", where=str(run.path), cure=cure)
    tokenizer, facts = load_tokenizers(run)[0], _facts(run)
    model = EncoderOnly(config.model, tokenizer.words, config.heads(facts))
    return config, trained(model, run, precision, device, say), tokenizer, facts


def _facts(run: Run) -> Json:
    path = run.path / _FACTS
    try:
        found: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cure = "put back the one that the run was written with"
        raise RunError(f"cannot be read: {error}", where=str(path), cure=cure) from None
    return found


def save_scores(path: str | Path, test: Sequence[str], name: str, scores: Json, began: float) -> Json:
    """Saves an evaluation as eval/NAME.json of a run; by default the name of the first file, or "test"."""
    run, title = Run.open(path), name or (Path(test[0]).name.split(".")[0] if test else "test")
    facts = {"checkpoint": run.best(lambda text: None).path.name, "files": list(test)}
    result = {"test": title, **scores, "seconds": round(time.perf_counter() - began, 3), **facts}
    write_json(run.path / "eval" / f"{title}.json", result)
    return result


@torch.inference_mode()
def outputs(model: EncoderOnly, head: str, items: Sequence[Item]) -> list[list[np.ndarray]]:
    """What a head says of each text: one vector (L) for "label", else of each window (T L)."""
    found: list[list[np.ndarray]] = [[] for _ in items]
    device = next(model.parameters()).device
    model.eval()
    for part in by_length(items, _TOKENS):
        batch = collate([replace(items[i], targets=None) for i in part]).to(device)
        rows = iter(batch_scores(model, head, batch).float().cpu().numpy())
        for i in part:
            windows = items[i].windows
            found[i] = [next(rows)] if head == "label" else [next(rows)[: len(w.ids)] for w in windows]
    return found
