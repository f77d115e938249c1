"""The demo: a small Transformer on phrases that are always there."""

from __future__ import annotations

from dataclasses import replace

from seqloom.data.batches import BatchConfig
from seqloom.data.phrases import Phrases
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.translate import TranslateConfig
from seqloom.text.tokenizer import BPE
from seqloom.training.fit import TrainingConfig
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Cosine


def demo_config(source: str, target: str, run: str, seed: int, steps: int) -> TranslateConfig:
    """The demo's config for a pair of languages."""
    stack = TransformerConfig(layers=3, width=192, inner=512, heads=4, dropout=0.1)
    return replace(
        TranslateConfig(),
        run=run or f"runs/demo-{source}-{target}",
        seed=seed,
        data=Phrases(source=source, target=target, seed=seed),
        tokenizer=BPE(size=4000),
        model=EncoderDecoderConfig(encoder=stack, decoder=stack),
        batches=BatchConfig(tokens=3000),
        optimizer=AdamW(lr=2e-3),
        schedule=Cosine(warmup=200),
        training=TrainingConfig(steps=steps, evaluate_every=400),
    )
