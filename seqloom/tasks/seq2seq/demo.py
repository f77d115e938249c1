"""The demo: a small Transformer on phrases that come with the program."""

from __future__ import annotations

from dataclasses import replace

from seqloom.data.batches.order import BatchConfig
from seqloom.data.sources.phrases.corpus import Phrases
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import BPE
from seqloom.training.config import TrainingConfig
from seqloom.training.optimizer import Muon
from seqloom.training.schedule import Linear

STEPS = 1200


def demo_config(source: str, target: str, run: str, seed: int, steps: int, minutes: float = 0.0) -> TranslateConfig:
    """The demo's config for a pair of languages; `steps` 0 = as many as it needs, `minutes` = a budget instead."""
    # With few epochs dropout only slows learning. Small batches of mixed lengths teach more per token.
    stack = TransformerConfig(layers=2, width=128, inner=512, heads=4, dropout=0.0)
    steps = steps or STEPS
    return replace(
        TranslateConfig(),
        run=run or ("runs/demo" if (source, target) == ("en", "de") else f"runs/demo-{source}-{target}"),
        seed=seed,
        data=Phrases(source=source, target=target, seed=seed),
        tokenizer=BPE(size=2000),
        model=EncoderDecoderConfig(encoder=stack, decoder=stack),
        batches=BatchConfig(tokens=1500, jitter=3.0),
        optimizer=Muon(lr=6e-3),
        schedule=Linear(warmup=steps // 20),
        training=TrainingConfig(steps=steps, minutes=minutes, evaluate_every=max(1, steps // 5)),
    )
