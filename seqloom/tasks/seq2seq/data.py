"""The data of a translation run: from pairs of texts, or of images and texts, to tokenizers and batches."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np

from seqloom.data.batches.order import Order
from seqloom.data.batches.pairs import Changed, EncodedPairs, Fixed, PairBatches, Side
from seqloom.data.batches.windows import Row
from seqloom.data.checks.pairs import sizes
from seqloom.data.formats.parallel import usable
from seqloom.data.rows import Pairs, Splits
from seqloom.data.sources.captions import text_beside
from seqloom.decoding.config import Greedy
from seqloom.errors import counted
from seqloom.files import Json
from seqloom.run import Run
from seqloom.tasks.assets import Assets, make_tokenizer, make_tokenizers, standardized
from seqloom.tasks.building import kept_tokenizers
from seqloom.tasks.encoder.media import MEDIA
from seqloom.tasks.seq2seq.config import TranslateKeys
from seqloom.tasks.seq2seq.predictor import Source, Translator, encoded
from seqloom.tasks.task import Trial
from seqloom.text.bpe_dropout import DroppedBPE
from seqloom.text.tokenizer import BPE, Tokenizer
from seqloom.training.log import Reporter

_SAMPLES = 12
_EPOCHS = 8


@dataclass(frozen=True)
class Encoded(EncodedPairs):
    """Training pairs as ids.

    Args:
        sizes: of each side, the tokens and the unknown ones among them, with those of pairs that are left out.
    """

    sizes: list[tuple[int, int]]


@dataclass
class Corpus:
    """Data, tokenizers, the training pairs of the longest epoch, and batches of pairs."""

    splits: Splits
    assets: Assets
    source: Source
    target: Tokenizer
    train: Encoded
    batches: PairBatches


def read_corpus(config: TranslateKeys, reporter: Reporter, run: Run | None = None) -> Corpus:
    """Reads the data, trains the tokenizers or loads those of the run, and plans the batches."""
    splits = config.data.splits()
    train, dropped = usable(splits.train)
    if train.codes:
        reporter.say(f"{counted(train.codes, 'inline code')} of the TMX file left out of the training pairs")
    if dropped:
        reporter.warn(f"{dropped} training pairs with an empty side are left out")
    usable(splits.valid)  # raises now, not after the first steps, if there is nothing to validate on
    assets = _assets(config, train, run)
    source, target = readers(config, assets)
    first, fresh = _encoded(config, train, (source, target)), splits.fresh
    if note := getattr(source, "lost", ""):
        reporter.warn(note)
    longest = fresh.longest if fresh else 0
    if left_out := len(train) - len(first.lines):
        limits = "(data.max_length, or the model's positions)"
        reporter.warn(f"{left_out} training pairs are too long {limits} and are left out")

    @lru_cache(maxsize=2)
    def epoch(number: int) -> Encoded:
        if fresh is None or number == longest:
            return first
        return _encoded(config, fresh.draw(number), (source, target))

    batches = PairBatches(epoch, target.start, config.batches, config.seed, longest)
    return Corpus(replace(splits, train=train), assets, source, target, first, batches)


def _assets(config: TranslateKeys, train: Pairs, run: Run | None) -> Assets:
    """The tokenizers; and, for sources that are no texts, facts about them. What a start kept, it keeps."""
    pair = kept_tokenizers(config, run)
    if config.modality == "text":
        return Assets(pair or make_tokenizers(config.tokenizer, train))
    target = pair[1] if pair else make_tokenizer(config.tokenizer, train.targets)
    return Assets((target, target), standardized(config.data.learned(train), config.start, run))


def readers(config: TranslateKeys, assets: Assets) -> tuple[Source, Tokenizer]:
    """What encodes the sources and the targets of a run."""
    assert assets.tokenizers is not None
    source, target = assets.tokenizers
    return source if config.modality == "text" else MEDIA[config.modality](config, assets), target


def _encoded(config: TranslateKeys, train: Pairs, tokenizers: tuple[Source, Tokenizer]) -> Encoded:
    texts = (train.sources, train.targets)
    ids = [encoded(t, side) for t, side in zip(tokenizers, texts, strict=True)]
    kept = _short_enough(config, train, ids, tokenizers)
    source, target = (
        _side(config, config.seed + n, t, [texts[n][i] for i in kept], [ids[n][i] for i in kept])
        for n, t in enumerate(tokenizers)
    )
    sizes = [_size(t, rows) for t, rows in zip(tokenizers, ids, strict=True)]
    return Encoded(source, target, [train.line(i) - 1 for i in kept], sizes)


def _short_enough(
    config: TranslateKeys, train: Pairs, ids: Sequence[Sequence[Row]], tokenizers: tuple[Source, Tokenizer]
) -> list[int]:
    """The pairs within data.max_length for which the model has enough positions, even with BPE dropout."""
    most = config.data.longest()
    halves = (config.model.encoder, config.model.decoder)
    room = [1 << 30 if n.limit is None else n.limit - 1 for n in halves]
    longest = [[len(row) for row in side] for side in ids]
    texts = [side for side in (0, 1) if isinstance(tokenizers[side], Tokenizer)]
    if isinstance(config.tokenizer, BPE) and config.tokenizer.dropout:
        for side in texts:
            normalize = cast(Tokenizer, tokenizers[side]).inner.normalizer.normalize_str
            longest[side] = [len(normalize(text).encode()) for text in (train.sources, train.targets)[side]]
    return [
        i
        for i in range(len(train))
        if all(len(ids[side][i]) <= most and longest[side][i] <= room[side] for side in texts)
    ]


def _side(config: TranslateKeys, seed: int, tokenizer: Source, texts: Sequence[str], ids: Sequence[Any]) -> Side:
    if not isinstance(tokenizer, Tokenizer):
        change = tokenizer.change()
        return Fixed(ids) if change is None else Changed(ids, change, seed)
    if isinstance(config.tokenizer, BPE) and config.tokenizer.dropout:
        return DroppedBPE(tokenizer, texts, config.tokenizer.dropout, seed)
    ends = np.cumsum([len(row) for row in ids])
    flat = np.insert(np.concatenate(ids), ends, tokenizer.end) if ids else np.zeros(0, np.int32)
    edges = [0, *(ends + np.arange(1, len(ids) + 1)).tolist()]
    return Fixed([flat[start:stop] for start, stop in itertools.pairwise(edges)])


def summary(corpus: Corpus) -> list[Json]:
    """A row for each side of each split; that of images counts their positions, and the words beside them."""
    rows, splits = [], corpus.splits
    for name, pairs in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if pairs is not None:
            pairs = pairs if isinstance(corpus.source, Tokenizer) else usable(pairs)[0]
            sides = ("source", corpus.source, pairs.sources), ("target", corpus.target, pairs.targets)
            for n, (side, tokenizer, texts) in enumerate(sides):
                tokens, unknown = (
                    corpus.train.sizes[n] if name == "train" else _size(tokenizer, encoded(tokenizer, texts))
                )
                counted = {"tokens": tokens, "unknown": unknown}
                words = sizes(texts if isinstance(tokenizer, Tokenizer) else map(text_beside, texts))
                rows.append({"split": name, "side": side, "pairs": len(pairs), **words, **counted})
    return rows


def _size(tokenizer: Source, rows: Sequence[Row]) -> tuple[int, int]:
    """The tokens of a side, and the unknown ones among them."""
    if not isinstance(tokenizer, Tokenizer):
        return sum(map(len, rows)), 0
    ids = np.concatenate([np.zeros(0, np.int32), *cast(Sequence[np.ndarray], rows)])
    return len(ids), int((ids == tokenizer.unknown).sum())


def trial(corpus: Corpus) -> Trial:
    """Batches of all lengths, to time a training by."""
    order = corpus.batches.order
    return Trial(_chosen(order), partial(_shapes, order), partial(_evaluation_seconds, corpus), order.padding())


def _chosen(order: Order) -> list[int]:
    """The numbers of some batches of the longest epoch, from the smallest to the largest."""
    parts = order.epoch(order.longest)
    sources, targets = order.lengths(order.longest)
    positions = [len(p) * int(sources[p].max() + targets[p].max()) for p in parts]
    ranked = sorted(range(len(parts)), key=positions.__getitem__)
    first = order.longest * order.per_epoch
    return [first + ranked[round(i * (len(ranked) - 1) / (_SAMPLES - 1))] for i in range(_SAMPLES)]


def _evaluation_seconds(corpus: Corpus, model: Any) -> float:
    pairs, _ = usable(corpus.splits.valid)
    sample = list(pairs.sources[:: max(1, len(pairs) // 128)])
    lengths = [len(ids) for ids in corpus.target.encode(pairs.targets[:: max(1, len(pairs) // 128)])]
    # An untrained model does not know when to stop: it is forced to the mean length of the references.
    length = max(1, round(statistics.fmean(lengths)))
    forced = Greedy(min_length=length, max_length=length)
    translator = Translator(model, corpus.source, corpus.target, forced, long_input="cut")
    began = time.perf_counter()
    translator(sample)
    # The validation loss takes one more pass, about a twentieth of the time of decoding.
    return 1.05 * (time.perf_counter() - began) * len(pairs) / len(sample)


def _shapes(order: Order, count: int) -> int:
    """The number of distinct shapes among `count` batches, judged by the first epochs."""
    shapes = set()
    for epoch in range(min(_EPOCHS, -(-count // order.per_epoch))):
        source, target = order.lengths(epoch)
        shapes |= {(len(p), int(source[p].max()), int(target[p].max())) for p in order.epoch(epoch)}
    return len(shapes)
