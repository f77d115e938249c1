"""The run directory: the only interface between training, evaluation, inspection and serving.

    runs/NAME/  config.toml  run.json  tokenizer.json  labels.json  metrics.jsonl  samples.jsonl  .seqloom
                checkpoints/step-00001000/{model,optimizer}.safetensors, state.json, MANIFEST.json
                shards/00000/{ids,lines}.npy, state.json, MANIFEST.json  shards/corpus.json
                frozen.safetensors  latest.json  best.json  eval/TESTSET.json  ctranslate2/  report.html

It knows files, not models. Every file that can change a result has a digest, which is checked when it is read.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seqloom import files
from seqloom.errors import RunError, SeqloomError
from seqloom.files import FROZEN, MARKER, Checkpoint, Json, read_sealed, unreadable, write_sealed, write_text, writing

_GROWING = ("metrics.jsonl", "samples.jsonl")
_WITHOUT = "it goes on without what is missing"
_EVALUATE = "remove it, or evaluate again with the same --test and --name {}"
_PUT_BACK = "put back the file that the run was written with"
REPORT = "report.html"


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

    @property
    def begun(self) -> bool:
        """Whether it has the files that every run has; else it is new, or was stopped before training began."""
        return (self.path / "run.json").is_file()

    @classmethod
    def create(cls, path: str | Path, config: str, info: Mapping[str, Any], assets: Iterable[Path] = ()) -> Run:
        """A new run directory with its config, the first content of run.json, and the digests of its `assets`."""
        run = cls(path)
        with writing(run.path):
            (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (run.path / MARKER).touch()
        run.write_config(config)
        digests = {str(file.relative_to(run.path)): files.digest_of(file) for file in assets}
        write_sealed(run.path / "run.json", {"format": files.FORMAT, **info, "files": digests})
        return run

    @classmethod
    def open(cls, path: str | Path | Run) -> Run:
        """An existing run, or one that is open. Raises RunError for none, a half-written one or another version."""
        if isinstance(path, Run):
            return path
        run = cls(path)
        if not str(path) or not run.path.is_dir():
            raise RunError("no such run", where=str(path) or "a run without a name", cure=_existing(run.path.parent))
        if not run.begun:
            if run.checkpoints():
                cure = "put run.json back, import the model again, or choose another place with --run"
                raise RunError("has checkpoints, but its run.json is missing", where=str(path), cure=cure)
            if (run.path / MARKER).exists():
                cure = "start the same training again, or remove the directory"
                raise RunError("was interrupted before training began", where=str(path), cure=cure)
            raise RunError("is not a run: it has no run.json", where=str(path), cure=_existing(run.path))
        written = files.read_json(run.path / "run.json", _PUT_BACK).get("format")
        if written != files.FORMAT:
            problem = f"written in format {written}, this version reads format {files.FORMAT}"
            cure = "use the seqloom version in that file, or train again"
            raise RunError(problem, where=str(run.path / "run.json"), cure=cure)
        run.info()
        cure = f"{_PUT_BACK}; to train otherwise, change a copy of it, or begin another with --run"
        files.check_toml(run.path / "config.toml", cure)
        return run

    def write_config(self, config: str) -> None:
        """Writes config.toml."""
        write_text(self.path / "config.toml", files.sealed_toml(config))

    def info(self) -> Json:
        """The content of run.json."""
        return read_sealed(self.path / "run.json", _PUT_BACK)

    def update_info(self, **more: Any) -> None:
        """Adds to run.json."""
        write_sealed(self.path / "run.json", {**self.info(), **more})

    def asset(self, name: str) -> Path | None:
        """The path of a tokenizer or another asset; None if the run has none of this name.

        Raises RunError unless it is the file that the run was created with.
        """
        path, digest = self.path / name, self.info()["files"].get(name)
        if digest is None:
            return None
        try:
            same = path in self._checked or files.digest_of(path) == digest
        except OSError as error:
            raise unreadable(path, error, _PUT_BACK) from None
        if not same:
            raise RunError("is not the file this run was trained with", where=str(path), cure=_PUT_BACK)
        self._checked.add(path)
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which this process alone writes to the run; see `claimed`.

        An error before a new run has begun removes what was written for it.
        """
        with files.claimed(self.path):
            new = {path.name for path in self.path.iterdir()} == {MARKER}
            try:
                yield
            except SeqloomError:
                for path in self.path.iterdir() if new and not self.begun else ():
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    elif path.name != MARKER:
                        path.unlink()
                raise

    def count_lines(self) -> None:
        """Records in run.json how many lines metrics.jsonl and samples.jsonl have at the end of a training."""
        self.update_info(lines={name: len(self.rows(name)) for name in _GROWING})

    def reopen_lines(self, warn: Callable[[str], None]) -> None:
        """Lets these files grow again, where a training goes on; `warn` reports lines that are missing."""
        counts = self.info().get("lines", {})
        self.update_info(lines={})
        for name, count in counts.items():
            if (length := len(self.rows(name))) != count:
                warn(f"{self.path / name} has {length:,} lines instead of {count:,}; they are missing in the report")

    def append(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Appends lines to metrics.jsonl or samples.jsonl."""
        with writing(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(_lines(rows))

    def rows(self, name: str) -> list[Json]:
        """The lines of metrics.jsonl or samples.jsonl, without a last one cut off by a crash.

        Raises RunError for another line that was changed after it was written, and for lines of a finished training
        that are missing.
        """
        path = self.path / name
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.exists() else []
        except OSError as error:
            raise unreadable(path, error) from None
        complete = self.info().get("lines", {}).get(name) if self.begun else None  # of a finished training
        if complete not in (None, len(lines)):
            problem = f"has {len(lines):,} lines instead of {complete:,}" if path.exists() else "is missing"
            raise RunError(problem, where=str(path), cure=f"{_PUT_BACK}; or start the same training again: {_WITHOUT}")
        rows: list[Json] = []
        for number, line in enumerate(lines, start=1):
            row = None
            with contextlib.suppress(ValueError, RecursionError):
                row = files.unsealed(json.loads(line))
            if row is None:
                cure = f"remove this line, or the file, and start the same training again: {_WITHOUT}"
                raise RunError(files.CHANGED, where=f"{path}:{number}", cure=cure)
            rows.append(row)
        return rows

    def evaluations(self, warn: Callable[[str], None]) -> dict[str, Json]:
        """The evaluations in eval/ of the checkpoint that is best now, by title; `warn` reports why others are none."""
        best, found = self._best or self.pointed("best"), dict[str, Json]()
        for title in sorted(path.stem for path in (self.path / "eval").glob("*.json")):
            if not (scores := self.usable_evaluation(title, warn)):
                continue
            then = [scores.get(key) for key in ("checkpoint", "weights")]
            if best is None or (then[0] in (None, best.path.name) and then[1] in (None, best.digest())):
                found[title] = scores
            else:
                path, cure = self.evaluation_path(title), _EVALUATE.format(title)
                warn(f"{path}: has the scores of an earlier {then[0]}; {best.path.name} is best now\n  {cure}")
        return found

    def evaluation(self, title: str) -> Json:
        """The content of eval/TITLE.json. Raises RunError if it cannot be read."""
        return read_sealed(self.evaluation_path(title), _EVALUATE.format(title))

    def usable_evaluation(self, title: str, warn: Callable[[str], None]) -> Json:
        """The content of eval/TITLE.json; {} if there is none, or it is damaged, which `warn` reports."""
        try:
            return self.evaluation(title) if self.evaluation_path(title).exists() else {}
        except RunError as error:
            warn(str(error))
            return {}

    def evaluation_path(self, title: str) -> Path:
        """The path of an evaluation's scores."""
        return self.path / "eval" / f"{title}.json"

    def forget_after(self, step: int) -> None:
        """Removes the lines of metrics.jsonl and samples.jsonl that a resumed run will write again."""
        for name in _GROWING:
            text = _lines(row for row in self.rows(name) if row.get("step", 0) <= step)
            path = self.path / name
            if path.is_file() and path.read_text(encoding="utf-8", errors="replace") != text:
                write_text(path, text)

    def save(self, name: str, write: Callable[[Path], None]) -> Checkpoint:
        """Saves a checkpoint, "step-00001000" or "average"; `write` writes its files into the folder it gets."""
        return files.write_folder(self.path / "checkpoints" / name, write)

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, oldest first."""
        folder = self.path / "checkpoints"
        try:
            paths = sorted(folder.iterdir()) if folder.exists() else []
        except OSError as error:
            raise unreadable(folder, error) from None
        return [Checkpoint(path) for path in paths if re.fullmatch(r"step-\d{8,}", path.name)]

    def newest(self, warn: Callable[[str], None], *, weights: bool = False) -> Checkpoint | None:
        """The newest checkpoint whose files, or only `weights`, are sound; None if there are no checkpoints.

        `warn` reports each damaged one. Raises RunError if all are.
        """
        fault, checkpoints = None, self.checkpoints()
        for checkpoint in reversed(checkpoints):
            fault = checkpoint.fault(weights=weights, checked=self._checked)
            if fault is None:
                return checkpoint
            warn(f"{checkpoint.path} is damaged: {fault}")
        if fault is not None:
            cure = f"put the files back; or remove {self.path / 'checkpoints'} and train again"
            raise RunError(f"no checkpoint is undamaged: {fault}", where=str(checkpoints[0].path.parent), cure=cure)
        return None

    def point(self, name: str, checkpoint: Checkpoint, **more: Any) -> None:
        """Writes latest.json or best.json."""
        self._best = None
        write_sealed(self.path / f"{name}.json", {"checkpoint": checkpoint.path.name, **more})

    def pointed(self, name: str) -> Checkpoint | None:
        """The checkpoint that latest.json or best.json names, if it exists."""
        checkpoint = Checkpoint(self.path / "checkpoints" / str(self.pointer(name).get("checkpoint")))
        return checkpoint if checkpoint.path.is_dir() else None

    def pointer(self, name: str) -> Json:
        """The content of latest.json or best.json; {} if there is none."""
        path = self.path / f"{name}.json"
        cure = "remove it: the newest checkpoint knows which one is best" if name == "best" else "remove it"
        return read_sealed(path, cure) if path.exists() else {}

    def best(self, warn: Callable[[str], None]) -> Checkpoint:
        """The checkpoint to use, whose weights are sound: the best, else the newest. An opened run looks once."""
        if self._best is None:
            best = self.pointed("best") or self._best_by_state(warn)
            if best is not None and (fault := best.fault(weights=True, checked=self._checked)) is not None:
                self._best = self.newest(warn, weights=True)
                instead = self._best.path.name if self._best is not None else "none"
                warn(f"{best.path} is damaged: {fault}; {instead} is used instead, the newest undamaged one")
            else:
                self._best = best or self.newest(warn, weights=True)
        self.asset(FROZEN)
        if self._best is None:
            self.refuse_lost()
            raise RunError("has no checkpoint yet", where=str(self.path), cure="train it first: seqloom train CONFIG")
        return self._best

    def at(self, step: int) -> Run:
        """The same run, to use with the checkpoint of a step. Raises RunError if there is none, or it is damaged."""
        run, checkpoint = Run.open(self.path), self.checkpoint_at(step)
        if fault := checkpoint.fault(weights=True) if checkpoint.path.is_dir() else "it does not exist":
            steps = ", ".join(str(each.step) for each in self.checkpoints())
            raise RunError(f"cannot be used: {fault}", where=str(checkpoint.path), cure=f"choose another step: {steps}")
        run._best = checkpoint
        return run

    def refuse_lost(self) -> None:
        """Raises RunError if the training is finished and all checkpoints are gone."""
        if self.info().get("training") and not self.checkpoints():
            cure = "put the folder checkpoints back, or train again with another --run"
            raise RunError("has lost its checkpoints", where=str(self.path), cure=cure)

    def _best_by_state(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The best checkpoint by what training saved with the newest one, where best.json is missing."""
        newest = self.newest(warn, weights=True)
        if newest is None:
            return None
        best, which = None, "using the newest one"
        if newest.fault(checked=self._checked) is None:
            state = newest.state()
            if state.get("best") is None:  # nothing was evaluated yet
                return None
            best = self.checkpoint_at(state["best_step"])
            which = f"by the newest one it was {best.path.name}" if best.path.is_dir() else which
        warn(f"{self.path / 'best.json'} is missing, or its checkpoint; {which}")
        return best if best is not None and best.path.is_dir() else None

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The checkpoint of a step, or of the mean of several for -1, whether or not it exists yet."""
        return Checkpoint(self.path / "checkpoints" / (f"step-{step:08d}" if step >= 0 else "average"))

    def keep_only(self, steps: set[int]) -> None:
        """Removes the checkpoints of all other steps."""
        for checkpoint in self.checkpoints():
            if checkpoint.step not in steps:
                shutil.rmtree(checkpoint.path, ignore_errors=True)


def runs(folder: Path) -> list[Run]:
    """The runs in a folder, in those of ladders and in those of their seeds, by path; also those without run.json."""
    return [Run(path) for path in files.folders_with(("run.json", MARKER), folder, 3)]


def _existing(folder: Path) -> str:
    others = ", ".join(str(run.path) for run in runs(folder)[:9]) if folder.is_dir() else ""
    return f"existing runs: {others}" if others else "seqloom runs lists the existing runs"


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(files.sealed(row), ensure_ascii=False) + "\n" for row in rows)
