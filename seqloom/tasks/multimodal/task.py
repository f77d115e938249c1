"""Several tasks that share one model (Hu and Singh 2021): each as it is alone, with a view of that model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from seqloom.config import Tree
from seqloom.data.batches.windows import generator_of
from seqloom.data.rows import digest_of_parts
from seqloom.errors import ConfigError, UsageError, nearest
from seqloom.files import Json
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.page import Markup
from seqloom.measures import count_of, is_value, rank
from seqloom.models.assemblies import parameter_count
from seqloom.models.multimodal import Multimodal, MultimodalConfig
from seqloom.models.presets import source_of
from seqloom.objectives.cross_entropy import Loss
from seqloom.run import Run
from seqloom.tasks.assets import Assets, load_facts, load_tokenizers, make_tokenizer
from seqloom.tasks.building import kept_tokenizers, on_start
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.multimodal.config import ClassifyPart, MultimodalKeys, TranslatePart
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import Numbered, Prepared, Seen, gradient_plan, refuse_other_tests
from seqloom.text.tokenizer import Tokenizer, TokenizerFile
from seqloom.training.fit import Measured
from seqloom.training.log import Reporter

_PARTS = {part.kind: part for part in (ClassifyPart, TranslatePart)}
_ENCODERS = {"text": "small-bert", **ClassifyConfig.models}


@dataclass(frozen=True)
class Drawn:
    """A batch of one of the tasks."""

    task: str
    batch: Any

    @property
    def tokens(self) -> int:
        """What the loss is summed over."""
        tokens: int = self.batch.tokens
        return tokens

    @property
    def rows(self) -> tuple[int, ...]:
        """The examples, in the data of the task."""
        rows: tuple[int, ...] = self.batch.rows
        return rows

    def to(self, device: torch.device) -> Drawn:
        """The same batch on a device."""
        return replace(self, batch=self.batch.to(device))


class Rounds:
    """The endless sequence of batches of several tasks, by number.

    A round has `share` batches of each task, in an order that is a pure function of the seed and the round.
    """

    def __init__(self, tasks: Mapping[str, Numbered], shares: Mapping[str, int], seed: int) -> None:
        self.tasks, self.shares, self.seed = tasks, shares, seed
        self._round = [name for name, share in shares.items() for _ in range(share)]
        rounds = max(batches.per_epoch / shares[name] for name, batches in tasks.items())
        self.per_epoch = round(rounds * len(self._round))
        """Until the task with the most batches for its share has had all of them."""

    def __call__(self, number: int) -> Drawn:
        """Batch `number` of the endless sequence."""
        done, place = divmod(number, len(self._round))
        order = generator_of(self.seed, done).permutation(len(self._round))[: place + 1]
        names = [self._round[i] for i in order]
        name = names[-1]
        return Drawn(name, self.tasks[name](done * self.shares[name] + names.count(name) - 1))


class Together:
    """The objective: for each batch that of its task."""

    def __init__(self, config: MultimodalTask, model: Multimodal) -> None:
        self.views: dict[str, Any] = {name: model.view(name) for name in config.tasks}
        self.objectives: dict[str, Callable[..., Loss]] = {name: part.objective for name, part in config.tasks.items()}

    def __call__(self, model: Multimodal, drawn: Drawn) -> Loss:
        """The loss of a batch."""
        view = self.views[drawn.task]
        view.training = model.training
        return self.objectives[drawn.task](view, drawn.batch)


class Predictors:
    """A model of several tasks in use: `predictors(["a.png"], task="digits")`; `predictors["digits"]` is one alone."""

    def __init__(self, parts: Mapping[str, Any], model: Multimodal) -> None:
        self.parts, self.model = parts, model

    def __getitem__(self, task: str) -> Any:
        """The predictor of a task. Raises UsageError for an unknown one."""
        if task not in self.parts:
            raise UsageError(f"there is no task {task!r}", cure=nearest(task, self.parts))
        return self.parts[task]

    def __call__(self, inputs: Sequence[Any], task: str = "", **options: Any) -> Any:
        """The predictions of a task for inputs, of the only one unless it is named; the options are its predictor's."""
        return self._named(task)(inputs, **options)

    def look(self, example: Any, task: str = "", **options: Any) -> Inspected:
        """What the model does with an input of a task; the options are its predictor's."""
        looked: Inspected = self._named(task).look(example, **options)
        return looked

    def _named(self, task: str) -> Any:
        task = task or (next(iter(self.parts)) if len(self.parts) == 1 else "")
        if not task:
            cure = f"name one: task={next(iter(self.parts))!r}"
            raise UsageError(f"there are several tasks: {', '.join(self.parts)}", cure=cure)
        return self[task]


@dataclass(frozen=True, kw_only=True)
class MultimodalTask(MultimodalKeys):
    """The config of a run of several tasks over inputs of several modalities, which share a model."""

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree with an encoder for each modality, and that of the run that training starts from."""
        tasks, model = tree.get("tasks", {}), tree.get("model", {})
        if not tree.get("start") and isinstance(tasks, Mapping) and isinstance(model, Mapping):
            parts = [part for part in tasks.values() if isinstance(part, Mapping)]
            sources = [source_of(_PARTS.get(_kind(part), ClassifyPart), part) for part in parts]
            read = {getattr(source, "modality", "text") for source in sources}
            read |= {getattr(source, "beside", "") for source in sources} - {""}
            encoders = dict(model.get("encoders", {}))
            for name in sorted(read):
                encoder = encoders.get(name, {})
                if isinstance(encoder, Mapping) and not encoder.get("preset"):
                    encoders[name] = {"preset": _ENCODERS[name], **encoder}
            tree = {**tree, "model": {**model, "encoders": encoders}}
        return on_start(tree, MultimodalConfig.kind)

    @property
    def parts(self) -> Mapping[str, ClassifyConfig | TranslateConfig]:
        """See RunConfig."""
        return {name: self.alone(name) for name in self.tasks}

    def viewed(self, name: str, model: Multimodal, assets: Assets) -> tuple[Any, Assets]:
        """See RunConfig."""
        return model.view(name), self._assets_of(name, assets)

    def _assets_of(self, name: str, assets: Assets) -> Assets:
        part = self.tasks[name]
        text = isinstance(part, TranslatePart) or part.modality == "text"
        return Assets(assets.tokenizers if text else None, (assets.facts or {}).get(name) or None)

    def assets(self, run: Run) -> Assets:
        """See RunConfig."""
        return Assets(load_tokenizers(run), load_facts(run))

    def build(self, assets: Assets) -> Multimodal:
        """See RunConfig."""
        torch.manual_seed(self.seed)
        model, facts = self.model, assets.facts or {}
        outputs: dict[str, tuple[str, int]] = {}
        for name, part in self.parts.items():
            known, modality = facts.get(name) or {}, self.tasks[name].modality
            try:
                model = model.sized(modality, known.get("sizes", {}))
            except ConfigError as error:
                problem = f"its {modality}s and those of another task share an encoder: {error.where} {error.problem}"
                cure = f"bring both to one size with tasks.{name}.data.size" if modality == "image" else error.cure
                raise ConfigError(problem, where=f"tasks.{name}", cure=cure) from None
            outputs[name] = modality, part.heads(known)["label"] if isinstance(part, ClassifyConfig) else 0
        return Multimodal(model, assets.vocab_size, outputs)

    def prepare(self, reporter: Reporter, run: Run | None = None) -> Prepared:
        """See RunConfig."""
        tokenizer = self._tokenizer(reporter, run)
        prepared: dict[str, Prepared] = {}
        with tempfile.TemporaryDirectory(prefix="seqloom-") as folder:
            path = Path(folder, "tokenizer.json")
            if tokenizer is not None:
                path.write_text(tokenizer.to_json(), encoding="utf-8")
            for name in self.tasks:
                reporter.say(f"{name}:")
                alone = self.alone(name, TokenizerFile(path=str(path)) if tokenizer is not None else None)
                prepared[name] = alone.prepare(reporter)
        assets = Assets(
            (tokenizer, tokenizer) if tokenizer is not None else None,
            {name: part.assets.facts or {} for name, part in prepared.items()},
        )
        parts = {name: each.part for name, each in prepared.items() if each.part is not None}
        rounds = Rounds(
            {name: batches for name, (batches, _) in parts.items()},
            {name: part.share for name, part in self.tasks.items()},
            self.seed,
        )

        def measure(model: Multimodal) -> Callable[[int], Measured]:
            measures = {name: of(model.view(name)) for name, (_, of) in parts.items()}
            return lambda step: self._validated({name: each(step) for name, each in measures.items()})

        splits = {split for each in prepared.values() for split in each.corpus}
        corpus = {
            split: digest_of_parts(
                f"{name} {each.corpus.get(split, '')}".encode() for name, each in sorted(prepared.items())
            )
            for split in sorted(splits)
        }
        return Prepared(
            corpus,
            assets,
            lambda chosen, model: gradient_plan(chosen, model, rounds, measure(model), Together(self, model)),
            "; ".join(f"{name}: {each.sizes}" for name, each in prepared.items()),
            lambda: [{"task": name, **row} for name, each in prepared.items() for row in each.summary()],
            lambda: [replace(f, what=f"{name}: {f.what}") for name, e in prepared.items() for f in e.findings()],
        )

    def _tokenizer(self, reporter: Reporter, run: Run | None) -> Tokenizer | None:
        """The tokenizer of the run, or of its start; else one made of the training texts of all tasks, if any."""
        texts = [part for part in self.parts.values() if part.modality == "text" or isinstance(part, TranslateConfig)]
        if not texts:
            return None
        if (kept := kept_tokenizers(self, run)) is not None:
            return kept[0]
        return make_tokenizer(self.tokenizer, (text for part in texts for text in part.learned_texts(reporter.say)))

    def _validated(self, measured: Mapping[str, Measured]) -> Measured:
        """The scores of all tasks, the mean of those that each is chosen by, and of the losses; samples of all."""
        means = {
            "score": self._mean({name: scores for name, (scores, _) in measured.items()}),
            "loss": fmean(scores["loss"] for scores, _ in measured.values()),
        }
        each = {f"{name}.{key}": value for name, (scores, _) in measured.items() for key, value in scores.items()}
        samples = [{"task": name, **sample} for name, (_, rows) in measured.items() for sample in rows]
        return means | each, samples

    def _mean(self, scores: Mapping[str, Mapping[str, float]]) -> float:
        """The mean of the scores that the tasks are chosen by."""
        return fmean(rank(part.metric, scores[name][part.metric]) for name, part in self.tasks.items())

    def predictor(self, model: Multimodal, assets: Assets, **options: Any) -> Predictors:
        """See RunConfig."""
        parts = {
            name: part.predictor(*self.viewed(name, model, assets), **options) for name, part in self.parts.items()
        }
        return Predictors(parts, model)

    def score(self, predictor: Predictors, test: Sequence[str], options: Sequence[str], reporter: Reporter) -> Json:
        """See RunConfig: each task on its own test data."""
        if test or options:
            what, cure = ("--test" if test else str(options[0])), "seqloom eval RUN --task NAME takes it"
            raise UsageError("is for one of the tasks", where=what, cure=cure)
        scores: Json = {}
        for name, part in self.parts.items():
            reporter.say(f"{name}:")
            scores[name] = part.score(predictor[name], (), (), reporter)
        flat = {
            f"{name}.{key}": value for name, each in scores.items() for key, value in each.items() if is_value(value)
        }
        seconds = sum(each["seconds"] for each in scores.values())
        return {"score": self._mean(scores), **flat, "seconds": seconds, "tasks": scores}

    def look(self, run: Run, predictor: Predictors, texts: Sequence[str], samples: Sequence[Json]) -> Seen:
        """See RunConfig: what each task shows. Raises UsageError for inputs, as each task reads others."""
        if texts:
            raise UsageError("each task reads other inputs", where=str(texts[0]), cure="leave them out")
        examples, sections = list[Any](), dict[str, Markup]()
        for name, part in self.parts.items():
            seen = part.look(run, predictor[name], (), [row for row in samples if row.get("task") == name])
            examples += seen.examples
            sections |= {f"{name}: {title}": section for title, section in seen.sections.items()}
        return Seen(examples, parameter_count(predictor.model), sections)

    def compared(
        self, runs: Sequence[Run], names: Sequence[str], evaluations: Sequence[Json], reporter: Reporter
    ) -> None:
        """See RunConfig: only runs of the same tasks, on the same numbers of examples."""
        tests = [{name: count_of(scores) for name, scores in each["tasks"].items()} for each in evaluations]
        refuse_other_tests(tests, runs, names)


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get("kind", "classify")
    return kind if isinstance(kind, str) else str(kind[0]) if kind else ""
