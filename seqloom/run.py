"""The run directory: the only interface between training, evaluation, inspection and serving.

    runs/NAME/  config.toml  run.json  tokenizer.json  metrics.jsonl  samples.jsonl
                checkpoints/step-00001000/{model,optimizer}.safetensors, state.json, MANIFEST.json
                shards/00000/{ids,lines}.npy, state.json, MANIFEST.json  shards/corpus.json
                latest.json  best.json  eval/TESTSET.json  report.html

It knows files, not models. Every file is written under another name, synced and renamed, so that it is complete or
absent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.errors import RunError, UsageError

FORMAT = 1
_MANIFEST = "MANIFEST.json"
WEIGHTS, FROZEN = "model.safetensors", "frozen.safetensors"
Json = dict[str, Any]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's refusals into one clear error; nothing that was there is harmed."""
    try:
        yield
    except OSError as error:
        cures = {
            errno.ENOSPC: "free some space and start the same command again: it resumes",
            errno.EDQUOT: "your quota is used up; free some space and start the same command again: it resumes",
            errno.EACCES: "choose another place with --run, or change the permissions",
            errno.EPERM: "choose another place with --run, or change the permissions",
            errno.EROFS: "the file system is read-only; choose another place with --run",
        }
        cure = cures.get(error.errno or 0, "what was saved before is untouched")
        raise RunError(f"cannot be written: {error.strerror or error}", where=str(path), cure=cure) from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file, completely or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, cure: str = "remove the run and train it again") -> Json:
    """The JSON object in a file. Raises RunError, with the cure, if it cannot be read or is not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot be read: {error}", where=str(path), cure=cure) from None
    if not isinstance(value, dict):
        raise RunError("is not a JSON object", where=str(path), cure=cure)
    return value


def title_of(name: str, test: Sequence[str], default: str = "test") -> str:
    """The name of an evaluation and its file in eval/: `name`, else that of the first test file, else `default`.

    Raises UsageError for a name that is empty or a path.
    """
    title = (name or (Path(test[0]).name.lstrip(".").split(".")[0] if test else default)).strip()
    if not title or title[0] == "." or any(c in "/\\" or not c.isprintable() for c in title):
        problem = f"an evaluation cannot be called {title!r}"
        raise UsageError(problem, where="--name", cure="give a name that is not a path: --name test")
    return title


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of training, or anything else that is saved as a folder with digests."""

    path: Path

    @property
    def step(self) -> int:
        """The step after which it was saved."""
        return int(self.path.name.removeprefix("step-"))

    @property
    def weights(self) -> Path:
        """The file of the weights to use, without those that are frozen."""
        return self.path / WEIGHTS

    def fault(self, *, weights: bool = False, checked: set[Path] | None = None) -> str | None:
        """What its manifest shows to be wrong with its files, or only its weights; skips, and adds to, `checked`."""
        checked = set() if checked is None else checked
        try:
            entries = read_json(self.path / _MANIFEST)["files"]
            for name in (WEIGHTS, *{FROZEN} & entries.keys()) if weights else entries:
                file, entry = self.path / name, entries[name]
                if file in checked:
                    continue
                if not file.is_file():
                    return f"{name} is missing"
                if file.stat().st_size != entry["bytes"]:
                    return f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
                if digest_of(file) != entry["sha256"]:
                    return f"{name} differs from its digest"
                checked.add(file)
        except RunError as error:
            return f"its manifest {error.problem}"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"its manifest cannot be read ({error})"
        return None

    def state(self) -> Json:
        """The content of state.json."""
        return read_json(self.path / "state.json", "remove this checkpoint: then the one before it is used")


def write_folder(final: Path, write: Callable[[Path], None]) -> Checkpoint:
    """Writes a folder with digests, completely or not at all; `write` writes the files into the folder it gets."""
    beside, before = (final.with_name(f".{final.name}.{os.getpid()}{end}") for end in ("", ".old"))
    with writing(final):
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            write(beside)
            files = sorted(p for p in beside.iterdir() if p.is_file())
            for path in files:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            entries = {p.name: {"bytes": p.stat().st_size, "sha256": digest_of(p)} for p in files}
            write_json(beside / _MANIFEST, {"format": FORMAT, "files": entries})
            _sync(beside)
            if final.exists():
                final.replace(before)
            beside.replace(final)
            _sync(final.parent)
        finally:
            if before.is_dir() and not final.exists():
                before.replace(final)
            for left in (beside, before):
                shutil.rmtree(left, ignore_errors=True)
    return Checkpoint(final)


class Run:
    """A run directory that exists. It knows its best checkpoint, and hashes each file once at most."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._checked: set[Path] = set()
        self._best: Checkpoint | None = None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.resolve().name

    @classmethod
    def create(cls, path: str | Path, config: str, info: Mapping[str, Any]) -> Run:
        """A new run directory with its config and the first content of run.json."""
        run = cls(path)
        with writing(run.path):
            (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        run.write_config(config)
        write_json(run.path / "run.json", {"format": FORMAT, **info})
        return run

    def claim(self) -> None:
        """Makes the directory, or takes over an incomplete one. Raises RunError if there is something else."""
        cure = "choose another place with --run"
        if self.path.exists() and not self.path.is_dir():
            raise RunError("is a file; a run is a directory", where=str(self.path), cure=cure)
        with writing(self.path):
            others = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
            if others and "checkpoints" not in others:
                problem = f"holds other things than a run ({', '.join(sorted(others)[:3])})"
                raise RunError(problem, where=str(self.path), cure=cure)
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)

    @classmethod
    def open(cls, path: str | Path | Run) -> Run:
        """An existing run, or one that is open. Raises RunError for none, a half-written one or another version."""
        if isinstance(path, Run):
            return path
        run = cls(path)
        if not run.path.is_dir():
            others = ", ".join(str(r.path) for r in runs(run.path.parent)) if run.path.parent.is_dir() else ""
            cure = f"existing runs: {others}" if others else "seqloom runs lists the existing runs"
            raise RunError("no such run", where=str(path), cure=cure)
        for name in ("run.json", "config.toml"):
            if not (run.path / name).is_file():
                cure = "it was interrupted before training began, or is not a run; remove it and train again"
                raise RunError(f"not a complete run directory: it has no {name}", where=str(path), cure=cure)
        written = run.info().get("format")
        if written != FORMAT:
            problem = f"written in format {written}, this version reads format {FORMAT}"
            cure = "use the seqloom version in that file, or train again"
            raise RunError(problem, where=str(run.path / "run.json"), cure=cure)
        return run

    def write_config(self, config: str) -> None:
        """Writes config.toml."""
        write_text(self.path / "config.toml", config)

    def info(self) -> Json:
        """The content of run.json."""
        return read_json(self.path / "run.json")

    def update_info(self, **more: Any) -> None:
        """Adds to run.json."""
        write_json(self.path / "run.json", {**self.info(), **more})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process from writing to the same run; removes unfinished files of a killed one."""
        with writing(self.path):
            handle = (self.path / ".lock").open("w")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    "another process is training this run", where=str(self.path), cure="wait for it, or use --run"
                ) from None
            for left in self.path.glob("*/.*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def append(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Appends lines to metrics.jsonl or samples.jsonl."""
        with writing(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(_lines(rows))

    def rows(self, name: str) -> list[Json]:
        """The lines of metrics.jsonl or samples.jsonl, without a last one cut off by a crash."""
        path = self.path / name
        rows: list[Json] = []
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
            with contextlib.suppress(ValueError):
                if isinstance(row := json.loads(line), dict):
                    rows.append(row)
        return rows

    def evaluations(self) -> dict[str, Json]:
        """The evaluations in eval/, by title. Raises RunError for a file that cannot be read."""
        return {path.stem: self.evaluation(path.stem) for path in sorted((self.path / "eval").glob("*.json"))}

    def evaluation(self, title: str) -> Json:
        """The content of eval/TITLE.json. Raises RunError if it cannot be read."""
        cure = f"remove it, or evaluate again: seqloom eval {self.path} --name {title}"
        return read_json(self.evaluation_path(title), cure)

    def evaluation_path(self, title: str) -> Path:
        """The path of an evaluation's scores."""
        return self.path / "eval" / f"{title}.json"

    def forget_after(self, step: int) -> None:
        """Removes the lines of metrics.jsonl and samples.jsonl that a resumed run will write again."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            text = _lines(row for row in self.rows(name) if row.get("step", 0) <= step)
            path = self.path / name
            if path.is_file() and path.read_text(encoding="utf-8", errors="replace") != text:
                write_text(path, text)

    def save(self, name: str, write: Callable[[Path], None]) -> Checkpoint:
        """Saves a checkpoint, "step-00001000" or "average"; `write` writes its files into the folder it gets."""
        return write_folder(self.path / "checkpoints" / name, write)

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, oldest first."""
        folder = self.path / "checkpoints"
        return [Checkpoint(p) for p in sorted(folder.glob("step-*")) if re.fullmatch(r"step-\d{8,}", p.name)]

    def newest(self, warn: Callable[[str], None], *, weights: bool = False) -> Checkpoint | None:
        """The newest checkpoint whose files, or only `weights`, are sound; `warn` reports each damaged one."""
        for checkpoint in reversed(self.checkpoints()):
            fault = checkpoint.fault(weights=weights, checked=self._checked)
            if fault is None:
                return checkpoint
            warn(f"{checkpoint.path} is damaged: {fault}; using the one before it")
        return None

    def point(self, name: str, checkpoint: Checkpoint, **more: Any) -> None:
        """Writes latest.json or best.json."""
        self._best = None
        write_json(self.path / f"{name}.json", {"checkpoint": checkpoint.path.name, **more})

    def pointed(self, name: str) -> Checkpoint | None:
        """The checkpoint that latest.json or best.json names, if it exists."""
        checkpoint = Checkpoint(self.path / "checkpoints" / str(self.pointer(name).get("checkpoint")))
        return checkpoint if checkpoint.path.is_dir() else None

    def pointer(self, name: str) -> Json:
        """The content of latest.json or best.json; {} if there is none."""
        path = self.path / f"{name}.json"
        return read_json(path) if path.is_file() else {}

    def best(self, warn: Callable[[str], None]) -> Checkpoint:
        """The checkpoint to use, whose weights are sound: the best, else the newest. An opened run looks once."""
        if self._best is None:
            best = self.pointed("best")
            if best is not None and (fault := best.fault(weights=True, checked=self._checked)) is not None:
                warn(f"{best.path} is damaged: {fault}; using the newest undamaged one")
                best = None
            self._best = best or self.newest(warn, weights=True)
        if self._best is None:
            raise RunError("no usable checkpoint", where=str(self.path), cure="train it first: seqloom train CONFIG")
        return self._best

    def keep_only(self, steps: set[int]) -> None:
        """Removes the checkpoints of all other steps."""
        for checkpoint in self.checkpoints():
            if checkpoint.step not in steps:
                shutil.rmtree(checkpoint.path, ignore_errors=True)


def runs(folder: Path) -> list[Run]:
    """The runs in a folder, in its folders of ladders and in those of their seeds, by path."""
    files = (p for depth in ("*", "*/*", "*/*/*") for p in folder.glob(f"{depth}/run.json"))
    return [Run(p.parent) for p in sorted(files)]


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
