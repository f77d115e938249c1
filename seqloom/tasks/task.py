"""The protocol of a task: a config class with methods that the workflows call, whatever the task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import nn

from seqloom import config as configs
from seqloom.adaptation.config import AdaptConfig, Full
from seqloom.data.checks.pairs import Finding
from seqloom.data.sources.source import no_test_data
from seqloom.decoding.config import ALL_KEYS, DecodingConfig
from seqloom.errors import ConfigError, RunError, UsageError, command, nearest
from seqloom.files import Json
from seqloom.inspection.attention import Example
from seqloom.inspection.page import Markup
from seqloom.limits import Bounded, Bounds, Seed
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.run import Run
from seqloom.tasks import task_class
from seqloom.tasks.assets import Assets, load_tokenizers
from seqloom.tasks.counterpart import Compared, Counterpart
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Measured, Plan
from seqloom.training.log import Reporter
from seqloom.training.loop import GradientLearner
from seqloom.training.optimizer import AdamW, OptimizerConfig
from seqloom.training.precision import Precision
from seqloom.training.schedule import Noam, Schedule


@dataclass(frozen=True)
class Trial:
    """What an estimate is based on where the first batches are not typical.

    Args:
        numbers: the numbers of batches from the whole range of sizes, the smallest first.
        shapes: (count) -> the number of distinct shapes among this many batches.
        evaluation: (model) -> the seconds that an evaluation takes.
        padding: the share of positions that are padding.
    """

    numbers: Sequence[int]
    shapes: Callable[[int], int]
    evaluation: Callable[[Any], float]
    padding: float


@dataclass(frozen=True)
class Prepared:
    """The data of a task, ready for training.

    Args:
        corpus: the digest of each split.
        assets: what the run keeps of the data.
        plan: (config, model) -> how the model is trained, once it is on its device.
        sizes: the sizes of the data, in words.
        summary: () -> a row for each split.
        findings: () -> what is suspicious in the data.
        trial: see Trial.
        part: what a training of several tasks needs of it: its batches, and (model) -> (step) -> what is measured.
    """

    corpus: Mapping[str, str]
    assets: Assets
    plan: Callable[[Any, Any], Plan]
    sizes: str
    summary: Callable[[], list[Json]]
    findings: Callable[[], list[Finding]] = list
    trial: Trial | None = None
    part: tuple[Numbered, Callable[[Any], Callable[[int], Measured]]] | None = None


class Seen(NamedTuple):
    """What a task adds to the report of a run.

    Args:
        examples: texts with their attention.
        parameters: the parameters of the model.
        sections: more sections of the report, by title.
    """

    examples: list[Example]
    parameters: int
    sections: Mapping[str, Markup] = MappingProxyType({})


@dataclass(frozen=True)
class RunConfig(Bounded):
    """The keys of all tasks.

    Args:
        task: what is trained; it decides which other keys there are.
        run: the run directory; by default runs/ and the name of the config file.
        seed: the seed of everything random.
        training: how long it trains, how often it is evaluated, and where it runs.
        accept: the results that `seqloom verify` requires, by metric; "minutes" is the most training may take.
    """

    task: str = ""
    run: str = ""
    seed: Seed = 1
    training: TrainingConfig = field(default_factory=TrainingConfig)
    accept: dict[str, Annotated[float, Bounds(-(10**12), 10**12)]] = field(default_factory=dict)
    unit: ClassVar[str] = "tokens"
    """What the speed of training is counted in."""
    other_run: ClassVar[str] = "name another run"
    """The cure in the error for a run of another task."""
    measured_in: ClassVar[Precision] = "fp32"
    """The precision in which a finished run is evaluated."""
    used_in: ClassVar[Precision] = "auto"
    """The precision in which it is used where none is asked for."""

    @property
    def begins_with(self) -> str:
        """The run whose weights a new training starts from; "" = none."""
        return ""

    @property
    def used_by(self) -> str:
        """The command that uses a run of this config."""
        return "eval"

    def scan(self) -> tuple[list[Finding], bool]:
        """What is suspicious in the raw files, and whether they are too damaged to be read."""
        return [], False

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """Reads the data, and makes the assets or loads those of the run. Raises DataError, UsageError."""
        raise UsageError(f"the task {self.task!r} has no training", cure="name another task")

    def assets(self, run: Run) -> Assets:
        """The assets of a run. Raises RunError for files that are not the run's."""
        return Assets(load_tokenizers(run))

    def build(self, assets: Assets) -> nn.Module:
        """The model, with initial weights from the seed."""
        raise NotImplementedError

    def tables(self, model: Any, assets: Assets) -> Iterable[tuple[EmbedderConfig, TokenEmbedder, Tokenizer]]:
        """The embeddings that can be initialized with vectors from a file, with the tokenizer of each."""
        return ()

    def predictor(self, model: Any, assets: Assets, **options: Any) -> Any:
        """The model in use."""
        raise NotImplementedError

    def score(self, predictor: Any, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """The scores of the predictor on test data, and the seconds it took.

        Args:
            predictor: the predictor of a run with this config.
            test: test files; empty = the test data of the config.
            options: options as on the command line.
            reporter: prints progress.
        """
        raise UsageError(f"the task {self.task!r} has no evaluation")

    @property
    def parts(self) -> Mapping[str, RunConfig]:
        """The tasks of a run of several, by name, each as it is alone; {} = there is one."""
        return {}

    def viewed(self, name: str, model: Any, assets: Assets) -> tuple[Any, Assets]:
        """The model and the assets of one of several tasks."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name of an evaluation on the test data of the config."""
        return "test"

    def look(self, run: Run, predictor: Any, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """What the report shows of this task.

        Args:
            run: a run with this config.
            predictor: its predictor.
            texts: texts whose attention is shown; by default some of the samples.
            samples: the samples from validation.
        """
        raise UsageError(f"the task {self.task!r} has no report")

    def ids(self, other: Counterpart, text: str) -> list[int]:
        """The ids of a text as the predictor reads it, with the special tokens around it."""
        template, row = other.tokenizer.template, other.tokenizer.encode([text])[0]
        return [*template.before, *row.tolist(), *template.after]

    def answers(self, other: Counterpart, texts: Sequence[str]) -> Iterable[tuple[str, Compared]]:
        """What the predictor gives for texts, and another program; by kind of answer."""
        return ()

    def compared(
        self, runs: Sequence[Run], names: Sequence[str], evaluations: Sequence[Json], reporter: Reporter
    ) -> Json | None:
        """A detailed comparison of several runs on one test set; None = only the scores are compared."""
        return None


C = TypeVar("C", bound=RunConfig)


def config_of(run: Run, kind: type[C], task: str = "") -> C:
    """The config of a run, or of one of its tasks.

    Raises RunError unless its class is `kind` or derived from it, UsageError where a task is to be named.
    """
    config: RunConfig = configs.load(task_class(str(run.info().get("task"))), run.path / "config.toml")
    name = chosen_part(config, kind, task, str(run.path))
    chosen: Any = config.parts[name] if name else config
    return chosen  # type: ignore[no-any-return]


def chosen_part(config: RunConfig, kind: type[RunConfig] | tuple[type[RunConfig], ...], task: str, where: str) -> str:
    """The name of a task of a run of several that has this class, the only one unless it is named; "" = all."""
    parts, kinds = config.parts, kind if isinstance(kind, tuple) else (kind,)
    if task and task not in parts:
        cure = nearest(task, parts) if parts else "leave --task out"
        raise UsageError(f"has no task {task!r}" if parts else "has one task alone", where=where, cure=cure)
    if not task and isinstance(config, kind):
        return ""
    fitting = [name for name, part in parts.items() if isinstance(part, kind) and task in ("", name)]
    if len(fitting) > 1:
        problem = f"has several such tasks: {', '.join(fitting)}"
        raise UsageError(problem, where=where, cure=f"choose one: --task {fitting[0]}")
    if not fitting:
        if task:
            problem, cure = f"its task {task!r} is of the kind {parts[task].task!r}", parts[task].used_by
            raise RunError(problem, where=where, cure=command(cure, where, "...", "--task", task))
        cure = f"name a run of the task {' or '.join(each.task for each in kinds)}"
        cure = cure if len(kinds) > 1 else kinds[0].other_run
        raise RunError(f"is a run of the task {config.task!r}, which this is not for", where=where, cure=cure)
    return fitting[0]


@dataclass(frozen=True)
class GradientConfig(RunConfig):
    """The keys of all tasks whose models are trained by gradient descent.

    Args:
        start: the run whose weights, tokenizer and, by default, model training starts from; "" = new ones.
        adapt: how much of that model is learned.
        optimizer: how the gradients become a step.
        schedule: the learning rate of each step, as a share of optimizer.lr.
    """

    start: str = ""
    adapt: AdaptConfig = field(default_factory=Full)
    optimizer: OptimizerConfig = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=lambda: Noam(warmup=1000))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.start and not isinstance(self.adapt, Full):
            raise ValueError(f"adapt.kind = '{self.adapt.kind}' adapts the model of another run: start must name it")

    @property
    def begins_with(self) -> str:
        """See RunConfig."""
        return self.start


@runtime_checkable
class Numbered(Protocol):
    """An endless sequence of batches, by number."""

    @property
    def per_epoch(self) -> int:
        """The number of batches in an epoch."""
        ...

    def __call__(self, number: int) -> Any:
        """Batch `number`."""
        ...


def gradient_plan(
    config: Any,
    model: nn.Module,
    batches: Numbered,
    measure: Callable[[int], Measured],
    objective: Callable[..., Any] | None = None,
) -> Plan:
    """The plan of training by gradient descent; `config` is a GradientConfig with an objective and batches.

    `objective`: what to use in place of that of the config.
    """
    device, accumulate = next(model.parameters()).device, config.batches.accumulate
    per_epoch = batches.per_epoch / accumulate
    training = config.training.lasting(per_epoch)
    learner = GradientLearner(
        model,
        objective or config.objective,
        lambda n: batches(n).to(device),
        config.optimizer,
        accumulate,
        training.ema,
        training.precision,
    )
    return Plan(learner, measure, config.optimizer.lr, config.schedule, training, config.unit, per_epoch)


def refuse_options(options: Sequence[str]) -> None:
    """Raises UsageError for any option, in a task that has none for evaluation."""
    if options:
        raise UsageError(f"unknown option {options[0]!r}", cure="leave it out: this task does not decode")


def tested_on(files: Sequence[str], defaults: tuple[str, ...], options: Sequence[str]) -> tuple[str, ...]:
    """The test files, by default those of the config, of a task without options for evaluation."""
    refuse_options(options)
    if not (files := tuple(files) or defaults):
        raise no_test_data()
    return files


def refuse_other_tests(tested: Sequence[Any], runs: Sequence[Run], names: Sequence[str]) -> None:
    """Raises UsageError unless all runs were tested on the same data."""
    for run, data in zip(runs, tested, strict=True):
        if data != tested[0]:
            problem = f"was not tested on the same data as {names[0]}"
            raise UsageError(problem, where=str(run.path), cure="name the files with --test")


def decoding_config(base: DecodingConfig, options: Sequence[str]) -> DecodingConfig:
    """A decoding config with options like `--decoding.beam 5` of the command line."""
    typed = configs.read_overrides(options)
    if wrong := next((key for key in typed if key != "decoding"), None):
        known = wrong in ALL_KEYS
        cure = f"did you mean '--decoding.{wrong}'?" if known else "--help lists the options; those of decoding too"
        raise ConfigError("unknown option", where=f"--{wrong}", cure=cure)
    chosen: DecodingConfig = configs.over(DecodingConfig, base, typed.get("decoding", {}), keys=("decoding",))
    return chosen
