"""Copy, reverse and sort of digits: every encoder with every decoder learns them, each within three minutes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from seqloom.data.batches.order import BatchConfig
from seqloom.data.sources.digits import Digits
from seqloom.decoding.config import Greedy
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoders import DecoderConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.models.encoders import BagConfig, EncoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.positions import Learned
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import WordLevel
from seqloom.training.config import TrainingConfig
from seqloom.training.log import Reporter
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Cosine
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.train import train_run

WIDTH = 128
STACK = TransformerConfig(layers=2, width=WIDTH, inner=256, heads=4, dropout=0.0, positions=Learned(32))
CONVOLUTIONS = ConvolutionalConfig(layers=3, width=WIDTH, dropout=0.0)
ENCODERS: dict[str, EncoderConfig] = {
    "bag": BagConfig(WIDTH, dropout=0.0),
    "convolutional": CONVOLUTIONS,
    "transformer": STACK,
    **{cell: RecurrentEncoderConfig(cell, 1, WIDTH, "both", dropout=0.0) for cell in ("rnn", "lstm", "gru")},
}
DECODERS: dict[str, DecoderConfig] = {
    "convolutional": CONVOLUTIONS,
    "transformer": STACK,
    **{cell: RecurrentDecoderConfig(cell, 1, 2 * WIDTH, dropout=0.0) for cell in ("rnn", "lstm", "gru")},
    **{
        f"{cell}-attention": RecurrentDecoderConfig(cell, 1, WIDTH, dropout=0.0, attention=AttentionConfig())
        for cell in ("rnn", "lstm", "gru")
    },
}
TASKS = ("copy", "reverse", "sort")


def learned(folder: Path, task: str, encoder: str, decoder: str, seed: int = 1) -> tuple[float, float]:
    """Exact match in percent on rows that training never had, and the minutes it took to get there."""
    attends = decoder in ("convolutional", "transformer") or decoder.endswith("attention")
    # A context vector takes longer to learn. One thread, so that it matters less what else the machine does.
    steps = 800 if attends else 1600
    config = TranslateConfig(
        run=str(folder / "run"),
        seed=seed,
        # A context vector holds what it can.
        data=Digits(task, 4, 8 if attends else 6, 8000, 300, 500, fresh=True, seed=seed),  # type: ignore[arg-type]
        tokenizer=WordLevel(joint=True),
        model=EncoderDecoderConfig(encoder=ENCODERS[encoder], decoder=DECODERS[decoder], embedding=WIDTH),
        objective=CrossEntropy(smoothing=0.0),
        batches=BatchConfig(tokens=1500),
        optimizer=AdamW(lr=0.003),
        schedule=Cosine(warmup=100),
        training=TrainingConfig(threads=1, steps=steps, evaluate_every=400, metric="exact_match"),
        decoding=Greedy(),
    )
    began = time.perf_counter()
    run = train_run(replace(config), Reporter(0))
    minutes = (time.perf_counter() - began) / 60
    return evaluate_run(run.path, (), "test", (), Reporter(0))["exact_match"], minutes


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_pair_learns(tmp_path: Path, encoder: str, decoder: str, task: str) -> None:
    if encoder == "bag" and task != "sort":
        pytest.skip("a bag has no order to copy or to reverse")
    exact, minutes = learned(tmp_path, task, encoder, decoder)
    assert exact >= 99
    assert minutes < 3
