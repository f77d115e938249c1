"""Whole runs of models that read, made small: whatever the encoder they learn, and that stopping changes no bit."""

from __future__ import annotations

import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import sentences
from toys import Listener, left_behind

from seqloom.config import load, to_toml
from seqloom.data.batches.masked import MaskConfig
from seqloom.data.batches.windows import TextBatchConfig
from seqloom.data.sources.labelled import LabelledFiles
from seqloom.data.sources.text import TextFiles
from seqloom.errors import RunError
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.models.encoders import BagConfig
from seqloom.models.recurrent import RecurrentEncoderConfig
from seqloom.nn.positions import Learned
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.reading import Labels
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.encoder.masked_words import MaskedWordsConfig
from seqloom.text.tokenizer import BPE, WordLevel
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Linear
from seqloom.workflows.train import train_run

STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.2)
ENCODERS: dict[str, EncoderOnlyConfig] = {
    "transformer": EncoderOnlyConfig(encoder=STACK, pooler="tanh"),
    "lstm": EncoderOnlyConfig(encoder=RecurrentEncoderConfig("lstm", 1, 16, "both"), pooling="attention"),
    "convolutional": EncoderOnlyConfig(encoder=ConvolutionalConfig(layers=2, width=16), pooling="max"),
    "bag": EncoderOnlyConfig(encoder=BagConfig(16), pooling="mean", segments=0),
}
TRAINING = TrainingConfig(steps=6, evaluate_every=2, log_every=1, threads=1, precision="fp32", metric="loss")


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, Any]:
    for name, count, seed in (("train", 90, 1), ("valid", 30, 2)):
        lines = sentences(count, seed, 9)
        table = "".join(f"{'ba' in s.split()}\t{s}\n" for s in lines)
        (tmp_path / f"{name}.tsv").write_text(f"label\ttext\n{table}", encoding="utf-8")
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "run": str(tmp_path / "run"),
        "optimizer": AdamW(lr=0.01),
        "schedule": Linear(warmup=3),
        "training": TRAINING,
    }


def classify(folder: Path, shared: dict[str, Any], **more: Any) -> ClassifyConfig:
    data = LabelledFiles((str(folder / "train.tsv"),), (str(folder / "valid.tsv"),))
    batches = TextBatchConfig(tokens=100, length=8, long="windows", accumulate=2)
    model = ENCODERS["transformer"]
    return ClassifyConfig(
        **({"data": data, "batches": batches, "model": model, "tokenizer": WordLevel()} | shared | more)
    )


def masked(folder: Path, shared: dict[str, Any], **more: Any) -> MaskedWordsConfig:
    data = TextFiles((str(folder / "train.txt"),), (str(folder / "valid.txt"),))
    batches = MaskConfig(tokens=100, length=20, next_sentence=True, whole_words=True)
    model = ENCODERS["transformer"]
    return MaskedWordsConfig(
        **({"data": data, "batches": batches, "model": model, "tokenizer": BPE(size=280)} | shared | more)
    )


@pytest.mark.parametrize("make", [classify, masked])
@pytest.mark.parametrize("step", [1, 3])
def test_a_training_that_was_stopped_ends_with_the_same_bits(shared, tmp_path, make, step):
    straight = make(tmp_path, shared)
    stopped = replace(straight, run=str(tmp_path / "stopped"))
    train_run(straight, Listener())
    with pytest.raises(Interrupted):
        train_run(stopped, Listener(lambda n: signal.raise_signal(signal.SIGTERM) if n == step else None))
    train_run(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)


def test_a_fine_tuning_that_was_stopped_ends_with_the_same_bits(shared, tmp_path):
    start = train_run(masked(tmp_path, shared | {"run": str(tmp_path / "start")}), Listener())
    straight = classify(tmp_path, shared, start=str(start.path))
    stopped = replace(straight, run=str(tmp_path / "stopped"))
    train_run(straight, Listener())
    with pytest.raises(Interrupted):
        train_run(stopped, Listener(lambda n: signal.raise_signal(signal.SIGTERM) if n == 3 else None))
    start.path.rename(tmp_path / "away")  # a run that has begun does not need it
    train_run(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_learns_whether_a_word_is_there(shared, tmp_path, name):
    training = replace(TRAINING, steps=80, evaluate_every=80, metric="accuracy")
    batches = TextBatchConfig(tokens=200, length=24)
    run = train_run(
        classify(tmp_path, shared | {"training": training}, model=ENCODERS[name], batches=batches), Listener()
    )
    (last,) = (row for row in run.rows("metrics.jsonl") if row["kind"] == "valid")
    assert last["accuracy"] > 85


def test_matches_show_whether_texts_share_a_word_and_start_from_a_run_without(shared, tmp_path):
    draw = random.Random(1)
    words = [f"w{i}" for i in range(100)]
    for name, count in (("train", 400), ("valid", 200)):
        rows = []
        for i in range(count):
            first, second = draw.sample(words, 4), draw.sample(words, 4)
            shares = not set(first).isdisjoint(second)
            if i % 2 and not shares:
                second[draw.randrange(4)], shares = draw.choice(first), True
            rows.append(f"{shares}\t{' '.join(first)}\t{' '.join(second)}\n")
        (tmp_path / f"{name}.tsv").write_text("label\ttext\tsecond\n" + "".join(rows), encoding="utf-8")
    files = LabelledFiles((str(tmp_path / "train.tsv"),), (str(tmp_path / "valid.tsv"),), second="second")
    common = shared | {"data": files, "batches": TextBatchConfig(tokens=400, length=16)}
    own = replace(ENCODERS["transformer"], pooling="mean", pooler="none")
    found, said = {}, Listener()
    for matches in (False, True):
        training = replace(TRAINING, steps=300, evaluate_every=300, metric="accuracy")
        model = replace(own, matches=matches)
        where = {"training": training, "run": str(tmp_path / str(matches))}
        run = train_run(classify(tmp_path, common | where, model=model), Listener())
        (last,) = (row for row in run.rows("metrics.jsonl") if row["kind"] == "valid")
        found[matches] = last["accuracy"]
    assert found[True] > 90
    assert found[False] < 65
    train_run(classify(tmp_path, common, model=replace(own, matches=True), start=str(tmp_path / "False")), said)
    assert "newly initialized: matches" in said.said
    single = {"model": replace(own, matches=True), "start": str(tmp_path / "True")}
    train_run(classify(tmp_path, shared | {"run": str(tmp_path / "single")}, **single), said)


def test_the_config_comes_back_and_another_one_is_refused(shared, tmp_path):
    for make, kind in ((classify, ClassifyConfig), (masked, MaskedWordsConfig)):
        config = make(tmp_path, shared)
        (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
        assert load(kind, tmp_path / "config.toml") == config
    config = classify(tmp_path, shared)
    train_run(config, Listener())
    with pytest.raises(RunError, match=r"objective\.smoothing"):
        train_run(replace(config, objective=Labels(smoothing=0.1)), Listener())


def test_what_makes_no_sense_is_refused(shared, tmp_path):
    config = classify(tmp_path, shared)
    with pytest.raises(ValueError, match=r"training\.metric is 'bleu' and must be 'accuracy'"):
        replace(config, training=replace(TRAINING, metric="bleu"))
    with pytest.raises(ValueError, match=r"tokenizer\.dropout"):
        replace(config, tokenizer=BPE(dropout=0.1))
    with pytest.raises(ValueError, match=r"batches\.length 8 is more than the model's 7 positions"):
        replace(config, model=EncoderOnlyConfig(encoder=replace(STACK, positions=Learned(7))))
