"""Whole runs of language models, made small: what a training leaves behind, and that stopping does not change it."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import sentences
from toys import Listener, left_behind

import seqloom
from seqloom.config import load, to_toml
from seqloom.data.stream import Stream, StreamConfig
from seqloom.data.text import Text, TextFiles, text_source
from seqloom.errors import RunError
from seqloom.evaluation.perplexity import perplexities, text_nll
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import EmbedderConfig
from seqloom.nn.positions import Learned
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.language_config import LanguageModelConfig
from seqloom.tasks.language_model import (
    evaluate_language_model,
    load_generator,
    train_language_model,
)
from seqloom.tasks.look import write_report
from seqloom.text.tokenizer import BPE, Words
from seqloom.training.fit import Interrupted, TrainingConfig
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Noam

LSTM = RecurrentDecoderConfig(cell="lstm", layers=2, width=16, dropout=0.2, weight_drop=0.3)
STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.2)
DECODERS = {"lstm": LSTM, "transformer": STACK, "convolutional": ConvolutionalConfig(layers=2, width=16)}


@pytest.fixture
def config(tmp_path: Path) -> LanguageModelConfig:
    for name, count, seed in (("train", 60, 1), ("valid", 12, 2)):
        lines = sentences(count, seed)
        lines[count // 2 : count // 2] = [""]
        (tmp_path / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return LanguageModelConfig(
        run=str(tmp_path / "run"),
        data=TextFiles((str(tmp_path / "train.txt"),), (str(tmp_path / "valid.txt"),)),
        tokenizer=BPE(size=280),
        model=DecoderOnlyConfig(decoder=LSTM),
        batches=StreamConfig(lanes=4, length=13),
        optimizer=AdamW(lr=0.01),
        schedule=Noam(warmup=3),
        training=TrainingConfig(steps=6, evaluate_every=2, log_every=1, threads=1, precision="fp32", metric="loss"),
    )


CHANGES: dict[str, Callable[[LanguageModelConfig], LanguageModelConfig]] = {
    "lstm": lambda c: c,
    "lstm, accumulation, bfloat16": lambda c: replace(
        c,
        batches=replace(c.batches, accumulate=2, length=5),
        training=replace(c.training, precision="bf16", ema=0.7),
    ),
    "transformer": lambda c: replace(c, model=DecoderOnlyConfig(decoder=STACK)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", [1, 3])
def test_a_training_that_was_stopped_ends_with_the_same_bits(config, tmp_path, change, step):
    straight = CHANGES[change](config)
    stopped = replace(straight, run=str(tmp_path / "stopped"))
    train_language_model(straight, Listener())
    with pytest.raises(Interrupted):
        train_language_model(stopped, Listener(lambda n: signal.raise_signal(signal.SIGTERM) if n == step else None))
    train_language_model(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_learns_is_measured_and_writes(config, name):
    chosen = replace(
        config,
        model=DecoderOnlyConfig(decoder=DECODERS[name]),
        training=replace(config.training, steps=60, evaluate_every=30),
    )
    run = train_language_model(chosen, Listener())
    first, last = (row for row in run.rows("metrics.jsonl") if row["kind"] == "valid")
    assert last["loss"] < first["loss"] < math.log(280)
    (tmp := Path(chosen.run).parent / "one.txt").write_text("ba ko\nmi\n", encoding="utf-8")
    scores = evaluate_language_model(run.path, [str(tmp)], "", (), Listener())
    nll = scores["loss"] * scores["tokens"]
    assert (scores["words"], scores["bytes"], scores["characters"]) == (6, 10, 10)
    assert scores["word_perplexity"] == pytest.approx(math.exp(nll / 6))
    assert scores["bits_per_byte"] == pytest.approx(nll / math.log(2) / 10)
    assert (scores["context"], scores["stride"]) == ((None, None) if name == "lstm" else (13, 7))
    page = write_report(run, Listener()).read_text(encoding="utf-8")
    assert ("self-attention" in page) == (name == "transformer")
    assert run.rows("samples.jsonl")[-1]["prompt"] in page
    assert "word_perplexity" not in page


def test_with_words_both_perplexities_are_one(config):
    run = train_language_model(replace(config, tokenizer=Words()), Listener())
    last = run.rows("metrics.jsonl")[-1]
    assert last["perplexity"] == last["word_perplexity"] == pytest.approx(math.exp(last["loss"]))


@pytest.mark.parametrize("name", DECODERS)
def test_a_text_is_measured_as_by_hand(config, name):
    chosen = replace(config, model=DecoderOnlyConfig(decoder=DECODERS[name]))
    generator = load_generator(train_language_model(chosen, Listener()).path, precision="fp32")
    model, ids = generator.model, np.random.default_rng(1).integers(4, 280, 29).astype(np.int32)

    def stream(**sizes: int) -> Stream:
        return Stream(ids, np.ones(29, np.int32), StreamConfig(**sizes))

    read = torch.from_numpy(np.roll(ids, 1).astype(np.int64))[None]
    with torch.inference_mode():
        if model.carries:
            hidden = model(read)[0][0]
        else:  # each word from the window it is first in
            starts = [0] * 9 + [6 * (1 + (p - 9) // 6) for p in range(9, 29)]
            hidden = torch.stack([model(read[:, s : p + 1])[0][0, -1] for p, s in enumerate(starts)])
        log_p = model.head(hidden).log_softmax(-1)
    expected = -log_p[torch.arange(29), torch.from_numpy(ids.astype(np.int64))].sum()
    assert text_nll(model, stream(lanes=1, length=9, stride=6)) == pytest.approx(float(expected), rel=1e-5)


def test_perplexities_by_hand():
    found = perplexities(12 * math.log(2), 6, {"words": 3, "characters": 24, "bytes": 48})
    assert found == pytest.approx(
        {
            "loss": 2 * math.log(2), "perplexity": 4.0, "word_perplexity": 16.0, "bits_per_character": 0.5,
            "bits_per_byte": 0.25,
        }
    )  # fmt: skip


def test_what_makes_no_sense_is_refused(config):
    with pytest.raises(ValueError, match=r"training\.metric must be 'loss'"):
        replace(config, training=replace(config.training, metric="bleu"))
    with pytest.raises(ValueError, match=r"tokenizer\.dropout"):
        replace(config, tokenizer=BPE(dropout=0.1))
    with pytest.raises(ValueError, match=r"batches\.length 13 is more than the model's 12 positions"):
        replace(config, model=DecoderOnlyConfig(decoder=replace(STACK, positions=Learned(length=12))))
    with pytest.raises(ValueError, match="at least one file"):
        TextFiles((), ("a",))


def test_the_config_comes_back_and_another_one_is_refused(config, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load(LanguageModelConfig, path) == config
    train_language_model(config, Listener())
    with pytest.raises(RunError, match=r"batches\.lanes: 4 -> 5"):
        train_language_model(replace(config, batches=replace(config.batches, lanes=5)), Listener())
    longer = replace(config, training=replace(config.training, steps=7))
    assert seqloom.train(longer).info()["training"]["steps"] == 7


def test_given_vectors_are_taken_and_stay_where_they_are_frozen(config, tmp_path):
    word = Text.of(text_source(config.data.train)).lines[0].split()[0]
    (tmp_path / "v.txt").write_text(f"{word} " + " ".join(map(str, range(11))))
    own = EmbedderConfig(str(tmp_path / "v.txt"), frozen=True)
    config = replace(config, tokenizer=Words(), model=replace(config.model, embedder=own, embedding=11))
    run = train_language_model(config, Listener())
    generator = load_generator(run.path, precision="fp32")
    row = generator.model.embedder.weight.detach()[generator.tokenizer.whole_words()[word]]
    given = torch.arange(11.0)
    assert torch.allclose(row / row.norm(), given / given.norm())
