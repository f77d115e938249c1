"""The data of a language model: from files to a tokenizer, batches to train on and a text to be measured on."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from seqloom.data.sources.text import blocks_of, encode_block
from seqloom.run import Json
from seqloom.tasks.assets import begun

if TYPE_CHECKING:
    from seqloom.tasks.language_model.task import LanguageModelConfig

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seqloom.data.batches.shards import Shards, find_shards, write_shards
from seqloom.data.batches.stream import Row, Stream, check_length
from seqloom.data.sources.conversations import (
    Chat,
    Conversations,
    Packs,
    chats_digest,
    last_held_out,
    pieces_of,
    read_conversations,
)
from seqloom.data.sources.source import NoData
from seqloom.data.sources.standard_library import SPLITS, StandardLibrary, library_source
from seqloom.data.sources.text import Piece, Source, Text, TextFiles, encode_text, held_out, text_digest, text_source
from seqloom.run import Run
from seqloom.tasks.assets import load_tokenizers, make_tokenizer
from seqloom.tasks.building import start_tokenizer
from seqloom.tasks.resume import refuse_other_data
from seqloom.text.chat import END, Message, chat_word, encode_chats, with_chat
from seqloom.text.tokenizer import Tokenizer, TokenizerFile
from seqloom.training.log import Reporter


@dataclass(frozen=True)
class Reading:
    """What a model is measured on.

    Args:
        batches: the text.
        tokens: how many tokens are predicted; `unknown`: how many of them it has not.
        sizes: of what is predicted; see `Text.sizes`.
        prompts: what a model may go on from, to show what it makes of it.
    """

    batches: Stream | Packs
    tokens: int
    unknown: int
    sizes: dict[str, int]
    prompts: Sequence[str | tuple[Message, ...]]


@dataclass(frozen=True)
class Corpus:
    """Texts, tokenizer and batches, ready for training.

    Args:
        texts: by split.
        digests: of each.
        tokenizer: its words are those of the model.
        batches: to train on.
        words: how many these predict in an epoch.
        valid: to be measured on.
    """

    texts: Mapping[str, Iterable[Piece]]
    digests: Mapping[str, str]
    tokenizer: Tokenizer
    batches: Stream | Packs
    tokens: int
    valid: Reading


def read_corpus(config: LanguageModelConfig, reporter: Reporter, run: Run | None = None) -> Corpus:
    """Reads the data, makes (or, in a run that has one, loads) the tokenizer, and lays out the batches."""
    if isinstance(config.data, NoData):
        config.data.refuse()
    if isinstance(config.data, Conversations):
        return _prepare_conversations(config, config.data, reporter, run)
    sources = text_sources(config.data, reporter)
    held = {name: Text.of(source) for name, source in sources.items() if name != "train"}

    def say(share: float, lines: int) -> None:
        reporter.progress("making the tokenizer", share, lines, "lines")

    tokenizer = _tokenizer(config, (line for line, _ in sources["train"].pieces(say) if line), run)
    shards = _shards(config, sources["train"], tokenizer, reporter, run)
    batches = _stream(config, tokenizer, shards.ids, shards.lines, config.batches.lanes)
    corpus = {"train": shards.digest, **{name: text.digest() for name, text in held.items()}}
    valid = read_on(config, held["valid"], tokenizer, config.batches.lanes)
    return Corpus({**sources, **held}, corpus, tokenizer, batches, len(shards.ids), valid)


def _stream(config: LanguageModelConfig, tokenizer: Tokenizer, ids: Row, lines: Row, lanes: int) -> Stream:
    carries = config.model.carries
    begins = None if carries or config.batches.crossing else tokenizer.start
    own = replace(config.batches, lanes=lanes)
    return Stream(ids, lines, own, config.seed, carries=carries, begins=begins)


def text_sources(data: TextFiles | StandardLibrary, reporter: Reporter) -> dict[str, Source]:
    """The text of each split; without validation files some of the training text is held out, and that is said."""
    if isinstance(data, StandardLibrary):
        return {name: library_source(name) for name in SPLITS}
    files = {"train": data.train, "valid": data.valid, "test": data.test}
    sources = {name: text_source(paths, data.documents) for name, paths in files.items() if paths}
    if not data.valid:
        sources["train"], sources["valid"], said = held_out(sources["train"], data.held_out)
        reporter.say(said)
    return sources


def _tokenizer(config: LanguageModelConfig, lines: Iterable[str], run: Run | None) -> Tokenizer:
    if run is not None and begun(run):
        return load_tokenizers(run)[0]
    chats = isinstance(config.data, Conversations)
    made = start_tokenizer(config.start) if config.start else make_tokenizer(config.tokenizer, lines)
    plain = bool(config.start) or isinstance(config.tokenizer, TokenizerFile)
    return made if plain and not chats else with_chat(made)


def _shards(
    config: LanguageModelConfig, source: Source, tokenizer: Tokenizer, reporter: Reporter, run: Run | None
) -> Shards:
    if run is None:
        with TemporaryDirectory() as place:  # what is mapped stays readable
            return write_shards(Path(place), source, tokenizer)
    old, folder = begun(run), run.path / "shards"
    if (found := find_shards(folder, source, tokenizer)) is not None:
        return found
    if old:
        refuse_other_data(run, {"train": text_digest(source)})

    def check(tokens: int) -> None:
        check_length(tokens, config.batches)
        if not old:
            run.claim()

    return write_shards(
        folder, source, tokenizer, say=lambda share, tokens: reporter.progress("tokenizing", share, tokens), check=check
    )


def _prepare_conversations(
    config: LanguageModelConfig, data: Conversations, reporter: Reporter, run: Run | None
) -> Corpus:
    files = {"train": data.train, "valid": data.valid, "test": data.test}
    chats = {name: read_conversations(paths) for name, paths in files.items() if paths}
    if not data.valid:
        chats["train"], chats["valid"] = last_held_out(chats["train"])
        reporter.say(f"the last {len(chats['valid']):,} conversations are held out as validation data")
    texts = {name: list(pieces_of(own)) for name, own in chats.items()}
    tokenizer = _tokenizer(config, (line for line, _ in texts["train"] if line), run)
    batches = _packs(config, chats["train"], tokenizer)
    if batches.cut:
        lost = f", of which {batches.dropped:,} are left out, with no answer in reach" * (batches.dropped > 0)
        reporter.warn(f"{batches.cut:,} conversations are cut to batches.length = {config.batches.length} words{lost}")
    corpus = {name: chats_digest(own) for name, own in chats.items()}
    return Corpus(texts, corpus, tokenizer, batches, batches.tokens, read_on(config, chats["valid"], tokenizer))


def _packs(config: LanguageModelConfig, chats: Sequence[Chat], tokenizer: Tokenizer) -> Packs:
    rows = encode_chats([chat.messages for chat in chats], tokenizer)
    lines = [chat.number for chat in chats]
    return Packs(rows, lines, config.batches, config.seed, carries=config.model.carries)


def read_files(config: LanguageModelConfig, files: Sequence[str], tokenizer: Tokenizer, lanes: int) -> Reading:
    """Files of the kind of the config's data, or its own test data, to be measured on in at most so many lanes.

    Without test data it is measured on the validation data.
    """
    match config.data:
        case NoData():
            source = text_source(files)
        case Conversations(train, valid, test):
            named = files or test or valid
            chats = read_conversations(named) if named else last_held_out(read_conversations(train))[1]
            return read_on(config, chats, tokenizer)
        case TextFiles(train, valid, test, share, documents) if files or test or valid:
            source = text_source(files or test or valid, documents)
        case TextFiles(train, _, _, share, documents):
            source = held_out(text_source(train, documents), share)[1]
        case StandardLibrary():
            source = text_source(files, "files") if files else library_source("test")
    return read_on(config, Text.of(source), tokenizer, lanes)


def read_on(config: LanguageModelConfig, data: Text | list[Chat], tokenizer: Tokenizer, lanes: int = 1) -> Reading:
    """A text or conversations to be measured on."""
    if isinstance(data, Text):
        ids, numbers = encode_text(data, tokenizer)
        own = [line for line in data.lines if line and len(line.split()) > 3]
        prompts = [" ".join(line.split()[:4]) for line in own[len(own) // 6 :: max(1, len(own) // 3)][:3]]
        stream = _stream(config, tokenizer, ids, numbers, min(lanes, len(ids)))
        return Reading(stream, len(ids), int((ids == tokenizer.unknown).sum()), data.sizes(), prompts)
    packs = _packs(config, data, tokenizer)
    answers = [ids[learned] for ids, learned, _ in packs.chats]
    ends = [tokenizer.end, chat_word(tokenizer, END)]
    rows = [row.tolist() for said in answers for row in np.split(said, np.flatnonzero(np.isin(said, ends)) + 1)]
    lines = tokenizer.decode([row for row in rows if row])
    asked = [chat.messages[:1] for chat in data[:: max(1, len(data) // 3)][:3]]
    sizes = Text(lines, [1] * len(lines)).sizes()
    return Reading(packs, packs.tokens, sum(row.count(tokenizer.unknown) for row in rows), sizes, asked)


def summary(name: str, pieces: Iterable[Piece], tokenizer: Tokenizer) -> Json:
    """What a split has."""
    lengths, words = array("q"), Counter[str]()
    texts = tokens = unknown = 0
    for block in blocks_of(pieces):
        ids, _ = encode_block(block, tokenizer)
        tokens, unknown = tokens + len(ids), unknown + int((ids == tokenizer.unknown).sum())
        for line, _ in block:
            own = (line or "").split()
            texts += line is None
            words.update(own)
            if own:
                lengths.append(len(own))
    return {
        "split": name,
        "texts": texts,
        "lines": len(lengths),
        "words": sum(lengths),
        "mean": statistics.fmean(lengths),
        "95 %": int(np.quantile(lengths, 0.95, method="higher")),
        "longest": max(lengths),
        "distinct": len(words),
        "tokens": tokens,
        "unknown": unknown,
    }
