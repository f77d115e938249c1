"""The text and config of word vectors looked over before any training."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from seqloom.models.weights import parameter_count
from seqloom.models.word2vec import Word2Vec
from seqloom.tasks.word_vectors.task import EmbedWordsConfig, prepare
from seqloom.training.log import Reporter
from seqloom.training.precision import peak_bytes
from seqloom.training.word_learner import WordLearner
from seqloom.workflows.estimate import Estimate, disk_gigabytes

_TIMED = 4  # seconds


def check_words(config: EmbedWordsConfig, reporter: Reporter) -> dict[str, Any]:
    """A summary of the text, and an estimate from some seconds of training."""
    torch.set_num_threads(config.training.threads or os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, ids = prepare(config, Path(folder), reporter)
    reporter.say("timing a few steps")
    model = Word2Vec(config.model, len(vocabulary), config.seed)
    learner = WordLearner(model, vocabulary, ids, config.batches, config.seed, torch.get_num_threads())
    steps = learner.steps(0, lambda n: config.optimizer.lr)
    next(steps)  # the kernel is compiled
    taken, began = [next(steps)], time.perf_counter()
    while time.perf_counter() - began < _TIMED and len(taken) < learner.per_epoch:
        taken.append(next(steps))
    rate = sum(s.words for s in taken) / sum(s.seconds for s in taken)
    training, numbers = config.training.lasting(learner.per_epoch), parameter_count(model)
    epochs = training.steps / learner.per_epoch
    kept = int(vocabulary.counts.sum())
    estimate = Estimate(
        steps=training.steps,
        epochs=epochs,
        minutes=epochs * ids.size / rate / 60,
        gigabytes=peak_bytes(torch.device("cpu")) / 1e9,
        disk_gigabytes=disk_gigabytes(numbers, training) / 4 + 4 * ids.size / 1e9,
        parameters=numbers,
        words_per_second=rate,
        padding=0.0,
    )
    row = {"split": "train", "words": kept, "lines": ids.size - kept, "distinct": len(vocabulary)}
    row |= {"least": int(vocabulary.counts[-1]), "most": int(vocabulary.counts[0])}
    return {"summary": [row], "findings": [], "estimate": asdict(estimate)}
