"""The text that comes with every Python: the source and the help of its own library."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from seqloom.data.formats.lines import is_text
from seqloom.data.rows import Piece
from seqloom.data.sources.source import SPLITS, TextSource
from seqloom.data.sources.text import Source, as_document, read_file, text_source
from seqloom.errors import UsageError

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_TOPICS = Path("pydoc_data", "topics.py")


@dataclass(frozen=True)
class StandardLibrary(TextSource):
    """The running Python's own library: its modules, without their tests, and the topics of its help().

    Each is a document. Its name determines its split; 3 % are for validation and 3 % for testing.
    """

    kind: ClassVar[str] = "standard-library"

    def splits(self, report: Callable[[str], object], seed: int = 0) -> dict[str, Source]:
        """See TextSource."""
        return {name: library_source(name) for name in SPLITS}

    def tested(self, files: Sequence[str]) -> Source:
        """See TextSource."""
        return text_source(files, ["files"] * len(files)) if files else library_source("test")


def library_source(split: str) -> Source:
    """A split of the library. Raises UsageError if its source is not installed."""
    root = Path(sysconfig.get_paths()["stdlib"])
    names = [path.relative_to(root) for path in _modules(root)]
    modules = [root / name for name in names if name == _TOPICS or _split(name) == split]
    modules = [path for path in modules if _is_text(path)]
    if len(modules) < 2:
        cure = "name your own text with --data.train FILE ..."
        raise UsageError("the source of Python's library is not there", where=str(root), cure=cure)
    return Source(tuple(modules), partial(_read, split, root / _TOPICS))


def _modules(root: Path) -> list[Path]:
    modules: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]  # site-packages can hold more than the library
        modules += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(modules)


def _split(name: Path | str) -> str:
    number = int(hashlib.sha256(str(name).encode()).hexdigest(), 16) % 100
    return "valid" if number < 3 else "test" if number < 6 else "train"


def _is_text(path: Path) -> bool:
    try:
        return is_text(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError):
        return False


def _read(split: str, help_topics: Path, path: Path, watch: Callable[[Any], object]) -> Iterator[Piece]:
    if path != help_topics:
        yield from read_file(path, watch, "files")
        return
    from pydoc_data.topics import topics

    with path.open("rb") as file:
        watch(file)
        for name in sorted(topics):
            if _split(name) == split:
                yield from as_document(topics[name], 1)
