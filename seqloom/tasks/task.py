"""What a task is: a config class with methods, which the workflows call without knowing which task it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import nn

from seqloom import config as configs
from seqloom.data.checks.pairs import Finding
from seqloom.data.sources.source import no_test_data
from seqloom.decoding.config import ALL_KEYS, DecodingConfig
from seqloom.errors import ConfigError, RunError, UsageError
from seqloom.inspection.page import Markup
from seqloom.inspection.report import Example
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.run import Json, Run
from seqloom.tasks import task_class
from seqloom.tasks.assets import Assets, load_tokenizers
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.fit import Measured, Plan, TrainingConfig
from seqloom.training.learner import GradientLearner
from seqloom.training.log import Reporter
from seqloom.training.optimizer import AdamW, OptimizerConfig
from seqloom.training.precision import Precision
from seqloom.training.schedule import Noam, Schedule


@dataclass(frozen=True)
class Trial:
    """What an estimate goes by where the first batches do not stand for all.

    Args:
        numbers: of batches from the whole range of sizes, the smallest first.
        shapes: (count) -> how many shapes so many batches have.
        evaluation: (model) -> the seconds that an evaluation takes.
        padding: the share of positions that is padding.
    """

    numbers: Sequence[int]
    shapes: Callable[[int], int]
    evaluation: Callable[[Any], float]
    padding: float


@dataclass(frozen=True)
class Prepared:
    """What a task has made of its data.

    Args:
        corpus: the digest of each split.
        assets: what the run keeps of it.
        plan: (config, model) -> how the model is trained, once it is on its device.
        sizes: of the data, for a person to read.
        summary: a row for each split.
        findings: what is suspicious in the data.
        trial: see there.
    """

    corpus: Mapping[str, str]
    assets: Assets
    plan: Callable[[Any, Any], Plan]
    sizes: str
    summary: Callable[[], list[Json]]
    findings: Callable[[], list[Finding]] = list
    trial: Trial | None = None


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
    unit: ClassVar[str] = "tokens"
    """What each step learns some of, as people are told."""
    wanted: ClassVar[str] = "name another run"
    """The cure where a run of another kind is named."""
    measured_in: ClassVar[Precision] = "fp32"
    """What a finished run is evaluated in."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 63:
            raise ValueError("seed must be at least 0 and below 2^63")

    @property
    def begins_with(self) -> str:
        """The run whose weights a new training starts from; "" = none."""
        return ""

    def scan(self) -> tuple[list[Finding], bool]:
        """What is suspicious in the files, before they are read as training does; and whether they cannot be."""
        return [], False

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """Reads the data and makes the assets or, in a run that has them, loads them. Raises DataError, UsageError."""
        raise UsageError(f"nothing is learned in the task {self.task!r}", cure="name another task")

    def assets(self, run: Run) -> Assets:
        """Those of a run. Raises RunError for files that the run was not written with."""
        return Assets(load_tokenizers(run))

    def build(self, assets: Assets) -> nn.Module:
        """The model, with weights drawn from the seed."""
        raise NotImplementedError

    def tables(self, model: Any, assets: Assets) -> Iterable[tuple[EmbedderConfig, TokenEmbedder, Tokenizer]]:
        """The embeddings that may begin as vectors of a file, with the tokenizer of each."""
        return ()

    def predictor(self, model: Any, assets: Assets, **options: Any) -> Any:
        """What the model is for its user."""
        raise NotImplementedError

    def score(self, predictor: Any, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """How good the predictor is on test data, with the seconds it took.

        Args:
            predictor: of a run with this config.
            test: files; empty = the test data of the config.
            options: as on the command line.
            reporter: where progress goes.
        """
        raise UsageError(f"there is nothing to evaluate for runs of the task {self.task!r}")

    @property
    def title(self) -> str:
        """What an evaluation without files is saved as."""
        return "test"

    def look(self, run: Run, predictor: Any, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """What the report shows beside what all runs have.

        Args:
            run: with this config.
            predictor: of the run.
            texts: what to look at; by default some of the samples.
            samples: of the validation.
        """
        raise UsageError(f"there is no report for runs of the task {self.task!r}")

    def compared(self, runs: Sequence[Run], names: Sequence[str], found: Sequence[Json]) -> Json | None:
        """More on evaluations of several runs on one test set than their scores; None = there is no more."""
        return None


C = TypeVar("C", bound=RunConfig)


def config_of(run: Run, kind: type[C]) -> C:
    """The config of a run, of the class of its task. Raises RunError for a run of another kind."""
    found = task_class(task := str(run.info().get("task")))
    if not issubclass(found, kind):
        raise RunError(f"is a run of the task {task!r}, which this is not for", where=str(run.path), cure=kind.wanted)
    config: C = configs.load(found, run.path / "config.toml")
    return config


@dataclass(frozen=True)
class GradientConfig(RunConfig):
    """What the configs of all tasks have whose models learn by gradients.

    Args:
        optimizer: how a step is made of the gradients.
        schedule: the learning rate of each step, as a share of optimizer.lr.
    """

    optimizer: OptimizerConfig = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=lambda: Noam(warmup=1000))


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
    per_epoch = batches.per_epoch / accumulate
    training = config.training.lasting(per_epoch)
    learner = GradientLearner(
        model,
        config.objective,
        lambda n: batches(n).to(device),
        config.optimizer,
        accumulate,
        training.ema,
        training.precision,
    )
    return Plan(learner, measure, config.optimizer.lr, config.schedule, training, config.unit, per_epoch)


def refuse_options(words: Sequence[str]) -> None:
    """Raises UsageError for any option, in a task that decodes nothing and so has none."""
    if words:
        raise UsageError(f"unknown option {words[0]!r}", cure="nothing is decoded here")


def tested_on(given: Sequence[str], own: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    """The files given, or else those of a config, for a task that has no options."""
    refuse_options(words)
    if not (files := tuple(given) or own):
        raise no_test_data()
    return files


def refuse_other_tests(tested: Sequence[Any], runs: Sequence[Run], names: Sequence[str]) -> None:
    """Raises UsageError unless all runs were tested on the same."""
    for run, own in zip(runs, tested, strict=True):
        if own != tested[0]:
            problem = f"was not tested on what {names[0]} was"
            raise UsageError(problem, where=str(run.path), cure="name the files with --test")


def decoding_config(base: DecodingConfig, words: Sequence[str]) -> DecodingConfig:
    """A decoding config with words like `--decoding.beam 5` laid over it."""
    typed = configs.read_overrides(words)
    if wrong := next((key for key in typed if key != "decoding"), None):
        cure = (
            f"did you mean '--decoding.{wrong}'?"
            if wrong in ALL_KEYS
            else "--help lists the options; decoding has its own, too"
        )
        raise ConfigError("unknown option", where=f"--{wrong}", cure=cure)
    chosen: DecodingConfig = configs.over(DecodingConfig, base, typed.get("decoding", {}), keys=("decoding",))
    return chosen
