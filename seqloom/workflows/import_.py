"""A published checkpoint as a run, which every verb takes as one of its own."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from seqloom import __version__
from seqloom.config import Tree, build, to_toml, tree_of
from seqloom.errors import RunError, UsageError, nearest
from seqloom.interop.huggingface import Published, find, read_checkpoint, read_json
from seqloom.interop.published_tokenizer import KEPT, read_tokenizers
from seqloom.models.assemblies import limit_of
from seqloom.models.weights import parameter_count
from seqloom.run import Run, write_json
from seqloom.tasks import TASKS, part_of
from seqloom.tasks.building import save_tokenizers
from seqloom.tasks.task import RunConfig
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.checkpoint import Progress, checkpoint_at, save_weights
from seqloom.training.log import Reporter
from seqloom.training.precision import processor_flags

Tokenizers = tuple[Tokenizer, Tokenizer] | None
_TASKS = {"decoder-only": "language_model", "encoder-decoder": "translate", "encoder-only": "encode"}
_OF_HEADS = {"label": "classify", "tags": "tag", "span": "answer", "words": "masked_words"}
_LABELS = "labels.json"


def import_run(name: str, path: str, reporter: Reporter, task: str = "") -> Run:
    """A new run from a checkpoint in a directory, or on the hub under that name.

    Args:
        name: the directory or name.
        path: the run to make.
        reporter: is told.
        task: what the run is for; by default what its architecture says.

    Raises:
        RunError, ConfigError: a checkpoint that would not be the same model here.
        MissingExtra: a name, and huggingface_hub is not installed.
    """
    folder = find(name)
    published = read_checkpoint(folder)
    pair = read_tokenizers(folder, published.config)
    run = Run(path)
    if (run.path / "run.json").exists():
        raise RunError("there is a run already", where=path, cure="give another directory, or remove this one")
    config = _config(published, run, pair, folder, task)
    run.claim()
    if pair is not None:
        save_tokenizers(run.path, *pair)
    for kept in KEPT:
        if (folder / kept).is_file():
            (run.path / "published" / kept).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / kept, run.path / "published" / kept)
    labels = _labels(published)
    if published.family.kind == "encoder-only":
        heads = dict(published.form.heads)
        write_json(run.path / _LABELS, {**({"labels": labels} if labels else {}), "heads": heads})
    run = Run.create(path, to_toml(config), _facts(config, published, pair, name))

    def write(at: Path) -> None:
        save_weights(at / "model.safetensors", dict(published.weights()))
        write_json(at / "state.json", asdict(Progress(done=True)))

    checkpoint = run.save(checkpoint_at(run, 0).path.name, write)
    for pointer in ("latest", "best"):
        run.point(pointer, checkpoint, step=0)
    if published.unused:
        reporter.warn(f"weights without use here: {', '.join(published.unused)}")
    count = parameter_count(published.model)
    reporter.say(f"{path}: {published.family.name}, {count:,} parameters, for the task {config.task}")
    return run


def _config(published: Published, run: Run, pair: Tokenizers, folder: Path, wanted: str) -> RunConfig:
    reads_text = published.family.kind == "encoder-only" and pair is not None
    heads = [task for name, task in _OF_HEADS.items() if name in published.form.heads or name == "words"]
    usual = [task for task in heads if reads_text and task in TASKS] + [_TASKS[published.family.kind]]
    chosen = wanted or usual[0]
    if chosen not in usual:
        problem = f"a checkpoint of the form {published.family.name} is not for the task {chosen!r}"
        raise UsageError(problem, where="--task", cure=nearest(chosen, usual))
    examples = chosen in ("classify", "tag", "answer")
    tree: Tree = {"task": chosen, "run": str(run.path), "data": {} if examples else {"kind": "none"}}
    tree |= {
        "tokenizer": {"kind": "file", "path": str(run.path / "tokenizer.json")},
        "model": tree_of(published.form.config),
    }
    generation = read_json(folder / "generation_config.json")
    if chosen == "translate" and isinstance(beams := generation.get("num_beams"), int):
        tree["decoding"] = {"beam": beams}
    length = published.config.get("max_position_embeddings", published.config.get("n_positions"))
    limit = limit_of(published.form.config)
    if chosen not in ("translate", "encode") and isinstance(length, int):
        tree["batches"] = {"length": min(length, limit or length)}
    config: RunConfig = build(part_of(chosen, "config"), tree)
    return config


def _labels(published: Published) -> list[str]:
    """The names of the classes of a head, in their order."""
    count = next((n for name, n in published.form.heads.items() if name in ("label", "tags")), 0)
    named = published.config.get("id2label") or {}
    return [str(named.get(str(i), f"LABEL_{i}")) for i in range(count)]


def _facts(config: RunConfig, published: Published, pair: Tokenizers, name: str) -> dict[str, Any]:
    versions = {"seqloom": __version__, "torch": torch.__version__, "python": platform.python_version()}
    count = parameter_count(published.model)
    training = {"steps": 0, "minutes": 0.0, "words": 0, "parameters": count, "gigabytes": 0.0}
    return {
        "task": config.task,
        "seed": config.seed,
        "threads": torch.get_num_threads(),
        "versions": versions,
        "processor": sorted(processor_flags()),
        "corpus": {},
        "tokenizer": [one.digest() for one in pair or ()],
        "training": training,
        "imported": {"from": name, "family": published.family.name, "heads": dict(published.form.heads)},
    }
