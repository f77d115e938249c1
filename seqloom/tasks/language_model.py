"""Language modelling: from running text to a trained run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from seqloom import config as configs
from seqloom.data.corpus import NoData
from seqloom.data.stream import Stream, StreamConfig, Text, encode_text, read_text
from seqloom.decoding.search import DecodingConfig
from seqloom.evaluation.perplexity import perplexities, text_nll
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.objectives.next_word import NextWord
from seqloom.run import Run, write_json
from seqloom.tasks.generator import Generator
from seqloom.tasks.tokenizers import load_tokenizers, make_tokenizer, save_tokenizers
from seqloom.tasks.training import GradientConfig, Ready, tested_on, train_run, trained
from seqloom.tasks.vectors import take_vectors
from seqloom.text.tokenizer import BPE, Tokenizer, TokenizerConfig
from seqloom.training.fit import Measured, Plan, TrainingConfig
from seqloom.training.learner import GradientLearner
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision


@dataclass(frozen=True)
class TextFiles:
    """Text in files, plain, .gz or .xz; blank lines and ends of files part its documents.

    Args:
        train, valid, test: the files; ${VARIABLES} of the environment are filled in.
    """

    kind: ClassVar[str] = "text"
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.train or not self.valid:
            raise ValueError("train and valid must name at least one file each")


def _sampling() -> DecodingConfig:
    return DecodingConfig(beam=1, sample=True, temperature=0.8, top_p=0.95)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(GradientConfig):
    """All of a language model's run."""

    task: Literal["language_model"] = "language_model"
    data: TextFiles | NoData
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


@dataclass
class Prepared:
    """Texts, tokenizer and batches, ready for training."""

    texts: dict[str, Text]
    tokenizer: Tokenizer
    batches: Stream
    valid: tuple[np.ndarray, np.ndarray]


def prepare(config: LanguageModelConfig, reporter: Reporter, run: Run | None = None) -> Prepared:
    """Reads the data, makes (or, in a run that has one, loads) the tokenizer, and lays out the batches."""
    files = config.data
    if isinstance(files, NoData):
        files.refuse()
    splits = {"train": files.train, "valid": files.valid, "test": files.test}
    texts = {name: read_text(paths) for name, paths in splits.items() if paths}
    saved = load_tokenizers(run) if run is not None and (run.path / "run.json").is_file() else None
    tokenizer = saved[0] if saved else make_tokenizer(config.tokenizer, texts["train"].lines)
    batches = Stream(*encode_text(texts["train"], tokenizer), config.batches, config.seed)
    return Prepared(texts, tokenizer, batches, encode_text(texts["valid"], tokenizer))


def build_model(config: LanguageModelConfig, words: int) -> LanguageModel:
    """The model, with weights drawn from the config's seed."""
    torch.manual_seed(config.seed)
    return LanguageModel(config.model, words)


def train_language_model(config: LanguageModelConfig, reporter: Reporter) -> Run:
    """Trains to the end and returns the run; goes on where an earlier call stopped."""

    def ready(run: Run) -> Ready:
        prepared = prepare(config, reporter, run)
        batches, tokenizer = prepared.batches, prepared.tokenizer

        def build() -> LanguageModel:
            model = build_model(config, tokenizer.words)
            if not run.checkpoints():
                take_vectors(config.model.embedder, model.embedder, tokenizer, reporter)
            return model

        def plan(model: LanguageModel) -> Plan:
            device = next(model.parameters()).device
            learner = GradientLearner(
                model,
                config.objective,
                lambda n: batches(n).to(device),
                config.optimizer,
                config.batches.accumulate,
                config.training.ema,
                config.training.precision,
            )
            training = config.training.lasting(batches.per_epoch / config.batches.accumulate)
            return Plan(
                learner, Validation(config, prepared, model).measure, config.optimizer.lr, config.schedule, training
            )

        return Ready(
            {name: text.digest() for name, text in prepared.texts.items()},
            lambda path: save_tokenizers(path, tokenizer, tokenizer),
            [tokenizer.digest()] * 2,
            build,
            plan,
            f"{len(batches.ids):,} words of text, {batches.per_epoch} batches an epoch; "
            f"{tokenizer.words:,} in the vocabulary",
        )

    return train_run(config, reporter, ready)


class Validation:
    """The perplexity of the validation text, read in as many lanes as in training, and continuations of its lines."""

    def __init__(self, config: LanguageModelConfig, prepared: Prepared, model: LanguageModel) -> None:
        text, (ids, lines) = prepared.texts["valid"], prepared.valid
        self.model, self.sizes, self.tokens = model, text.sizes(), len(ids)
        self.stream = Stream(ids, lines, replace(config.batches, lanes=min(config.batches.lanes, len(ids))))
        self.generator = Generator(model, prepared.tokenizer, config.decoding, config.batches.length)
        own = [line for line in text.lines if len(line.split()) > 3]
        self.prompts = [" ".join(line.split()[:4]) for line in own[len(own) // 6 :: max(1, len(own) // 3)][:3]]

    def measure(self, step: int) -> Measured:
        """Loss and perplexities; and what the model makes of the beginnings of some lines."""
        found = perplexities(text_nll(self.model, self.stream), self.tokens, self.sizes)
        samples = [{"step": step, "prompt": p, "text": self.generator(p, max_length=40)} for p in self.prompts]
        return {name: found[name] for name in ("loss", "perplexity", "word_perplexity")}, samples


def load_generator(
    path: str | Path,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Generator:
    """The generator of a run, from its best checkpoint.

    Args:
        path: the run directory.
        precision: what to compute in; "auto" = bfloat16 where it is fast.
        device: "auto" = a GPU if there is one.
        say: is told which damaged checkpoints were passed over.
    """
    run = Run.open(path)
    config = configs.load(LanguageModelConfig, run.path / "config.toml")
    tokenizer, _ = load_tokenizers(run)
    model = trained(build_model(config, tokenizer.words), run, precision, device, say)
    return Generator(model, tokenizer, config.decoding, config.batches.length)


def evaluate_language_model(
    path: str | Path, test: Sequence[str], name: str, words: Sequence[str], reporter: Reporter
) -> dict[str, Any]:
    """The perplexities of a test text, saved as eval/NAME.json.

    A recurrent model reads it from end to end; any other one sees windows of batches.length words.

    Args:
        path: the run.
        test: its files; empty = the test data of the run's config.
        name: what to save it as; by default the name of the first file, or "test".
        words: must be empty; a text is not decoded.
        reporter: where progress goes.
    """
    run = Run.open(path)
    config = configs.load(LanguageModelConfig, run.path / "config.toml")
    files = tested_on(test, config.data.test, words)
    text = read_text(files)
    generator = load_generator(path, precision="fp32", say=reporter.warn)
    ids, lines = encode_text(text, generator.tokenizer)
    carries = generator.model.carries
    own = replace(config.batches, lanes=1 if carries else min(config.batches.lanes, len(ids)))
    reporter.say(f"reading {len(ids):,} words")
    began = time.perf_counter()
    found = perplexities(text_nll(generator.model, Stream(ids, lines, own)), len(ids), text.sizes())
    title = name or (Path(test[0]).name.split(".")[0] if test else "test")
    result = {
        "test": title,
        **found,
        "tokens": len(ids),
        "unknown": int((ids == generator.tokenizer.unknown).sum()),
        **text.sizes(),
        "context": None if carries else config.batches.length,
        "stride": None if carries else config.batches.stride or -(-config.batches.length // 2),
        "seconds": round(time.perf_counter() - began, 3),
        "checkpoint": run.best(lambda text: None).path.name,
        "files": list(test),
    }
    write_json(run.path / "eval" / f"{title}.json", result)
    return result
