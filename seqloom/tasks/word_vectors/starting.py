"""Initializes a model's embeddings with word vectors of other programs or runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from seqloom.data.formats.lines import expand
from seqloom.errors import ConfigError, DataError, counted
from seqloom.interop.vectors import read_vectors
from seqloom.nn.embedders import EmbedderConfig, TokenEmbedder
from seqloom.tasks.word_vectors.task import load_words
from seqloom.text.tokenizer import Tokenizer
from seqloom.training.log import Reporter


def take_vectors(config: EmbedderConfig, embedder: TokenEmbedder, tokenizer: Tokenizer, reporter: Reporter) -> None:
    """Initializes an embedding with the vectors of the file or run that its config names, if any.

    Raises:
        ConfigError: vectors whose width differs from that of the embedding.
        DataError: a file that cannot be read, or contains no word of the vocabulary.
    """
    path = config.vectors
    if not path:
        return
    ids = tokenizer.whole_words()
    rows, at = (
        _run_vectors(path, ids) if expand(path).is_dir() else read_vectors(path, ids, any_size=config.vectors_any_size)
    )
    if not len(at):
        raise DataError("it has no word of the vocabulary", where=path, cure="check that it is in the same language")
    if rows.shape[1] != (width := embedder.weight.shape[1]):
        problem = f"its vectors have {counted(rows.shape[1], 'dimension')}, the model's {width}"
        raise ConfigError(problem, where=path, cure=f"set model.embedding = {rows.shape[1]}")
    embedder.take(torch.from_numpy(rows), torch.from_numpy(at))
    reporter.say(f"{path}: vectors for {len(at):,} of {counted(tokenizer.vocab_size, 'token')}")


def _run_vectors(path: str, ids: Mapping[str, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    vectors = load_words(expand(path))
    rows = vectors.vocabulary.index
    common = [word for word in ids if word in rows]
    return vectors.vectors[[rows[word] for word in common]], np.array([ids[word] for word in common], dtype=np.int64)
