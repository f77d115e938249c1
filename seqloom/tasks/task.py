"""What the training of every task has in common: the run opened or claimed, its facts written, its end recorded."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from seqloom import config as configs
from seqloom.decoding.search import DecodingConfig
from seqloom.errors import ConfigError, UsageError
from seqloom.inspection.page import Markup
from seqloom.inspection.report import Example
from seqloom.models.encoder_decoder import parameter_count
from seqloom.nn.linear import pack
from seqloom.run import Run
from seqloom.tasks.resume import refuse_another
from seqloom.training.checkpoint import Progress, load_weights
from seqloom.training.fit import Measured, Plan, TrainingConfig, fit
from seqloom.training.learner import GradientLearner
from seqloom.training.log import Reporter
from seqloom.training.optimizer import AdamW, OptimizerConfig
from seqloom.training.precision import Precision, dtype_for, peak_bytes, pick_device, processor_flags
from seqloom.training.schedule import Noam, Schedule

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class RunConfig:
    """What the configs of all tasks have.

    Args:
        task: what is trained; it decides which other keys there are.
        run: the run directory; by default runs/ and the name of the config file.
        seed: what everything random is drawn from.
        training: how long it trains, how often it is evaluated, and where it runs.
        accept: what the run must reach, by metric, for `seqloom verify`; "minutes" is the most training may take.
    """

    task: str = ""
    run: str = ""
    seed: int = 1
    training: TrainingConfig = field(default_factory=TrainingConfig)
    accept: dict[str, float] = field(default_factory=dict)
    unit: ClassVar[str] = "words"
    """What each step learns some of, as people are told."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 63:
            raise ValueError("seed must be at least 0 and below 2^63")


@dataclass(frozen=True)
class GradientConfig(RunConfig):
    """What the configs of all tasks have whose models learn by gradients.

    Args:
        optimizer: how a step is made of the gradients.
        schedule: the learning rate of each step, as a share of optimizer.lr.
    """

    optimizer: OptimizerConfig = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=lambda: Noam(warmup=1000))


@dataclass(frozen=True)
class Ready:
    """What a task has made of its config and its data.

    Args:
        corpus: the digest of each split.
        save: writes the tokenizer, or what there is instead, into the run.
        digests: of what it writes.
        build: the model as training begins.
        plan: how the model is trained, once it is on its device.
        sizes: of the data, in words.
        announce: called before a new training begins.
    """

    corpus: Mapping[str, str]
    save: Callable[[Path], None]
    digests: list[str]
    build: Callable[[], nn.Module]
    plan: Callable[[Any], Plan]
    sizes: str
    announce: Callable[[], None] = lambda: None


@runtime_checkable
class Numbered(Protocol):
    """Batches by number, without end."""

    @property
    def per_epoch(self) -> int:
        """How many there are in an epoch."""
        ...

    def __call__(self, number: int) -> Any:
        """Batch `number`."""
        ...


def gradient_plan(config: Any, model: nn.Module, batches: Numbered, measure: Callable[[int], Measured]) -> Plan:
    """How a model learns by gradients; `config` is a GradientConfig with an objective and batches.accumulate."""
    device, accumulate = next(model.parameters()).device, config.batches.accumulate
    training = config.training.lasting(batches.per_epoch / accumulate)
    learner = GradientLearner(
        model,
        config.objective,
        lambda n: batches(n).to(device),
        config.optimizer,
        accumulate,
        training.ema,
        training.precision,
    )
    return Plan(learner, measure, config.optimizer.lr, config.schedule, training, config.unit)


def train_run(config: RunConfig, reporter: Reporter, prepare: Callable[[Run], Ready]) -> Run:
    """Trains to the end and returns the run; goes on where an earlier call stopped.

    `prepare` makes (or, in a run that has them, loads) the tokenizers.
    """
    path = Path(config.run or f"runs/{config.task}")
    exists = (path / "run.json").is_file()
    run = Run.open(path) if exists else Run(path)
    threads = config.training.threads or (int(run.info()["threads"]) if exists else 0) or os.cpu_count() or 1
    torch.set_num_threads(threads)
    reporter.say(f"reading the data of {path}")
    device = pick_device(config.training.device)
    ready = prepare(run)
    if exists:
        refuse_another(run, configs.load(type(config), run.path / "config.toml"), config, ready.corpus)
    model = ready.build()
    if not exists:
        run.claim()
        with torch.random.fork_rng():  # what is announced must not change what is trained
            ready.announce()
        ready.save(path)
        run = Run.create(path, configs.to_toml(config), _facts(config, ready, threads))
    model = model.to(device)
    reporter.say(f"{ready.sizes}; {parameter_count(model):,} parameters")
    with run.locked():
        if exists:  # what may differ is from now on as it was asked for this time
            run.write_config(configs.to_toml(config))
            run.update_info(corpus=ready.corpus)
        _record(run, fit(run, ready.plan(model), reporter), model)
    return run


def _record(run: Run, progress: Progress, model: nn.Module) -> None:
    before = run.info().get("training", {}).get("gigabytes", 0.0)
    device = next(model.parameters()).device
    facts = {"steps": progress.step, "minutes": progress.seconds / 60, "words": progress.words}
    facts |= {"parameters": parameter_count(model), "gigabytes": max(before, peak_bytes(device) / 1e9)}
    run.update_info(training=facts)


def _facts(config: RunConfig, ready: Ready, threads: int) -> dict[str, Any]:
    import seqloom

    return {
        "task": config.task,
        "seed": config.seed,
        "threads": threads,
        "versions": {"seqloom": seqloom.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "processor": sorted(processor_flags()),
        "corpus": ready.corpus,
        "tokenizer": ready.digests,
    }


def trained(model: M, run: Run, precision: Precision, device: str, say: Callable[[str], None]) -> M:
    """The model with the weights of the run's best checkpoint, on its device, ready for use."""
    load_weights(run.best(say).path / "model.safetensors", model)
    where = pick_device(device)
    model = model.to(where, dtype_for(precision, where)).eval()
    pack(model)
    return model


def tested_on(given: Sequence[str], own: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    """The files given, or else those of a config, for a task that decodes nothing and so has no options for it."""
    if words:
        raise UsageError(f"unknown option {words[0]!r}", cure="nothing is decoded here")
    if not (files := tuple(given) or own):
        raise UsageError("the config names no test data", where="--test", cure="--test FILE ...")
    return files


class Seen(NamedTuple):
    """What a task shows of a run, beside what all have.

    Args:
        examples: texts with attention.
        parameters: of the model.
        sections: more of the report, by title.
    """

    examples: list[Example]
    parameters: int
    sections: Mapping[str, Markup] = MappingProxyType({})


def decoding_config(base: DecodingConfig, words: Sequence[str]) -> DecodingConfig:
    """A decoding config with words like `--decoding.beam 5` laid over it."""
    typed = configs.read_overrides(words)
    if wrong := next((key for key in typed if key != "decoding"), None):
        own = wrong in configs.tree_of(base)
        cure = f"did you mean '--decoding.{wrong}'?" if own else "--help lists the options; decoding has its own, too"
        raise ConfigError("unknown option", where=f"--{wrong}", cure=cure)
    return configs.build(_Decoding, configs.merge({"decoding": configs.tree_of(base)}, typed)).decoding


@dataclass(frozen=True)
class _Decoding:
    decoding: DecodingConfig
