"""A published checkpoint as a run that every verb accepts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from seqloom.config import Tree, build, to_toml, tree_of
from seqloom.errors import ConfigError, RunError, UsageError, nearest
from seqloom.files import Json
from seqloom.interop.gguf.directory import directory
from seqloom.interop.huggingface import Published, read_checkpoint
from seqloom.interop.peft.read import CONFIG, is_adapter
from seqloom.interop.preprocessor import read_pixels
from seqloom.interop.published_tokenizer import KEPT, read_tokenizers
from seqloom.interop.side_files import decoding
from seqloom.interop.weights import interpreting, read_json
from seqloom.models.assemblies import limit_of, parameter_count
from seqloom.nn.embedders import PatchConfig
from seqloom.run import Run
from seqloom.tasks import task_class
from seqloom.tasks.assets import Assets
from seqloom.tasks.memory import FREE, refuse_shortage
from seqloom.tasks.task import RunConfig
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import save_finished
from seqloom.training.log import Reporter
from seqloom.training.precision import slow_here
from seqloom.workflows.adapter import SUFFIX, import_adapter
from seqloom.workflows.export import export_run
from seqloom.workflows.train import facts as facts_of

_TASKS = {"decoder-only": "language_model", "encoder-decoder": "translate", "encoder-only": "encode"}
_OF_HEADS = {"label": "classify", "tags": "tag", "span": "answer", "masked": "masked_words"}


@contextlib.contextmanager
def checkpoint(name: str, base: str = "") -> Iterator[tuple[Path, Path | None]]:
    """The directory of a checkpoint while the context lasts; of an adapter that of its base, and its own.

    Args:
        name: a directory, a GGUF file, or a name on the hub.
        base: the base of an adapter, in the same forms or a run; by default the one that the adapter names.

    Raises:
        RunError: the base is not there.
        UsageError: a base is named, and this is no adapter.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(directory(name))
        if not is_adapter(folder):
            if base:
                raise UsageError("is no adapter", where=name, cure="leave --base out")
            yield folder, None
            return
        stated = str(read_json(folder / CONFIG).get("base_model_name_or_path"))
        if not base and not Path(stated).exists():
            problem = f"its base {stated} is not in a directory here"
            cure = "name it: --base DIRECTORY, RUN, or a name on the Hugging Face hub"
            raise RunError(problem, where=str(folder / CONFIG), cure=cure)
        base = base or stated
        if Path(base, "run.json").is_file():
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="seqloom-"))
            export_run(base, "hf", made, Reporter(0))
            base = made
        yield stack.enter_context(directory(base)), folder


def import_run(name: str, path: str, reporter: Reporter, task: str = "", base: str = "") -> Run:
    """A new run from a checkpoint in a directory, in a GGUF file or on the Hugging Face hub; or an adapter.

    Args:
        name: the directory, the file, or the name on the hub; an adapter of peft, which is merged, or of ours.
        path: the run to create.
        reporter: prints progress and warnings.
        task: the task of the run; by default that of its architecture.
        base: see `checkpoint`.

    Raises:
        RunError, ConfigError: a checkpoint whose model seqloom cannot reproduce.
        MissingExtra: a name on the hub, and huggingface_hub is not installed; or a GGUF file, and gguf is not.
    """
    if name.endswith(SUFFIX) and Path(name).is_file():
        if task:
            raise UsageError("the task of an adapter is in its file", where="--task", cure="leave it out")
        return import_adapter(name, path, reporter, base)
    with checkpoint(name, base) as (folder, adapter):
        return _imported(folder, read_checkpoint(folder, adapter), name, path, reporter, task)


def _imported(folder: Path, published: Published, name: str, path: str, reporter: Reporter, task: str) -> Run:
    pair, of_tokens = read_tokenizers(folder, published.config, published.side, published.family.kind)
    run = Run(path)
    facts = _facts(published, str(folder / "config.json")) if published.family.kind == "encoder-only" else None
    if isinstance(patches := getattr(published.form.config, "embedder", None), PatchConfig):
        pixels, warnings = read_pixels(folder, patches)
        facts = (facts or {}) | pixels
        of_tokens = [*of_tokens, *warnings]
    config, of_decoding = _config(published, run, pair, facts, task)
    assets = Assets(pair, facts)
    count = parameter_count(published.model)
    about = facts_of(config, {}, torch.get_num_threads())
    about["training"] = {"steps": 0, "minutes": 0.0, "tokens": 0, "parameters": count, "gigabytes": 0.0}
    about["imported"] = {"from": name, "family": published.family.name, "heads": dict(published.form.heads)}
    if published.family.sines:
        about["imported"]["max_position_embeddings"] = published.config["max_position_embeddings"]
    refuse_shortage(published.model, lambda: (name, FREE))
    weights = dict(published.weights())

    def save(at: Path) -> list[Path]:
        files = assets.save(at)
        for kept in (kept for kept in KEPT if (folder / kept).is_file()):
            files.append(at / "published" / kept)
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / kept, files[-1])
        return files

    run = save_finished(run, to_toml(config), about, weights, save)
    if published.stripped:
        prefixes = ", ".join(published.stripped)
        reporter.say(f"removed from the names of the weights: {prefixes}, which programs that wrap a model add")
    if published.unused:
        reporter.warn(f"unused weights: {', '.join(published.unused)}")
    for warning in (*published.side.warnings, *of_tokens, *of_decoding):
        reporter.warn(warning.replace(str(folder), str(Path(name))))
    halves = {w.dtype for w in weights.values()} - {torch.float32}
    converted = any(slow_here(dtype, torch.device("cpu")) for dtype in halves)
    said = f"{path}: {published.family.name}, {count:,} parameters, for the task {config.task}"
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in halves))
    reporter.say(said + f"; {names} weights are computed with in float32 here" * converted)
    return run


def _config(
    published: Published, run: Run, pair: tuple[Tokenizer, Tokenizer] | None, facts: Json | None, task: str
) -> tuple[RunConfig, list[str]]:
    """The config of the run, and warnings of what is not used of how the checkpoint generates texts."""
    family, side = published.family, published.side
    reads, texts = family.kind == "encoder-only", pair is not None
    named = {*published.form.heads, *(["masked"] if texts else [])}
    heads = [of_head for name, of_head in _OF_HEADS.items() if name in named]
    tasks = heads * reads + [_TASKS[family.kind]]
    task = task or tasks[0]
    if task not in tasks:
        problem = f"a checkpoint of the form {family.name} is not for the task {task!r}"
        raise UsageError(problem, where="--task", cure=nearest(task, tasks))
    tree: Tree = {
        "task": task,
        "run": str(run.path),
        "data": {} if task in ("classify", "tag", "answer") else {"kind": "none"},
        "tokenizer": {"kind": "file", "path": str(run.path / "tokenizer.json")},
        "model": tree_of(published.form.config),
    }
    if task == "classify" and not texts:
        tree["data"] = {"kind": "images", **(facts or {})["sizes"]}
    if task == "classify" and "labels" not in (facts or {}):
        tree |= {"objective": {"kind": "numbers"}, "training": {"metric": "pearson"}}
    stated = published.config.get("max_position_embeddings"), side.tokens.get("model_max_length"), side.length
    limits = limit_of(published.form.config), *stated
    lengths = [length for length in limits if isinstance(length, int) and length > 0]
    if task not in ("translate", "encode") and lengths:
        tree["batches"] = {"length": min(*lengths, 10**6)}
    warnings: list[str] = []
    if family.kind != "encoder-only":
        with interpreting(side.generation_path):
            options, warnings = decoding(side.generation, family.kind)
        tree |= {"decoding": options} if options else {}
    try:
        config: RunConfig = build(task_class(task), tree)
    except ConfigError as error:
        problem, where = f"{error.where.removeprefix('--')}: {error.problem}", str(side.generation_path.parent)
        raise ConfigError(problem, where=where, cure="correct generation_config.json, or remove it") from None
    return config, [f"{side.generation_path}: {warning}" for warning in warnings]


def _facts(published: Published, where: str) -> Json:
    """The labels of a model with labels, or the scale of one that predicts a number, and its heads."""
    config, heads = published.config, published.form.heads
    side = {"normalize": True} if published.side.normalize else {}
    facts: Json = {"heads": dict(heads), **side}
    count = next((n for name, n in heads.items() if name in ("label", "tags")), 0)
    kind = config.get("problem_type")
    if kind not in (None, "regression", "single_label_classification", "multi_label_classification"):
        raise ConfigError(f"problem_type = {kind!r} is unknown", where=where, cure="remove it")
    if "label" in heads:
        if kind == "regression" and count == 1:
            return facts | {"mean": 0.0, "deviation": 1.0}
        several = kind == "multi_label_classification" or count == 1
        activation = "none" if kind == "regression" else "sigmoid" if several else "softmax"
        facts |= {"activation": activation} if activation != "softmax" else {}
    names = config.get("id2label") or {}
    if not isinstance(names, dict):
        raise ConfigError("id2label is not a table", where=where, cure="the file is damaged")
    labels = [str(names.get(str(i), f"LABEL_{i}")) for i in range(count)]
    if len({*labels}) < len(labels):
        raise ConfigError(f"id2label has the same label twice: {labels[:8]}", where=where, cure="give each its own")
    return facts | ({"labels": labels} if labels else {})
