"""Small runs that other trainings start from, and runs that are stopped."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import sentences, write_corpus
from toys import Listener, left_behind

from seqloom.data.batches.stream import StreamConfig
from seqloom.data.sources.chats.conversations import Conversations
from seqloom.data.sources.pairs import Files
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.text.tokenizer import BPE
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.workflows.train import train_run

STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.4)
LSTM = RecurrentDecoderConfig(layers=1, width=16, dropout=0.4, weight_drop=0.4)


def make_starts(folder: Path, **steps: Any) -> None:
    """Trains two language models of conversations, lm and lstm, and a translator, mt."""
    chats = [{"prompt": line, "response": line.split()[0]} for line in sentences(40, 3)]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats), encoding="utf-8")
    training = TrainingConfig(**steps, metric="loss")
    for name, decoder in (("lm", STACK), ("lstm", LSTM)):
        config = LanguageModelConfig(
            run=str(folder / name),
            data=Conversations((str(folder / "chats.jsonl"),)),
            tokenizer=BPE(size=290),
            model=DecoderOnlyConfig(decoder=decoder),
            batches=StreamConfig(lanes=4, length=31),
            training=training,
        )
        train_run(config, Listener())
    pair = write_corpus(folder, "pairs", 40, 1)
    translation = TranslateConfig(
        run=str(folder / "mt"),
        data=Files(pair, pair),
        tokenizer=BPE(size=290),
        model=EncoderDecoderConfig(encoder=STACK, decoder=STACK),
        training=training,
    )
    train_run(translation, Listener())


def check_resuming(config: Any, folder: Path, step: int = 5) -> None:
    """Trains a config at once, and again with a stop after a step: both leave the same bits."""
    whole = train_run(config, Listener())
    again = replace(config, run=str(folder / "stopped"))
    with pytest.raises(Interrupted):
        train_run(again, Listener(lambda number: signal.raise_signal(signal.SIGTERM) if number == step else None))
    assert left_behind(str(whole.path)) == left_behind(str(train_run(again, Listener()).path))
