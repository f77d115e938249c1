"""Sentence pairs as ids for the translation benchmarks: Multi30k if SEQLOOM_DATA is set, else synthetic ones.

Every sequence ends with EOS. The synthetic pairs have Multi30k's lengths and ids by Zipf's law.
"""

from __future__ import annotations

import lzma
import math
import os
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common import BOS, EOS, PAD, UNK, VOCAB_SIZE, Ids, stop

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAIRS, TEST_SENTENCES = 29_000, 1_000
QUICK_PAIRS, QUICK_TEST_SENTENCES = 200, 32
SPECIAL = {UNK: "<unk>", PAD: "<pad>", BOS: "<s>", EOS: "</s>"}
# Of Multi30k's German side in a joint BPE of 8,192: mean and deviation of the log length, its range, and the
# deviation of the log of source length over target length.
LOG_LENGTH, LOG_DEVIATION, SHORTEST, LONGEST, RATIO_DEVIATION = 2.70, 0.33, 4, 53, 0.17


class Batch(NamedTuple):
    """Padded ids of one batch, row by row: source (B S), target_in (B T) from BOS on, target_out (B T) up to EOS."""

    source: list[Ids]
    target_in: list[Ids]
    target_out: list[Ids]

    @property
    def tokens(self) -> int:
        """Target tokens, padding not counted."""
        return sum(token != PAD for row in self.target_out for token in row)


class Data(NamedTuple):
    """Where the sentences come from, in words, the training pairs and the test set's sources."""

    origin: str
    pairs: list[tuple[Ids, Ids]]
    test: list[Ids]


def load(seed: int, *, quick: bool = False) -> Data:
    """Multi30k English to German from the folder that SEQLOOM_DATA names, or synthetic sentences if it is not set.

    Args:
        quick: a few synthetic sentences in any case.
    """
    folder = os.environ.get("SEQLOOM_DATA")
    if folder and not quick:
        return real(Path(folder) / "multi30k")
    return synthetic(random.Random(seed), *((QUICK_PAIRS, QUICK_TEST_SENTENCES) if quick else (PAIRS, TEST_SENTENCES)))


def real(folder: Path) -> Data:
    """Multi30k in a joint BPE that is trained here on both sides of the training set."""
    english, german = (lines(folder / f"train.{language}.xz") for language in ("en", "de"))
    if len(english) != len(german):
        stop(f"{folder}: train.en.xz has {len(english):,} lines, train.de.xz {len(german):,}")
    tokenizer = train_bpe(english + german)

    def encode(texts: list[str]) -> list[Ids]:
        return [[*encoding.ids, EOS] for encoding in tokenizer.encode_batch(texts)]

    pairs = list(zip(encode(english), encode(german), strict=True))
    test = encode(lines(folder / "test_2016_flickr.en"))
    return Data("Multi30k en-de, BPE 8,192", pairs, test)


def lines(path: Path) -> list[str]:
    """The lines of a text file, .xz or plain."""
    try:
        raw = path.read_bytes()
        text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        stop(f"{path}: {error}\n  SEQLOOM_DATA must name a folder that holds multi30k/")
    return text.removesuffix("\n").split("\n")


def train_bpe(texts: list[str]) -> Tokenizer:
    """A BPE of the benchmark's size over words and punctuation marks."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNK]))
    parts = [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    special = [SPECIAL[i] for i in sorted(SPECIAL)]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=special, show_progress=False)
    )
    return tokenizer


def synthetic(draw: random.Random, pair_count: int, test_count: int) -> Data:
    """Random sentences with Multi30k's lengths."""
    words = range(len(SPECIAL), VOCAB_SIZE)
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))

    def sentence(length: float) -> Ids:
        count = min(max(round(length), SHORTEST), LONGEST)
        return [*draw.choices(words, cum_weights=weights, k=count - 1), EOS]

    pairs = []
    for _ in range(pair_count):
        length = draw.lognormvariate(LOG_LENGTH, LOG_DEVIATION)
        pairs.append((sentence(length * math.exp(draw.gauss(0, RATIO_DEVIATION))), sentence(length)))
    test = [sentence(draw.lognormvariate(LOG_LENGTH, LOG_DEVIATION)) for _ in range(test_count)]
    return Data("synthetic pairs with Multi30k's lengths, ids by Zipf's law", pairs, test)


def batches(pairs: list[tuple[Ids, Ids]], tokens: int, draw: random.Random) -> list[Batch]:
    """All pairs in batches of at most `tokens` target tokens, sorted by length within and shuffled among each other."""
    shuffled = draw.sample(pairs, len(pairs))
    shuffled.sort(key=lambda pair: (len(pair[1]), len(pair[0])))
    made = [padded(rows) for rows in cut(shuffled, tokens)]
    draw.shuffle(made)
    return made


def cut(pairs: list[tuple[Ids, Ids]], tokens: int) -> Iterator[list[tuple[Ids, Ids]]]:
    """Runs of neighbouring pairs with at most `tokens` target tokens each."""
    run: list[tuple[Ids, Ids]] = []
    held = 0
    for pair in pairs:
        if run and held + len(pair[1]) > tokens:
            yield run
            run, held = [], 0
        run.append(pair)
        held += len(pair[1])
    if run:
        yield run


def padded(pairs: list[tuple[Ids, Ids]]) -> Batch:
    """One batch of the pairs."""
    sources = pad([source for source, _ in pairs])
    return Batch(sources, pad([[BOS, *target[:-1]] for _, target in pairs]), pad([target for _, target in pairs]))


def pad(rows: list[Ids]) -> list[Ids]:
    """The rows, all as long as the longest."""
    longest = max(map(len, rows))
    return [row + [PAD] * (longest - len(row)) for row in rows]
