"""Initialization of a model's embeddings with word vectors of other programs or runs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from seqloom.data.formats.lines import expand
from seqloom.errors import ConfigError, DataError
from seqloom.interop.vectors import read_vectors
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.tasks.word_vectors.task import load_words
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter


def take_vectors(config: EmbedderConfig, embedder: TokenEmbedder, tokenizer: Tokenizer, reporter: Reporter) -> None:
    """Initializes an embedding with the vectors of the file or run that its config names, if it names one.

    Raises:
        ConfigError: vectors of another width than the table's.
        DataError: a file that cannot be read, or has none of the words.
    """
    path = config.vectors
    if not path:
        return
    rows, at = _of_a_run(path, tokenizer) if expand(path).is_dir() else read_vectors(path, tokenizer.whole_words())
    if not len(at):
        raise DataError("has no word of the vocabulary", where=path, cure="is it of another language?")
    if rows.shape[1] != (width := embedder.weight.shape[1]):
        problem = f"its vectors have {rows.shape[1]} numbers, the model's {width}"
        raise ConfigError(problem, where=path, cure=f"set model.embedding = {rows.shape[1]}")
    embedder.take(torch.from_numpy(rows), torch.from_numpy(at))
    reporter.say(f"{path}: vectors of {len(at):,} of {tokenizer.vocab_size:,} tokens")


def _of_a_run(path: str, tokenizer: Tokenizer) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    vectors = load_words(expand(path))
    known, own = vectors.vocabulary.index, tokenizer.whole_words()
    common = [word for word in own if word in known]
    return vectors.vectors[[known[word] for word in common]], np.array([own[word] for word in common], dtype=np.int64)
