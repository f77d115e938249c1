"""Translation: from parallel text to a trained run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from seqloom import config as configs
from seqloom.data.batches.batch import SequenceBatch
from seqloom.data.batches.order import BatchConfig, Batches, ByEpoch, Fixed, Side, make_batch
from seqloom.data.formats.parallel import read_pairs, usable
from seqloom.data.rows import NoData, Pairs, Splits
from seqloom.data.sources.dialogues import Dialogues, read_dialogues
from seqloom.data.sources.digits import Digits, make_digits
from seqloom.data.sources.phrases.corpus import Phrases, make_phrases
from seqloom.data.sources.programs import Programs, make_programs
from seqloom.decoding.search import DecodingConfig
from seqloom.errors import UsageError
from seqloom.evaluation.translation import corpus_bleu, exact_match
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.run import Run
from seqloom.tasks.building import load_tokenizers, make_tokenizers, save_tokenizers
from seqloom.tasks.seq2seq.predictor import LongInput, Translator
from seqloom.tasks.task import GradientConfig, Ready, decoding_config, gradient_plan, train_run, trained
from seqloom.tasks.word_vectors.starting import take_vectors
from seqloom.text.bpe_dropout import DroppedBPE
from seqloom.text.tokenizer import BPE, Tokenizer, TokenizerConfig
from seqloom.training.fit import Plan
from seqloom.training.log import Reporter
from seqloom.training.precision import Precision


@dataclass(frozen=True)
class Files:
    """Parallel text in files: two parallel ones, or one of TSV, JSONL, TMX or PO; plain, .gz or .xz.

    Args:
        train, valid, test: the files; ${VARIABLES} of the environment are filled in.
        source, target: language codes, where the files or Moses tokenization need them.
        max_length: a training sentence of more words of the tokenizer is left out, and counted.
    """

    kind: ClassVar[str] = "files"
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...] = ()
    source: str = ""
    target: str = ""
    max_length: int = 256


DataConfig = Files | Dialogues | Phrases | Digits | Programs | NoData


@dataclass(frozen=True)
class TranslateConfig(GradientConfig):
    """All of a translation run.

    Args:
        data: the pairs of texts it learns from, and is evaluated and tested with.
        tokenizer: how texts are cut into tokens.
        model: the parts of the network and their sizes.
        objective: the loss.
        batches: how pairs are put together into batches.
        decoding: how a translation is searched for, in evaluations and by default in use.
    """

    task: Literal["translate"] = "translate"
    data: DataConfig = field(default_factory=Phrases)
    tokenizer: TokenizerConfig = field(default_factory=BPE)
    model: EncoderDecoderConfig = field(default_factory=EncoderDecoderConfig)
    objective: CrossEntropy = field(default_factory=CrossEntropy)
    batches: BatchConfig = field(default_factory=BatchConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training.check_metric("bleu", "exact_match", "loss")
        if self.objective.samples and isinstance(self.model.decoder, TransformerConfig):
            raise ValueError("objective.teacher_forcing below 1 needs a recurrent or convolutional decoder")
        if self.model.one_input and not self.tokenizer.joint:
            raise ValueError(
                f"model.tie = '{self.model.tie}' needs one vocabulary for both sides: "
                "set tokenizer.joint = true, or model.tie = 'decoder-output'"
            )


@dataclass
class Prepared:
    """Data, tokenizers and batches, ready for training; `epoch` gives what the batches of an epoch are cut from."""

    splits: Splits
    source: Tokenizer
    target: Tokenizer
    batches: Batches
    epoch: Callable[[int], Encoded]

    @property
    def per_epoch(self) -> int:
        """How many batches an epoch has."""
        return self.batches.per_epoch

    def __call__(self, number: int) -> SequenceBatch:
        """A batch whose rows are lines of the training data."""
        batch, lines = self.batches(number), self.epoch(number // self.batches.per_epoch).lines
        return replace(batch, rows=tuple(lines[i] for i in batch.rows))


@dataclass
class Encoded:
    """Training pairs as ids; `lines` = where they stand, from 0."""

    source: Side
    target: Side
    lines: list[int]


def load_splits(config: DataConfig) -> Splits:
    """The corpus a config describes. Raises UsageError or DataError where it cannot be read."""
    match config:
        case Phrases():
            return make_phrases(config)
        case Digits():
            return make_digits(config)
        case Programs():
            return make_programs(config)
        case Dialogues():
            return read_dialogues(config)
        case NoData():
            config.refuse()
    languages = (config.source, config.target)
    train, valid = (read_pairs(paths, languages=languages) for paths in (config.train, config.valid))
    test = read_pairs(config.test, languages=languages) if config.test else None
    return Splits(train, valid, test)


def prepare(config: TranslateConfig, reporter: Reporter, run: Run | None = None) -> Prepared:
    """Reads the data, makes (or, in a run that has them, loads) the tokenizers, and lays out the batches."""
    splits = load_splits(config.data)
    train, dropped = usable(splits.train)
    if dropped:
        reporter.warn(f"{dropped} training pairs with an empty side are left out")
    usable(splits.valid)  # or there is nothing to validate on: better now than after the first steps
    saved = load_tokenizers(run) if run is not None and (run.path / "run.json").is_file() else None
    source, target = saved or make_tokenizers(config.tokenizer, train)
    first, fresh = _encoded(config, train, (source, target)), splits.fresh
    longest = fresh.longest if fresh else 0
    if left_out := len(train) - len(first.lines):
        reporter.warn(f"{left_out} training pairs are too long (data.max_length, or the model's positions): left out")

    @lru_cache(maxsize=2)
    def epoch(number: int) -> Encoded:
        if fresh is None or number == longest:
            return first
        return _encoded(config, fresh.draw(number), (source, target))

    sides = ByEpoch(lambda n: epoch(n).source), ByEpoch(lambda n: epoch(n).target)
    batches = Batches(*sides, target.start, config.batches, config.seed, longest)
    return Prepared(replace(splits, train=train), source, target, batches, epoch)


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
    """The pairs within data.max_length for which the model has positions, whatever BPE dropout makes of them."""
    most = config.data.max_length if isinstance(config.data, Files | Dialogues) else 1 << 30
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


def build_model(config: TranslateConfig, source: Tokenizer, target: Tokenizer) -> EncoderDecoder:
    """The model, with weights drawn from the config's seed."""
    torch.manual_seed(config.seed)
    return EncoderDecoder(config.model, source.words, target.words)


def train_translation(
    config: TranslateConfig, reporter: Reporter, announce: Callable[[TranslateConfig, Prepared], None] | None = None
) -> Run:
    """Trains to the end and returns the run; goes on where an earlier call stopped.

    `announce` is called before a new training begins, with all that is ready for it.
    """

    def ready(run: Run) -> Ready:
        prepared = prepare(config, reporter, run)
        splits, batches = prepared.splits, prepared.batches
        corpora = {"train": splits.train, "valid": splits.valid, "test": splits.test}

        def build() -> EncoderDecoder:
            model = build_model(config, prepared.source, prepared.target)
            if not run.checkpoints():
                take_vectors(config.model.source, model.source, prepared.source, reporter)
                take_vectors(config.model.target, model.target, prepared.target, reporter)
            return model

        def plan(model: EncoderDecoder) -> Plan:
            return gradient_plan(config, model, prepared, _Validation(prepared, model).measure)

        return Ready(
            {name: pairs.digest() for name, pairs in corpora.items() if pairs is not None},
            lambda path: save_tokenizers(path, prepared.source, prepared.target),
            [prepared.source.digest(), prepared.target.digest()],
            build,
            plan,
            f"{len(splits.train):,} pairs, {batches.per_epoch} batches an epoch, "
            f"{100 * batches.padding():.1f} % padding; {prepared.source.words:,} words",
            lambda: announce(config, prepared) if announce is not None else None,
        )

    return train_run(config, reporter, ready)


class _Validation:
    """The loss of the validation pairs, the BLEU of their greedy translations, and a few samples."""

    def __init__(self, prepared: Prepared, model: EncoderDecoder) -> None:
        self.pairs, _ = usable(prepared.splits.valid)
        self.model = model
        greedy = DecodingConfig(beam=1)
        self.translator = Translator(model, prepared.source, prepared.target, greedy, long_input="cut")
        self.rows = [
            [np.append(ids[: (limit or len(ids) + 1) - 1], t.end) for ids in t.encode(texts)]
            for t, texts, limit in (
                (prepared.source, self.pairs.sources, model.config.encoder.limit),
                (prepared.target, self.pairs.targets, model.config.decoder.limit),
            )
        ]
        self.start = prepared.target.start

    def measure(self, step: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Loss and perplexity in nats a word, BLEU and exact match; and the first translations."""
        device = next(self.model.parameters()).device
        order = sorted(range(len(self.pairs)), key=lambda i: len(self.rows[1][i]))
        nll, words = 0.0, 0
        plain = CrossEntropy(smoothing=0.0)
        with torch.inference_mode():
            for i in range(0, len(order), 64):
                part = order[i : i + 64]
                batch = make_batch([self.rows[0][j] for j in part], [self.rows[1][j] for j in part], self.start)
                found = plain(self.model, batch.to(device))
                nll, words = nll + found.nll, words + found.words
        hypotheses = self.translator(self.pairs.sources)
        bleu, _ = corpus_bleu(hypotheses, self.pairs.targets)
        exact = exact_match(hypotheses, self.pairs.targets)
        samples = [
            {"step": step, "source": source, "reference": reference, "translation": translation}
            for source, reference, translation in zip(
                self.pairs.sources[:5], self.pairs.targets[:5], hypotheses[:5], strict=True
            )
        ]
        loss = nll / max(1, words)
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 50.0)), "bleu": bleu, "exact_match": exact}
        return metrics, samples


def config_of(run: Run) -> TranslateConfig:
    """The config of a run. Raises UsageError for one of another task."""
    if (task := run.info().get("task")) != "translate":
        cure = "name runs of pairs: translation, programs, dialogues"
        raise UsageError(f"is a run of the task {task!r}, which this is not for", where=str(run.path), cure=cure)
    return configs.load(TranslateConfig, run.path / "config.toml")


def load_translator(
    path: str | Path,
    *,
    precision: Precision = "auto",
    device: str = "auto",
    rows: int = 128,
    long_input: LongInput = "refuse",
    say: Callable[[str], None] = lambda text: None,
) -> Translator:
    """The translator of a run, from its best checkpoint.

    Args:
        path: the run directory.
        precision: what to compute in; "auto" = bfloat16 where it is fast.
        device: "auto" = a GPU if there is one.
        rows: sentences decoded at a time.
        long_input: whether over-long texts are cut or refused.
        say: is told which damaged checkpoints were passed over.
    """
    run = Run.open(path)
    config = config_of(run)
    source, target = load_tokenizers(run)
    model = build_model(config, source, target)
    model = trained(model, run, precision, device, say)
    return Translator(model, source, target, config.decoding, rows=rows, long_input=long_input)


def run_translator(
    path: str, words: Sequence[str], reporter: Reporter, *, rows: int = 128, long_input: LongInput = "refuse"
) -> Translator:
    """The translator of a run with decoding options from the command line."""
    translator = load_translator(path, rows=rows, long_input=long_input, say=reporter.warn)
    translator.config = decoding_config(translator.config, words)
    return translator
