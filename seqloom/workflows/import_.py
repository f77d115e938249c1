"""A published checkpoint as a run that every verb accepts."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from seqloom.config import Tree, build, to_toml, tree_of
from seqloom.errors import RunError, UsageError, nearest
from seqloom.files import WEIGHTS, Json, write_json
from seqloom.interop.huggingface import Published, find, read_checkpoint, read_json
from seqloom.interop.published_tokenizer import KEPT, read_tokenizers
from seqloom.models.assemblies import limit_of, parameter_count
from seqloom.run import Run
from seqloom.tasks import task_class
from seqloom.tasks.assets import Assets
from seqloom.tasks.task import RunConfig
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import Progress, checkpoint_at, save_weights
from seqloom.training.log import Reporter
from seqloom.workflows.train import facts as facts_of

_TASKS = {"decoder-only": "language_model", "encoder-decoder": "translate", "encoder-only": "encode"}
_OF_HEADS = {"label": "classify", "tags": "tag", "span": "answer", "masked": "masked_words"}


def import_run(name: str, path: str, reporter: Reporter, task: str = "") -> Run:
    """A new run from a checkpoint in a directory or on the Hugging Face hub.

    Args:
        name: the directory, or the name on the hub.
        path: the run to create.
        reporter: prints progress and warnings.
        task: the task of the run; by default that of its architecture.

    Raises:
        RunError, ConfigError: a checkpoint whose model seqloom cannot reproduce.
        MissingExtra: a name on the hub, and huggingface_hub is not installed.
    """
    folder = find(name)
    published = read_checkpoint(folder)
    pair = read_tokenizers(folder, published.config)
    run = Run(path)
    config = _config(published, run, pair, folder, task)
    facts: Json | None = None
    if published.family.kind == "encoder-only":
        labels = _labels(published)
        facts = {**({"labels": labels} if labels else {}), "heads": dict(published.form.heads)}
    assets = Assets(pair, facts)
    count = parameter_count(published.model)
    about = facts_of(config, {}, torch.get_num_threads())
    about["training"] = {"steps": 0, "minutes": 0.0, "tokens": 0, "parameters": count, "gigabytes": 0.0}
    about["imported"] = {"from": name, "family": published.family.name, "heads": dict(published.form.heads)}
    if published.family.sines:
        about["imported"]["max_position_embeddings"] = published.config["max_position_embeddings"]

    def write(at: Path) -> None:
        save_weights(at / WEIGHTS, dict(published.weights()))
        write_json(at / "state.json", asdict(Progress(done=True)))

    with run.locked():
        if run.begun:
            raise RunError("there is a run already", where=path, cure="choose another directory, or remove this one")
        files = assets.save(run.path)
        for kept in (kept for kept in KEPT if (folder / kept).is_file()):
            files.append(run.path / "published" / kept)
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / kept, files[-1])
        checkpoint = run.save(checkpoint_at(run, 0).path.name, write)
        run = Run.create(path, to_toml(config), about, files)
        for pointer in ("latest", "best"):
            run.point(pointer, checkpoint, step=0)
    if published.unused:
        reporter.warn(f"unused weights: {', '.join(published.unused)}")
    reporter.say(f"{path}: {published.family.name}, {count:,} parameters, for the task {config.task}")
    return run


def _config(
    published: Published, run: Run, pair: tuple[Tokenizer, Tokenizer] | None, folder: Path, task: str
) -> RunConfig:
    reads_text = published.family.kind == "encoder-only" and pair is not None
    heads = [of_head for name, of_head in _OF_HEADS.items() if name in published.form.heads or name == "masked"]
    tasks = heads * reads_text + [_TASKS[published.family.kind]]
    task = task or tasks[0]
    if task not in tasks:
        problem = f"a checkpoint of the form {published.family.name} is not for the task {task!r}"
        raise UsageError(problem, where="--task", cure=nearest(task, tasks))
    tree: Tree = {
        "task": task,
        "run": str(run.path),
        "data": {} if task in ("classify", "tag", "answer") else {"kind": "none"},
        "tokenizer": {"kind": "file", "path": str(run.path / "tokenizer.json")},
        "model": tree_of(published.form.config),
    }
    beams = read_json(folder / "generation_config.json").get("num_beams")
    if task == "translate" and isinstance(beams, int):
        tree["decoding"] = {"beam": beams}
    length = published.config.get("max_position_embeddings", published.config.get("n_positions"))
    if task not in ("translate", "encode") and isinstance(length, int):
        tree["batches"] = {"length": min(length, limit_of(published.form.config) or length)}
    config: RunConfig = build(task_class(task), tree)
    return config


def _labels(published: Published) -> list[str]:
    """The names of the classes of a head, in order."""
    count = next((n for name, n in published.form.heads.items() if name in ("label", "tags")), 0)
    names = published.config.get("id2label") or {}
    return [str(names.get(str(i), f"LABEL_{i}")) for i in range(count)]
