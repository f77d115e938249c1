"""What an adapted run learned: on the weights of its base, and in a file of its own.

The file is a safetensors file with the weights that were learned. Its metadata are JSON with a digest:

    format, config, run     what config.toml and run.json hold
    files                   tokenizers and facts about labels: the keys in which they differ from those of the base
    base, weights           digests of the frozen weights, and of each weight in the file
    fingerprint             see adaptation/fingerprint.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from seqloom.adaptation.adapt import adapt
from seqloom.adaptation.config import Full
from seqloom.adaptation.fingerprint import TOLERANCE, apart, fingerprint
from seqloom.config import build, to_toml, tree_of
from seqloom.errors import ConfigError, RunError
from seqloom.files import CHANGED, Json, read_json, sealed, short_digest, unreadable, unsealed, write_json, writing
from seqloom.interop.weights import faults, misfits, some
from seqloom.models.assemblies import Undrawn, vocabulary_parameters
from seqloom.run import Run
from seqloom.tasks import task_class
from seqloom.tasks.assets import JSON_FILES
from seqloom.tasks.building import Loaded, adaptation, new_rows
from seqloom.tasks.task import RunConfig, config_of
from seqloom.training.checkpoint import grown_to, save_finished, save_tensors, saved_weights

_KEY, _FORMAT = "seqloom", 1
_AGAIN = "write it again: seqloom export RUN FILE.safetensors --to adapter"
_BASE = "name the run that it started from, as it was then"
OWN_INFO = ("files", "format", "lines")
"""The keys of run.json that are about the files of one directory."""


@dataclass(frozen=True)
class Adapted:
    """A run on the weights of its base: all that it did not learn are those of the base's model, not copies.

    Args:
        loaded: the run, in float32; its adapters are not merged.
        learned: the weights that it learned, as they are stored.
        digest: that of the others.
    """

    loaded: Loaded[Any]
    learned: Mapping[str, Tensor]
    digest: str

    def share(self, base: Loaded[Any]) -> None:
        """Takes the other weights from the base's model, as they are there now."""
        weights = {name: p.data for name, p in base.model.named_parameters()}
        for name, parameter in self.loaded.model.named_parameters():
            if name not in self.learned:
                parameter.data = grown_to(parameter.shape, weights[name])


def adapted_config(run: Run, where: str) -> RunConfig:
    """The config of an adapted run. Raises RunError for any other."""
    config = config_of(run, RunConfig)
    if isinstance(adaptation(config), Full):
        cure = "name a run with [adapt], or use it as it is"
        raise RunError("learned all of its parameters, so it is no adapter", where=where, cure=cure)
    return config


def on_base(run: Run, base: Loaded[Any], where: str, digest: str = "") -> Adapted:
    """An adapted run on its base, which was loaded in float32.

    Args:
        run: the run.
        base: the run that it started from.
        where: what errors name.
        digest: that of the frozen weights, for a run without them.

    Raises:
        RunError: another base, weights that are missing or unexpected, or a run that is not adapted.
    """
    config = adapted_config(run, where)
    assets, best = config.assets(run), run.best(lambda fault: None)
    weights = {name: p.data for name, p in base.model.named_parameters()}
    learned = load_file(best.weights)
    with torch.random.fork_rng(devices=[]):
        with Undrawn():  # its values are overwritten
            model: Any = config.build(assets)
        differing = {n for n, p in model.named_parameters() if n not in weights or weights[n].shape != p.shape}
        rows = new_rows({name: tuple(value.shape) for name, value in learned.items()})
        adapt(model, adaptation(config), differing & learned.keys(), rows)
    parameters = dict(model.named_parameters())
    _check_names({n: tuple(p.shape) for n, p in parameters.items() if p.requires_grad}, learned, where)
    frozen = {name: tuple(p.shape) for name, p in parameters.items() if not p.requires_grad}
    for name in {*vocabulary_parameters(model)} & frozen.keys() if rows else ():
        frozen[name] = (frozen[name][0] - rows, *frozen[name][1:])
    if foreign := [n for n, shape in frozen.items() if n not in weights or tuple(weights[n].shape) != shape]:
        raise RunError(f"is for another base than {base.run.path}: {some(foreign)}", where=where, cure=_BASE)
    if not digest:
        with saved_weights(best.path) as saved:
            digest = _digest((name, saved[name].read()[: shape[0]]) for name, shape in frozen.items())
    if _digest((name, weights[name]) for name in frozen) != digest:
        problem = f"is for another base than {base.run.path}, whose weights are not those that it was trained with"
        raise RunError(problem, where=where, cure=_BASE)
    for name, value in learned.items():
        parameters[name].data.copy_(value)
    adapted = Adapted(Loaded(run, config, model.requires_grad_(True).eval(), assets), learned, digest)
    adapted.share(base)
    return adapted


def _check_names(expected: Mapping[str, tuple[int, ...]], learned: Mapping[str, Tensor], where: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in learned.items()}
    missing, unexpected = expected.keys() - shapes.keys(), shapes.keys() - expected.keys()
    if wrong := faults(missing=missing, unexpected=unexpected, wrong=misfits(shapes, expected)):
        raise RunError(f"its weights are not those of its config; {wrong}", where=where, cure=_AGAIN)


def write_adapter(path: Path, adapted: Adapted, base: Run) -> None:
    """Writes the file of an adapted run."""
    run = adapted.loaded.run
    about = {
        "format": _FORMAT,
        "config": tree_of(adapted.loaded.config),
        "run": {key: value for key, value in run.info().items() if key not in OWN_INFO},
        "files": {name: _changes(run, base, name) for name in JSON_FILES if run.asset(name)},
        "base": adapted.digest,
        "weights": {name: _digest([("", value)]) for name, value in adapted.learned.items()},
        "fingerprint": fingerprint(adapted.loaded.model),
    }
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, adapted.learned, {_KEY: json.dumps(sealed(about))})


@dataclass(frozen=True)
class AdapterFile:
    """A file that was read: its path, metadata and weights."""

    path: Path
    about: Json
    learned: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> AdapterFile:
        """Raises RunError for a file of others, and for a damaged one."""
        try:
            with safe_open(path, "pt") as file:
                text = (file.metadata() or {}).get(_KEY)
                learned = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if text is None:
                raise RunError("is no adapter that seqloom wrote", where=str(path), cure=_AGAIN)
            about = unsealed(json.loads(text))
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise unreadable(path, error, _AGAIN) from None
        if about is None:
            raise RunError(CHANGED, where=str(path), cure=_AGAIN)
        if about["format"] != _FORMAT:
            problem = f"is an adapter of the format {about['format']}, this version reads format {_FORMAT}"
            raise RunError(problem, where=str(path), cure="use the seqloom version that wrote it, or write it again")
        digests, now = about["weights"], {name: _digest([("", value)]) for name, value in learned.items()}
        missing, unexpected = digests.keys() - now.keys(), now.keys() - digests.keys()
        changed = {name for name in digests.keys() & now.keys() if digests[name] != now[name]}
        if wrong := faults(missing=missing, unexpected=unexpected, changed=changed):
            raise RunError(f"does not have the weights it was written with; {wrong}", where=str(path), cure=_AGAIN)
        return cls(path, about, learned)

    def as_run(self, run: Run, base: Run, frozen: Callable[[Path], list[Path]] = lambda folder: []) -> Run:
        """A new run of it; `frozen` writes the weights of the base into its directory."""
        places = {"run": str(run.path), "start": str(base.path)}
        try:
            config = build(task_class(self.about["config"]["task"]), {**self.about["config"], **places})
        except ConfigError as error:  # the model is that of the base
            problem = f"is for another base than {base.path}: {error.problem}"
            raise RunError(problem, where=str(self.path), cure=_BASE) from None
        info = {**self.about["run"], "adapter": {"from": str(self.path)}}

        def assets(folder: Path) -> list[Path]:
            for name, changes in self.about["files"].items():
                write_json(folder / name, self._file(name, changes, base))
            return [*(folder / name for name in self.about["files"]), *frozen(folder)]

        return save_finished(run, to_toml(config), info, self.learned, assets)

    def _file(self, name: str, changes: Json, base: Run) -> Json:
        if name not in JSON_FILES:
            raise RunError(f"has the file {name}, which no run has", where=str(self.path), cure=_AGAIN)
        whole: Json = {**_read(base, name), **changes["keys"]} if changes["of_base"] else changes["keys"]
        if short_digest(whole) != changes["digest"]:
            cure = "name the run that it started from, with its own tokenizer"
            raise RunError(f"is for another {name} than that of {base.path}", where=str(self.path), cure=cure)
        return whole

    def on_base(self, base: Loaded[Any], folder: Path) -> Adapted:
        """The adapter on its base; an unfinished run of it is left in a folder. Raises RunError, see `on_base`."""
        adapted = on_base(self.as_run(Run(folder / "run"), base.run), base, str(self.path), self.about["base"])
        difference = apart(self.about["fingerprint"], fingerprint(adapted.loaded.model))
        if not difference <= TOLERANCE:
            problem = f"does not compute what it did where it was written: its fingerprint is {difference:.1e} apart"
            versions = ", ".join(f"{name} {version}" for name, version in self.about["run"]["versions"].items())
            raise RunError(problem, where=str(self.path), cure=f"use the versions that wrote it ({versions})")
        return adapted


def _changes(run: Run, base: Run, name: str) -> Json:
    """The keys of a JSON file of a run that the file of its base does not have."""
    own, other = _read(run, name), _read(base, name)
    of_base = bool(other) and other.keys() <= own.keys()
    keys = {key: value for key, value in own.items() if not of_base or key not in other or other[key] != value}
    return {"digest": short_digest(own), "of_base": of_base, "keys": keys}


def _read(run: Run, name: str) -> Json:
    path = run.asset(name)
    return read_json(path, "put back the one that the run was written with") if path else {}


def _digest(weights: Iterable[tuple[str, Tensor]]) -> str:
    """One digest of several weights: of their names, shapes and values in float32, in the order of the names."""
    total = hashlib.sha256()
    for name, weight in sorted(weights, key=lambda pair: pair[0]):
        total.update(f"{name} {tuple(weight.shape)} ".encode())
        total.update(weight.detach().float().contiguous().numpy().data)
    return total.hexdigest()
