"""The data of a translation run: from pairs of texts to tokenizers and batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from seqloom.data.batches.batch import SequenceBatch
from seqloom.data.batches.order import Batches, ByEpoch, Fixed, Side
from seqloom.data.checks.pairs import summary as facts_of
from seqloom.data.formats.parallel import usable
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.dialogues import Dialogues
from seqloom.data.sources.digits import Digits
from seqloom.data.sources.pairs import Files
from seqloom.data.sources.phrases.corpus import Phrases
from seqloom.data.sources.programs import Programs
from seqloom.data.sources.source import NoData
from seqloom.decoding.config import Greedy
from seqloom.run import Json, Run
from seqloom.tasks.assets import begun, load_tokenizers, make_tokenizers
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.tasks.task import Trial
from seqloom.text.bpe_dropout import DroppedBPE
from seqloom.text.tokenizer import BPE, Tokenizer
from seqloom.training.log import Reporter

if TYPE_CHECKING:
    from seqloom.tasks.seq2seq.task import TranslateConfig

_SAMPLES = 12
_EPOCHS = 8


DataConfig = Files | Dialogues | Phrases | Digits | Programs | NoData


@dataclass
class Corpus:
    """Data, tokenizers and batches of pairs; `epoch` gives the encoded pairs of an epoch."""

    splits: Splits
    source: Tokenizer
    target: Tokenizer
    batches: Batches
    epoch: Callable[[int], Encoded]

    @property
    def per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return self.batches.per_epoch

    def __call__(self, number: int) -> SequenceBatch:
        """Batch `number`; its rows are line numbers of the training data."""
        batch, lines = self.batches(number), self.epoch(number // self.batches.per_epoch).lines
        return replace(batch, rows=tuple(lines[i] for i in batch.rows))


@dataclass
class Encoded:
    """Training pairs as ids; `lines` = their line numbers, from 0."""

    source: Side
    target: Side
    lines: list[int]


def read_corpus(config: TranslateConfig, reporter: Reporter, run: Run | None = None) -> Corpus:
    """Reads the data, trains the tokenizers or loads those of the run, and plans the batches."""
    splits = config.data.splits()
    train, dropped = usable(splits.train)
    if dropped:
        reporter.warn(f"{dropped} training pairs with an empty side are left out")
    usable(splits.valid)  # raises now, not after the first steps, if there is nothing to validate on
    saved = load_tokenizers(run) if run is not None and begun(run) else None
    source, target = saved or make_tokenizers(config.tokenizer, train)
    first, fresh = _encoded(config, train, (source, target)), splits.fresh
    longest = fresh.longest if fresh else 0
    if left_out := len(train) - len(first.lines):
        reporter.warn(
            f"{left_out} training pairs are too long (data.max_length, or the model's positions) and are left out"
        )

    @lru_cache(maxsize=2)
    def epoch(number: int) -> Encoded:
        if fresh is None or number == longest:
            return first
        return _encoded(config, fresh.draw(number), (source, target))

    sides = ByEpoch(lambda n: epoch(n).source), ByEpoch(lambda n: epoch(n).target)
    batches = Batches(*sides, target.start, config.batches, config.seed, longest)
    return Corpus(replace(splits, train=train), source, target, batches, epoch)


def _encoded(config: TranslateConfig, train: Pairs, tokenizers: tuple[Tokenizer, Tokenizer]) -> Encoded:
    texts = (train.sources, train.targets)
    ids = [t.encode(side) for t, side in zip(tokenizers, texts, strict=True)]
    kept = _short_enough(config, train, ids, tokenizers)
    source, target = (
        _side(config, config.seed + n, t, [texts[n][i] for i in kept], [ids[n][i] for i in kept])
        for n, t in enumerate(tokenizers)
    )
    return Encoded(source, target, [train.line(i) - 1 for i in kept])


def _short_enough(
    config: TranslateConfig, train: Pairs, ids: Sequence[Sequence[np.ndarray]], tokenizers: Sequence[Tokenizer]
) -> list[int]:
    """The pairs within data.max_length for which the model has enough positions, even with BPE dropout."""
    most = config.data.longest()
    halves = (config.model.encoder, config.model.decoder)
    room = [1 << 30 if n.limit is None else n.limit - 1 for n in halves]
    longest = [[len(row) for row in side] for side in ids]
    if isinstance(config.tokenizer, BPE) and config.tokenizer.dropout:
        sides = zip(tokenizers, (train.sources, train.targets), strict=True)
        longest = [[len(t.inner.normalizer.normalize_str(text).encode()) for text in texts] for t, texts in sides]
    return [
        i
        for i in range(len(train))
        if all(len(ids[side][i]) <= most and longest[side][i] <= room[side] for side in (0, 1))
    ]


def _side(
    config: TranslateConfig, seed: int, tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[np.ndarray]
) -> Side:
    if isinstance(config.tokenizer, BPE) and config.tokenizer.dropout:
        return DroppedBPE(tokenizer, texts, config.tokenizer.dropout, seed)
    return Fixed([np.append(row, tokenizer.end).astype(np.int32) for row in ids])


def summary(splits: Splits, source: Tokenizer, target: Tokenizer) -> list[Json]:
    """A row for each side of each split."""
    rows = []
    for name, pairs in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if pairs is None:
            continue
        facts: dict[str, Any] = facts_of(pairs)
        sides = (("source", source, pairs.sources), ("target", target, pairs.targets))
        for side, tokenizer, texts in sides:
            sizes = facts[side]
            ids = np.concatenate(tokenizer.encode(texts))
            rows.append(
                {
                    "split": name,
                    "side": side,
                    "pairs": len(pairs),
                    "words": sizes["words"],
                    "mean": sizes["words_mean"],
                    "95 %": sizes["words_95"],
                    "longest": sizes["words_max"],
                    "distinct": sizes["distinct_words"],
                    "tokens": len(ids),
                    "unknown": int((ids == tokenizer.unknown).sum()),
                }
            )
    return rows


def trial(corpus: Corpus) -> Trial:
    """Batches of all lengths, on which a training is timed."""
    batches = corpus.batches
    return Trial(
        _chosen(batches),
        lambda count: _shapes(batches, count),
        lambda model: _evaluation_seconds(corpus, model),
        batches.padding(),
    )


def _chosen(batches: Batches) -> list[int]:
    """The numbers of some batches of the longest epoch, from the smallest to the largest."""
    parts = batches.epoch(batches.longest)
    sources, targets = batches.lengths(batches.longest)
    positions = [len(p) * int(sources[p].max() + targets[p].max()) for p in parts]
    ranked = sorted(range(len(parts)), key=positions.__getitem__)
    first = batches.longest * batches.per_epoch
    return [first + ranked[round(i * (len(ranked) - 1) / (_SAMPLES - 1))] for i in range(_SAMPLES)]


def _evaluation_seconds(corpus: Corpus, model: Any) -> float:
    pairs, _ = usable(corpus.splits.valid)
    sample = list(pairs.sources[:: max(1, len(pairs) // 256)])
    lengths = [len(ids) for ids in corpus.target.encode(pairs.targets[:: max(1, len(pairs) // 256)])]
    # An untrained model does not know when to stop: it is forced to the mean length of the references.
    length = max(1, round(statistics.fmean(lengths)))
    forced = Greedy(min_length=length, max_length=length)
    translator = Translator(model, corpus.source, corpus.target, forced, long_input="cut")
    began = time.perf_counter()
    translator(sample)
    # The validation loss takes one more pass, about a twentieth of the time of decoding.
    return 1.05 * (time.perf_counter() - began) * len(pairs) / len(sample)


def _shapes(batches: Batches, count: int) -> int:
    """The number of distinct shapes among `count` batches, judged by the first epochs."""
    shapes = set()
    for epoch in range(min(_EPOCHS, -(-count // batches.per_epoch))):
        source, target = batches.lengths(epoch)
        shapes |= {(len(p), int(source[p].max()), int(target[p].max())) for p in batches.epoch(epoch)}
    return len(shapes)
