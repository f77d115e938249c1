"""Files that seqloom writes: each is complete or absent, and a change made afterwards is noticed when it is read.

A file is written under another name, synced and renamed. JSON files that can change a result carry a digest of their
content; so do the lines of JSON lines and, in their last line, TOML files. A folder has a manifest with the digests of
its files.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.errors import RunError, UsageError

FORMAT = 2
WEIGHTS, FROZEN = "model.safetensors", "frozen.safetensors"
MARKER = ".seqloom"
"""In every run directory: where it is, seqloom may write. It is locked while the run is trained."""
Json = dict[str, Any]

_MANIFEST, _DIGEST = "MANIFEST.json", "digest"
_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)(?P<old>\.old)?\.partial")
_OUTPUT = ".seqloom-output"
CHANGED = "was changed after seqloom wrote it"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's refusals into one clear error; nothing that was there is harmed."""
    try:
        yield
    except OSError as error:
        cures = {
            errno.ENOSPC: "free some space and start the same command again",
            errno.EDQUOT: "your quota is used up; free some space and start the same command again",
            errno.EACCES: "choose another place, or change the permissions",
            errno.EPERM: "choose another place, or change the permissions",
            errno.ENOTDIR: "a part of this path is a file; choose another place",
            errno.EEXIST: "a part of this path is a file; choose another place",
            errno.ELOOP: "a part of this path is a loop of links; choose another place",
            errno.ENOENT: "make its folder first, or choose another place",
            errno.EROFS: "the file system is read-only; choose another place",
        }
        cure = cures.get(error.errno or 0, "what was saved before is untouched")
        raise RunError(f"cannot be written: {error.strerror or error}", where=str(path), cure=cure) from None


def unreadable(path: Path, error: Exception, cure: str = "make it readable and try again") -> RunError:
    """The error for a file that cannot be read."""
    problem = error.strerror if isinstance(error, OSError) and error.strerror else error
    return RunError(f"cannot be read: {problem}", where=str(path), cure=cure)


@contextlib.contextmanager
def output_in(folder: Path, *names: str) -> Iterator[None]:
    """A context that writes files of these names, or of any, into a folder; a list of them stays in .seqloom-output.

    Raises UsageError where the folder has such files that are not in its list: they are a person's own.
    """
    record = folder / _OUTPUT
    ours = set(record.read_text(encoding="utf-8").split("\n")) if record.is_file() else set()

    def there() -> set[str]:
        return {p.name for p in folder.iterdir() if not names or p.name in names} if folder.is_dir() else set()

    if foreign := there() - ours - {_OUTPUT}:
        problem = f"holds {min(foreign)}, which is no earlier output of this command"
        raise UsageError(problem, where=str(folder), cure="choose another place")
    try:
        yield
    finally:
        if written := there() - {_OUTPUT}:
            write_text(record, "\n".join(sorted(ours | written)) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file, completely or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(path)
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file for people and other programs, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: Path, value: Json) -> None:
    """Writes a JSON file with a digest of its content, for `read_sealed`."""
    write_json(path, sealed(value))


def read_json(path: Path, cure: str, kind: type = dict, number: Callable[[str], float] = float) -> Any:
    """The JSON object, or list, in a file. Raises RunError, with the cure, if it cannot be read or is of another kind.

    `number` makes numbers with a point, and "NaN" and "Infinity"; it may raise ValueError.
    """
    try:
        if path.exists() and not path.is_file():
            raise RunError("is not a regular file", where=str(path), cure=cure)
        value = json.loads(path.read_text(encoding="utf-8"), parse_float=number, parse_constant=number)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error, cure) from None
    if not isinstance(value, kind):
        raise RunError(f"is not a JSON {'object' if kind is dict else 'array'}", where=str(path), cure=cure)
    return value


def read_sealed(path: Path, cure: str) -> Json:
    """What `write_sealed` wrote. Raises RunError, with the cure, if it cannot be read or was changed since."""
    value = unsealed(read_json(path, cure))
    if value is None:
        raise RunError(CHANGED, where=str(path), cure=cure)
    return value


def sealed(value: Mapping[str, Any]) -> Json:
    """A JSON object with a digest of its content."""
    plain = json.loads(json.dumps({key: item for key, item in value.items() if key != _DIGEST}))
    return {**value, _DIGEST: short_digest(plain)}


def unsealed(value: Any) -> Json | None:
    """What `sealed` was given, from the JSON it returned; None if this was changed."""
    if not isinstance(value, dict):
        return None
    content = {key: item for key, item in value.items() if key != _DIGEST}
    return content if value.get(_DIGEST) == short_digest(content) else None


def short_digest(value: Any) -> str:
    """The first half of the SHA-256 of a value that JSON can hold."""
    return _short(json.dumps(value, sort_keys=True))


def sealed_toml(text: str) -> str:
    """A TOML document with its digest in a comment at the end."""
    return f"{text}# {_DIGEST} {_short(text)}\n"


def check_toml(path: Path, cure: str) -> None:
    """Raises RunError, with the cure, unless the file is what `sealed_toml` returned."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, error, cure) from None
    if sealed_toml(text[: text.rstrip("\n").rfind("\n") + 1]) != text:
        raise RunError(CHANGED, where=str(path), cure=cure)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _partial(path: Path, end: str = "") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{end}.partial")


def clear_partial(folder: Path) -> None:
    """Removes what killed processes left unfinished in a folder and in its folders."""
    for path in (*folder.glob(".*.partial"), *folder.glob("*/.*.partial")):
        match = _PARTIAL.fullmatch(path.name)
        if match is None or _alive(int(match["process"])):
            continue
        if match["old"] and not (final := path.with_name(match["name"])).exists():
            path.replace(final)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return process != os.getpid()


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

    def digest(self) -> str:
        """The SHA-256 of its weights, from its manifest."""
        digest: str = read_sealed(self.path / _MANIFEST, "")["files"][WEIGHTS]["sha256"]
        return digest

    def fault(self, *, weights: bool = False, checked: set[Path] | None = None) -> str | None:
        """What its manifest shows to be wrong with its files, or only its weights; skips, and adds to, `checked`.

        Raises RunError for a file that is there and cannot be read: that is not damage.
        """
        checked = set() if checked is None else checked
        name = _MANIFEST
        try:
            (self.path / name).open("rb").close()
            entries = read_sealed(self.path / name, "")["files"]
            for name in (WEIGHTS, *{FROZEN} & entries.keys()) if weights else entries:
                file = self.path / name
                if file not in checked:
                    size, entry = file.stat().st_size, entries[name]
                    if size != entry["bytes"]:
                        return f"{name} has {size} bytes instead of {entry['bytes']}"
                    if digest_of(file) != entry["sha256"]:
                        return f"{name} differs from its digest"
                    checked.add(file)
            if unlisted := {path.name for path in self.path.glob("*.safetensors")} - entries.keys():
                return f"{min(unlisted)} is not in its manifest"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            raise unreadable(self.path / name, error) from None
        except RunError as error:
            return f"its manifest {error.problem}"
        return None

    def state(self) -> Json:
        """The content of state.json."""
        state: Json = read_json(self.path / "state.json", "remove this checkpoint: then the one before it is used")
        return state


def write_folder(final: Path, write: Callable[[Path], None]) -> Checkpoint:
    """Writes a folder with digests, completely or not at all; `write` writes the files into the folder it gets."""
    partial, before = _partial(final), _partial(final, ".old")
    with writing(final):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
            files = sorted(p for p in partial.iterdir() if p.is_file())
            for path in files:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            entries = {p.name: {"bytes": p.stat().st_size, "sha256": digest_of(p)} for p in files}
            write_sealed(partial / _MANIFEST, {"format": FORMAT, "files": entries})
            _sync(partial)
            if final.exists():
                final.replace(before)
            partial.replace(final)
            _sync(final.parent)
        finally:
            if before.is_dir() and not final.exists():
                before.replace(final)
            for left in (partial, before):
                shutil.rmtree(left, ignore_errors=True)
    return Checkpoint(final)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the directory of a run where there is none, and keeps a second process from writing to it.

    Removes unfinished files of a killed process; at the end also the directory, if there is still nothing in it.
    Raises RunError if something else is there, or the run is being trained.
    """
    made = _claim(folder)
    marker = folder / MARKER
    with writing(folder):
        handle = marker.open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held it before may have removed it.
            if not os.path.samestat(os.fstat(handle.fileno()), marker.stat()):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            cure = "wait for it, or use --run"
            raise RunError("another process is training this run", where=str(folder), cure=cure) from None
        clear_partial(folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if {p.name for p in folder.iterdir()} == {MARKER}:
                    marker.unlink()
                    for path in made:
                        path.rmdir()


def _claim(folder: Path) -> list[Path]:
    """Makes the directory and returns it and the folders made for it, the innermost first."""
    cure = "choose another place"
    if folder.exists() and not folder.is_dir():
        raise RunError("is a file; a run is a directory", where=str(folder), cure=cure)
    with writing(folder):
        others = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        if others and not others & {MARKER, "run.json"}:
            problem = f"holds other things than a run ({', '.join(sorted(others)[:3])})"
            raise RunError(problem, where=str(folder), cure=cure)
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    return made


def folders_with(names: Sequence[str], folder: Path, depth: int) -> list[Path]:
    """The folders with a file of one of the names, at most so deep below a folder, by path."""
    level, found = [folder], list[Path]()
    for _ in range(depth):
        level = [child for parent in level for child in _folders(parent)]
        found += [path for path in level if any((path / name).exists() for name in names)]
    return sorted(found)


def _folders(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # it may not be read, or has just been removed
        return [path for path in folder.iterdir() if path.is_dir()]
    return []
