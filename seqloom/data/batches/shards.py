"""Text of any size as token ids on disk: shards of bounded size, each written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from seqloom.data.batches.stream import Row, encode_block
from seqloom.data.rows import Piece, ReportProgress, as_bytes, blocks_of, text_digest
from seqloom.errors import RunError
from seqloom.files import Checkpoint, read_sealed, write_folder, write_json, write_sealed
from seqloom.text.tokenizer import Tokenizer

_ROOM = 1 << 24  # tokens of a shard, apart from the rest of the block that fills it
_INDEX = "corpus.json"


@runtime_checkable
class StampedText(Protocol):
    """A text that is read again each time, with a stamp that shows whether it may have changed."""

    def pieces(self, report: ReportProgress = ..., /) -> Iterator[Piece]:
        """The whole text; see `TextSplit.pieces`."""
        ...

    def stamp(self) -> list[Any]:
        """Values that are unchanged while the text is, and known without reading it."""
        ...


@dataclass(frozen=True)
class Keeping:
    """Where shards are kept, and what is called while they are written.

    Args:
        folder: where they are written.
        report: called from time to time with the share of the text that is done, and the tokens in it.
        before: called with the text before any of it is encoded; may raise.
        check: called with the number of tokens so far before each shard is written; may raise.
        room: how many tokens fill a shard.
    """

    folder: Path
    report: ReportProgress = lambda share, tokens: None
    before: Callable[[Iterable[Piece]], None] = lambda pieces: None
    check: Callable[[int], None] = lambda tokens: None
    room: int = _ROOM


class Joined:
    """Several rows joined into one."""

    def __init__(self, parts: Sequence[Row]) -> None:
        self.parts, self.edges = parts, np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self.edges[-1])

    def __getitem__(self, at: np.ndarray) -> np.ndarray:
        part = np.searchsorted(self.edges, at, side="right") - 1
        values = np.empty(at.shape, dtype=np.int64)
        for k in np.unique(part):
            here = part == k
            values[here] = self.parts[k][at[here] - self.edges[k]]
        return values


class _Lines:
    """The line of each of `size` tokens; line numbers[i] begins at token starts[i]."""

    def __init__(self, size: int, starts: np.ndarray, numbers: np.ndarray) -> None:
        self.size, self.starts, self.numbers = size, starts, numbers

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at: np.ndarray) -> np.ndarray:
        lines: np.ndarray = self.numbers[np.searchsorted(self.starts, at, side="right") - 1]
        return lines


@dataclass(frozen=True)
class Shards:
    """The ids of a text, the line of each, and the digest of the text they encode."""

    ids: Joined
    lines: Joined
    digest: str


def find_shards(folder: Path, source: StampedText, tokenizer: Tokenizer) -> Shards | None:
    """The shards of a text if all of them exist, undamaged, and encode this very text; otherwise None.

    The text is read again, for its digest, only if the size or time of a file has changed.
    """
    try:
        index = read_sealed(folder / _INDEX, "")
    except RunError:
        return None
    shards = [_shard(folder, number) for number in range(index["shards"])]
    if index["tokenizer"] != tokenizer.digest() or any(shard.fault() for shard in shards):
        return None
    if index["stamp"] != source.stamp():
        if text_digest(source.pieces()) != index["text"]:
            return None
        write_sealed(folder / _INDEX, {**index, "stamp": source.stamp()})
    return _opened(shards, index["text"])


def write_shards(source: StampedText, tokenizer: Tokenizer, keeping: Keeping) -> Shards:
    """Encodes a text into shards; keeps the complete ones that an earlier call left, as far as the text is the same."""
    keeping.before(source.pieces())
    folder = keeping.folder
    done, sha, skip = _kept(folder, source, tokenizer)
    tokens = sum(shard.state()["tokens"] for shard in done)
    block: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    pieces = islice(source.pieces(lambda share, done: keeping.report(share, tokens)), skip, None)
    (folder / _INDEX).unlink(missing_ok=True)

    def write() -> None:
        keeping.check(tokens)
        state = {"tokenizer": tokenizer.digest(), "pieces": skip, "text": sha.hexdigest()}
        done.append(_write(_shard(folder, len(done)).path, block, tokenizer.vocab_size, state))
        block.clear()

    for some in blocks_of(pieces):
        sha.update(as_bytes(some))
        skip += len(some)
        block.append((*encode_block(some, tokenizer), np.array([number for _, number in some], dtype=np.uint32)))
        tokens += len(block[-1][0])
        if sum(len(ids) for ids, _, _ in block) >= keeping.room:
            write()
    if block:
        write()
    index = {"text": sha.hexdigest(), "tokenizer": tokenizer.digest(), "stamp": source.stamp(), "shards": len(done)}
    write_sealed(folder / _INDEX, index)
    return _opened(done, sha.hexdigest())


def _shard(folder: Path, number: int) -> Checkpoint:
    return Checkpoint(folder / f"{number:05d}")


def _kept(folder: Path, source: StampedText, tokenizer: Tokenizer) -> tuple[list[Checkpoint], Any, int]:
    """The complete shards of this text and tokenizer, the digest so far, and how many pieces they hold."""
    kept: list[Checkpoint] = []
    sha, taken, pieces = hashlib.sha256(), 0, source.pieces()
    while not (shard := _shard(folder, len(kept))).fault():
        state, longer = shard.state(), sha.copy()
        for some in blocks_of(islice(pieces, state["pieces"] - taken)):
            longer.update(as_bytes(some))
        if (state["tokenizer"], state["text"]) != (tokenizer.digest(), longer.hexdigest()):
            break
        kept.append(shard)
        sha, taken = longer, state["pieces"]
    return kept, sha, taken


def _write(path: Path, blocks: Iterable[tuple[np.ndarray, ...]], vocab_size: int, state: dict[str, Any]) -> Checkpoint:
    ids, sizes, numbers = (np.concatenate(part) for part in zip(*blocks, strict=True))
    starts = (sizes.cumsum() - sizes).astype(np.uint32)

    def write(folder: Path) -> None:
        np.save(folder / "ids.npy", ids.astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32))
        np.save(folder / "lines.npy", np.stack((starts, numbers)))
        write_json(folder / "state.json", {**state, "tokens": len(ids)})

    return write_folder(path, write)


def _opened(shards: Sequence[Checkpoint], digest: str) -> Shards:
    def arrays(name: str) -> list[np.ndarray]:
        files = [shard.path / name for shard in shards]
        return [np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files]

    ids = arrays("ids.npy")
    lines = [_Lines(len(part), *table) for part, table in zip(ids, arrays("lines.npy"), strict=True)]
    return Shards(Joined(ids), Joined(lines), digest)
