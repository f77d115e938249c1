"""Models of the papers' sizes, built and trained for a step."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

STEP = """
import resource, sys
import numpy as np
import torch
from seqloom.config import load
from seqloom.data.batches.pairs import make_batch
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.assemblies import parameter_count
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.training.loop import train
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer
from seqloom.training.precision import dtype_for

preset, source_words, target_words = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = EncoderDecoder(load(EncoderDecoderConfig, None, ["--preset", preset]), source_words, target_words)
optimizer = Optimizer(FlatWeights(model, dtype_for("auto", torch.device("cpu"))), AdamW())
random = np.random.default_rng(1)
rows = [[random.integers(4, words, 25) for _ in range(128)] for words in (source_words, target_words)]
batch = make_batch(*rows, start=2)
step = next(train(model, CrossEntropy(0.0), lambda number: batch, optimizer, lambda number: 0.001))
print(parameter_count(model), step.nll, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("preset", "source_words", "target_words", "millions"),
    [
        ("seq2seq-2014", 160_000, 80_000, (384, 460)),  # the paper's 384 M, and a learned bridge and a head's width
        ("rnnsearch-50", 30_000, 30_000, (60, 100)),
        ("convs2s", 40_000, 40_000, (60, 130)),
        ("base", 37_000, 37_000, (60, 66)),
    ],
)
def test_a_model_of_a_papers_size_takes_a_step(
    preset: str, source_words: int, target_words: int, millions: tuple[int, int]
) -> None:
    words = [sys.executable, "-c", STEP, preset, str(source_words), str(target_words)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    parameters, nll, gigabytes = map(float, done.stdout.split())
    assert millions[0] <= parameters / 1e6 <= millions[1]
    assert abs(nll - math.log(target_words)) < 3
    assert gigabytes < 24
