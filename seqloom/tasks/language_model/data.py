"""The data of a language model: from a source of text to its tokenizer and batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from seqloom.data.batches.packs import Packs
from seqloom.data.batches.shards import Keeping
from seqloom.data.batches.stream import Stream, check_length, encode_block
from seqloom.data.checks.pairs import sizes
from seqloom.data.formats.lines import is_blank
from seqloom.data.rows import Piece, blocks_of, text_digest
from seqloom.data.sources.source import Reading, TextSplit
from seqloom.files import Json
from seqloom.run import Run
from seqloom.tasks.building import tokenizer_for
from seqloom.tasks.language_model.config import LanguageModelKeys
from seqloom.tasks.resume import refuse_other_data
from seqloom.text.chat import with_chat
from seqloom.text.tokenizer import Tokenizer, TokenizerFile
from seqloom.training.log import Reporter


@dataclass(frozen=True)
class Corpus:
    """Texts, tokenizer and batches, ready for training.

    Args:
        texts: the text of each split.
        digests: the digest of each text.
        tokenizer: the tokenizer of the model.
        batches: the training batches.
        valid: the validation data.
    """

    texts: Mapping[str, TextSplit]
    digests: Mapping[str, str]
    tokenizer: Tokenizer
    batches: Stream | Packs
    valid: Reading


def read_corpus(config: LanguageModelKeys, reporter: Reporter, run: Run | None = None) -> Corpus:
    """Reads the data, makes the tokenizer (or loads that of the run), and lays out the batches."""
    texts = config.data.splits(reporter.say, config.seed)
    held_out = {name: text.digest() for name, text in texts.items() if name != "train"}
    tokenizer = _tokenizer(config, texts["train"], reporter, run)
    batches, digest = _batches(config, texts["train"], tokenizer, reporter, run)
    if batches.lost:
        reporter.warn(batches.lost)
    valid = texts["valid"].reading(tokenizer, config.layout, config.batches.lanes)
    return Corpus(texts, {"train": digest, **held_out}, tokenizer, batches, valid)


def _tokenizer(config: LanguageModelKeys, train: TextSplit, reporter: Reporter, run: Run | None) -> Tokenizer:
    def progress(share: float, lines: int) -> None:
        reporter.progress("making the tokenizer", share, lines, "lines")

    tokenizer = tokenizer_for(config, run, lambda: (line for line, _ in train.pieces(progress) if line))
    plain = bool(config.start) or isinstance(config.tokenizer, TokenizerFile)
    return tokenizer if plain and not config.data.chats else with_chat(tokenizer)


def _batches(
    config: LanguageModelKeys, train: TextSplit, tokenizer: Tokenizer, reporter: Reporter, run: Run | None
) -> tuple[Stream | Packs, str]:
    if run is None:
        with TemporaryDirectory() as folder:  # the shards are mapped, and stay readable
            return train.batches(tokenizer, config.layout, Keeping(Path(folder)))
    resuming = run.begun

    def check_digest(pieces: Iterable[Piece]) -> None:
        if resuming:
            refuse_other_data(run, {"train": text_digest(pieces)})

    def check_tokens(tokens: int) -> None:
        check_length(tokens, config.batches)

    def progress(share: float, tokens: int) -> None:
        reporter.progress("tokenizing", share, tokens)

    return train.batches(tokenizer, config.layout, Keeping(run.path / "shards", progress, check_digest, check_tokens))


def summary(name: str, text: TextSplit, tokenizer: Tokenizer) -> Json:
    """The numbers of texts, lines, words, tokens and unknown tokens of a split."""
    texts = lines = tokens = unknown = 0
    for block in blocks_of(text.pieces()):
        ids, _ = encode_block(block, tokenizer)
        tokens, unknown = tokens + len(ids), unknown + int((ids == tokenizer.unknown).sum())
        texts += sum(line is None for line, _ in block)
        lines += sum(not is_blank(line or "") for line, _ in block)
    words = sizes(line for line, _ in text.pieces() if line and not is_blank(line))
    return {"split": name, "texts": texts, "lines": lines, **words, "tokens": tokens, "unknown": unknown}
