"""A language made up for tests: each word has one translation, and the words of a sentence turn round."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = ["ba", "ko", "mi", "tesu", "lan", "gor", "shi", "püt", "ve", "rondo"]


def translated(text: str) -> str:
    return " ".join(word[::-1].upper() for word in reversed(text.split()))


def sentences(count: int, seed: int, most: int = 6) -> list[str]:
    """Different sentences of at most so many words."""
    chance = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(chance.choices(WORDS, k=chance.randint(1, most)))] = None
    return list(found)


def write_corpus(folder: Path, name: str, count: int, seed: int, most: int = 6) -> tuple[str, str]:
    """Two parallel files; returns their paths."""
    sources = sentences(count, seed, most)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.src", folder / f"{name}.tgt"
    for path, lines in zip(paths, (sources, map(translated, sources)), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(paths[0]), str(paths[1])
