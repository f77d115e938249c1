"""Whole translation runs, made small: what a training leaves behind, and that stopping does not change it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import sentences, write_corpus
from toys import Listener, left_behind

import seqloom
from seqloom.config import load as load_config
from seqloom.config import to_toml
from seqloom.data.batches.order import BatchConfig
from seqloom.data.sources.digits import Digits
from seqloom.data.sources.pairs import Files
from seqloom.data.sources.programs import Programs
from seqloom.errors import ConfigError, DivergedError, RunError, SeqloomError, UsageError
from seqloom.files import digest_of
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder_decoder import EncoderDecoderConfig
from seqloom.models.encoders import BagConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.embedders import EmbedderConfig
from seqloom.nn.positions import Learned
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.run import Run
from seqloom.tasks import load
from seqloom.tasks.seq2seq.data import read_corpus
from seqloom.tasks.seq2seq.task import TranslateConfig, look
from seqloom.text.tokenizer import BPE, Characters, WordLevel
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Noam, Plateau
from seqloom.workflows.train import train_run

STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.2)


@pytest.fixture
def config(tmp_path: Path) -> TranslateConfig:
    train, valid = write_corpus(tmp_path, "train", 60, 1), write_corpus(tmp_path, "valid", 4, 2)
    return TranslateConfig(
        run=str(tmp_path / "run"),
        data=Files(train, valid),
        tokenizer=BPE(size=280),
        model=EncoderDecoderConfig(encoder=STACK, decoder=STACK),
        batches=BatchConfig(tokens=100),
        optimizer=AdamW(lr=0.01, weight_decay=0.1),
        schedule=Noam(warmup=3),
        training=TrainingConfig(steps=6, evaluate_every=2, log_every=1, threads=1, precision="fp32"),
    )


def stopping_at(step: int) -> Listener:
    return Listener(lambda number: signal.raise_signal(signal.SIGTERM) if number == step else None)


CHANGES: dict[str, Callable[[TranslateConfig], TranslateConfig]] = {
    "dropout, moving average, accumulation": lambda c: replace(
        c, batches=replace(c.batches, accumulate=2), training=replace(c.training, ema=0.7)
    ),
    "BPE dropout, plateau": lambda c: replace(
        c, tokenizer=replace(c.tokenizer, dropout=0.3), schedule=Plateau(warmup=2, patience=1)
    ),
    "bfloat16, R-Drop, averaging": lambda c: replace(
        c,
        objective=CrossEntropy(r_drop=1.0),
        training=replace(c.training, precision="bf16", average="last", average_count=2),
    ),
    "programs drawn anew for each epoch, growing": lambda c: replace(
        c,
        data=Programs(length=2, nesting=2, ramp=3, size=12, valid_size=4, test_size=0),
        tokenizer=Characters(),
        batches=BatchConfig(tokens=200, count="longer"),
    ),
    "fresh digits, BPE dropout": lambda c: replace(
        c, data=Digits(size=12, valid_size=4, test_size=0, fresh=True), tokenizer=replace(c.tokenizer, dropout=0.3)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stops", [(3,), (2, 5)])
def test_stopped_and_resumed_is_the_same_to_the_bit(config, tmp_path, change, stops):
    config = CHANGES[change](config)
    straight, stopped = replace(config, run=str(tmp_path / "a")), replace(config, run=str(tmp_path / "b"))
    train_run(straight, Listener())
    for step in stops:
        with pytest.raises(Interrupted):
            train_run(stopped, stopping_at(step))
        assert Run.open(stopped.run).newest(pytest.fail).step == step
    train_run(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)


ATTENTION = AttentionConfig()
MEMBERS: dict[str, tuple[Any, Any]] = {
    "LSTM backward, context vector": (
        RecurrentEncoderConfig("lstm", 2, 16, "backward", residual=True),
        RecurrentDecoderConfig("lstm", 2, 16),
    ),
    "GRU, attention before the cell, coverage": (
        RecurrentEncoderConfig("gru", 1, 8, "both"),
        RecurrentDecoderConfig("gru", 1, 16, attention=replace(ATTENTION, coverage=True)),
    ),
    "bag, RNN, local attention after the cell, input feeding": (
        BagConfig(16),
        RecurrentDecoderConfig(
            "rnn", 1, 16, attention=replace(ATTENTION, score="dot", window=2), place="after", input_feeding=True
        ),
    ),
    "convolutional": (ConvolutionalConfig(2, 16), ConvolutionalConfig(2, 16)),
    "Transformer, GRU with heads": (
        STACK,
        RecurrentDecoderConfig("gru", 1, 16, attention=replace(ATTENTION, score="multi-head", heads=2)),
    ),
    "GRU, Transformer": (RecurrentEncoderConfig("gru", 1, 16, "forward"), STACK),
}


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_member_resumes_to_the_bit_translates_and_is_looked_into(config, tmp_path, member, precision):
    encoder, decoder = MEMBERS[member]
    model = EncoderDecoderConfig(encoder=encoder, decoder=decoder, embedding=16)
    config = replace(config, model=model, training=replace(config.training, precision=precision, steps=4))
    straight, stopped = replace(config, run=str(tmp_path / "a")), replace(config, run=str(tmp_path / "b"))
    run = train_run(straight, Listener())
    with pytest.raises(Interrupted):
        train_run(stopped, stopping_at(3))
    train_run(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)
    translator = load(run.path, precision="fp32")
    texts = ["ba ko", "rondo mi tesu lan gor", "", "ve"]
    together = translator(texts, beam=3, max_length=7)
    assert together == [translator([text], beam=3, max_length=7)[0] for text in texts]
    example = look(translator, "ba ko mi")
    titles = [m.title for m in example.maps]
    assert ("cross-attention" in titles) == (getattr(decoder, "attention", ATTENTION) is not None)
    for found in example.maps:
        assert found.array().shape[2:] == (len(found.rows), len(found.columns))


def test_only_a_decoder_that_can_hear_itself_is_fed_its_own_words(config, tmp_path):
    objective = CrossEntropy(teacher_forcing=0.5, teacher_forcing_end=0.5)
    with pytest.raises(ValueError, match="needs a recurrent or convolutional decoder"):
        replace(config, objective=objective)
    for name in ("convolutional", "GRU, attention before the cell, coverage"):
        encoder, decoder = MEMBERS[name]
        model = EncoderDecoderConfig(encoder=encoder, decoder=decoder, embedding=16)
        changed = replace(config, run=f"{config.run} {name}", model=model, objective=objective)
        run = train_run(changed, Listener())
        assert run.info()["training"]["steps"] == 6


def test_in_python_train_and_load(config, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    run = seqloom.train(file, "--training.steps", "4", "--run", str(tmp_path / "from file"))
    assert run.path == tmp_path / "from file"
    assert run.info()["training"]["steps"] == 4
    translator = seqloom.load(run.path)
    texts = ["ba ko", "", "rondo mi tesu"]
    found = translator(texts, beam=2, max_length=7)
    assert len(found) == 3
    assert found[1] == ""
    assert translator(texts, beam=1, max_length=7) == translator(texts, max_length=7, beam=1)
    with pytest.raises(UsageError, match="unknown key 'bean'"):
        translator(texts, bean=2)
    with pytest.raises(UsageError, match="expected a whole number from 1 to 1,000, got 0"):
        translator(texts, beam=0)
    same = seqloom.train(replace(config, run=str(tmp_path / "object"), training=replace(config.training, steps=4)))
    assert left_behind(str(same.path)) == left_behind(str(run.path))
    with pytest.raises(UsageError, match="overrides are for a config file"):
        seqloom.train(config, "--training.steps", "5")


def test_the_thread_count_is_recorded_and_restored(config):
    threads = 1 + (os.cpu_count() or 1)  # not what it would take by itself
    config = replace(config, training=replace(config.training, threads=threads, steps=2))
    run = train_run(config, Listener())
    assert run.info()["threads"] == threads
    torch.set_num_threads(1)
    again = replace(config, training=replace(config.training, threads=0, steps=3))
    train_run(again, Listener())
    assert torch.get_num_threads() == threads
    assert run.info()["threads"] == threads


@pytest.mark.parametrize(
    ("targets", "bleu"),
    [
        (["今日は雨です。", "私は学生です。", "東京へ行きました。", "猫がいます。"], 100),
        (["eins", "zwei", "drei", "vier"], 0),
    ],
)
def test_the_measure_that_chooses_the_checkpoint_is_defined_for_the_script(config, monkeypatch, targets, bleu):
    """Perfect Japanese has a BLEU of 100; where BLEU is 0 beside perfect translations, one warning says so."""
    Path(config.data.valid[1]).write_text("\n".join(targets) + "\n", encoding="utf-8")
    monkeypatch.setattr("seqloom.tasks.seq2seq.predictor.Translator.__call__", lambda *_: targets)
    listener = Listener()
    train_run(config, listener)
    rows = [row for row in Run(Path(config.run)).rows("metrics.jsonl") if "bleu" in row]
    assert len(rows) == 3
    assert all((row["bleu"], row["exact_match"]) == (pytest.approx(bleu), 100) for row in rows)
    warnings = [text for text in listener.warnings if "BLEU is 0" in text]
    assert len(warnings) == (bleu == 0)


def test_what_a_run_records(config):
    run = train_run(config, Listener())
    info = run.info()
    assert info["seed"] == 1
    assert set(info["versions"]) == {"seqloom", "torch", "python"}
    assert set(info["corpus"]) == {"train", "valid"}
    assert info["files"] == {"tokenizer.json": digest_of(run.path / "tokenizer.json")}
    assert info["lines"] == {"metrics.jsonl": 9, "samples.jsonl": 12}
    assert info["training"]["steps"] == 6
    samples = run.rows("samples.jsonl")
    assert [row["step"] for row in samples] == [2] * 4 + [4] * 4 + [6] * 4
    assert set(samples[0]) == {"step", "source", "reference", "translation"}


def test_another_config_or_other_data_do_not_go_on_with_a_run(config, tmp_path):
    train_run(config, Listener())
    before = left_behind(config.run)
    with pytest.raises(RunError, match=r"the config is not what this run began with \(optimizer\.lr: 0\.01 -> 0\.5\)"):
        train_run(replace(config, optimizer=replace(config.optimizer, lr=0.5)), Listener())
    write_corpus(tmp_path, "valid", 4, 3)
    with pytest.raises(RunError, match="the valid data is not what this run began with") as caught:
        train_run(config, Listener())
    assert "--run" in caught.value.cure
    assert left_behind(config.run) == before


def test_a_tokenizer_that_does_not_match_is_refused(config):
    run = train_run(config, Listener())
    path = run.path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"].reverse()
    path.write_text(json.dumps(content), encoding="utf-8")
    for use in (lambda: seqloom.load(run.path), lambda: train_run(config, Listener())):
        with pytest.raises(RunError, match="is not the file this run was trained with") as caught:
            use()
        assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(RunError, match=r"tokenizer\.json: cannot be read: No such file"):
        seqloom.load(run.path)


def test_a_damaged_best_checkpoint_is_passed_over_by_load(config):
    run = train_run(config, Listener())
    best = run.pointed("best")
    assert best is not None
    (best.path / "model.safetensors").write_bytes(b"x")
    said: list[str] = []
    seqloom.load(run.path, say=said.append)
    assert "is damaged: model.safetensors has 1 bytes" in said[0]


def test_validation_sentences_that_are_too_long_are_cut_and_not_a_crash(config, tmp_path):
    stack = replace(STACK, positions=Learned(length=24))
    (tmp_path / "valid.src").write_text("ba ko\n" + "ko " * 40 + "\n" + "mi " * 700 + "\n", encoding="utf-8")
    (tmp_path / "valid.tgt").write_text("OK AB\n" + "OK " * 40 + "\n" + "IM\n", encoding="utf-8")
    for number, model in enumerate((replace(config.model, encoder=stack, decoder=stack), config.model)):
        changed = replace(config, model=model, tokenizer=Characters(), run=f"{config.run} {number}")
        run = train_run(replace(changed, training=replace(config.training, steps=1)), Listener())
        assert len(run.rows("samples.jsonl")) == 3


def test_training_sentences_that_are_too_long_are_left_out_and_counted(config, tmp_path):
    write_corpus(tmp_path, "train", 60, 1, most=9)
    changed = replace(config, data=replace(config.data, max_length=12), tokenizer=Characters())
    listener = Listener()
    train_run(replace(changed, training=replace(config.training, steps=1)), listener)
    long = sum(len(text) > 12 for text in sentences(60, 1, most=9))
    assert listener.warnings == [
        f"{long} training pairs are too long (data.max_length, or the model's positions) and are left out"
    ]


def test_what_bpe_dropout_makes_of_a_text_fits_the_positions(config, tmp_path):
    write_corpus(tmp_path, "train", 60, 1, most=9)
    long = sum(len(f" {text}".encode()) > 24 for text in sentences(60, 1, most=9))  # the tokenizer adds the space
    stack = replace(STACK, positions=Learned(length=25))
    changed = replace(
        config, tokenizer=BPE(size=300, dropout=0.9), model=replace(config.model, encoder=stack, decoder=stack)
    )
    listener = Listener()
    train_run(replace(changed, training=replace(config.training, steps=12)), listener)
    assert listener.warnings == [
        f"{long} training pairs are too long (data.max_length, or the model's positions) and are left out"
    ]


def test_a_loss_that_is_not_finite_names_the_lines_of_the_files(config, tmp_path, monkeypatch):
    # An empty side first: the pairs that are trained on do not stand on lines of the same number.
    for side in ("src", "tgt"):
        path = tmp_path / f"train.{side}"
        first = path.read_text(encoding="utf-8").split("\n")[0]
        path.write_text(f"\n{first}\n", encoding="utf-8")
    plain = CrossEntropy.__call__

    def poisoned(self: CrossEntropy, model: object, batch: object) -> object:
        found = plain(self, model, batch)
        return replace(found, value=found.value * float("nan")) if torch.is_grad_enabled() else found

    monkeypatch.setattr(CrossEntropy, "__call__", poisoned)
    with pytest.raises(DivergedError, match=r"the loss is nan at step 1; .* Its examples: 2\n"):
        train_run(config, Listener())
    assert Run.open(config.run).checkpoints() == []


def test_each_epoch_of_fresh_texts_is_another_and_its_rows_are_its_own(config):
    stack = replace(STACK, positions=Learned(length=22))
    data = Programs(task="addition", length=8, curriculum="mix", size=40, valid_size=4, test_size=0)
    model = replace(config.model, encoder=stack, decoder=stack)
    config = replace(config, data=data, model=model, tokenizer=Characters())
    prepared = read_corpus(config, Listener())
    assert prepared.splits.fresh is not None
    for epoch in range(3):
        texts = prepared.splits.fresh.draw(epoch).sources
        seen = []
        for number in range(prepared.batches.per_epoch):
            batch = prepared.batches(epoch * prepared.batches.per_epoch + number)
            seen += batch.rows
            for row, ids in zip(batch.rows, batch.inputs["text"].values.tolist(), strict=True):
                assert prepared.source.decode([ids]) == [texts[row]]
        # "print(" and ")" and "+" with the end leave 12 of the 21 for digits.
        assert sorted(seen) == [row for row, text in enumerate(texts) if len(text) <= 21]
        assert len(seen) < 40


def test_two_vocabularies_cannot_share_one_table(config):
    with pytest.raises(ValueError, match=r"model\.tie = 'all' needs one vocabulary"):
        replace(config, tokenizer=BPE(size=280, joint=False))
    own = replace(config, model=replace(config.model, tie="decoder-output"), tokenizer=BPE(size=280, joint=False))
    run = train_run(replace(own, training=replace(own.training, steps=1)), Listener())
    assert (run.path / "tokenizer.source.json").is_file()
    assert len(seqloom.load(run.path)(["ba"], max_length=3)) == 1


def test_a_device_that_is_not_there(config):
    with pytest.raises(UsageError, match="no device 'cupboard'"):
        train_run(replace(config, training=replace(config.training, device="cupboard")), Listener())


def test_a_directory_with_other_things_is_left_alone(config, tmp_path):
    with pytest.raises(RunError, match="holds other things than a run"):
        train_run(replace(config, run=str(tmp_path)), Listener())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train.src", "train.tgt", "valid.src", "valid.tgt"]


def test_a_config_file_that_is_not_there():
    with pytest.raises(ConfigError, match="no such config file"):
        seqloom.train("nowhere.toml")


def test_test_data_and_more_steps_may_come_later_and_are_written_down(config, tmp_path):
    run = train_run(config, Listener())
    test = tuple(map(str, write_corpus(tmp_path, "test", 4, 9)))
    later = replace(config, data=replace(config.data, test=test), training=replace(config.training, steps=8))
    train_run(later, Listener())
    assert run.newest(pytest.fail).step == 8
    assert load_config(TranslateConfig, run.path / "config.toml") == later
    assert set(run.info()["corpus"]) == {"train", "valid", "test"}
    assert run.info()["training"]["steps"] == 8


def test_a_table_begins_with_given_vectors_and_may_stay_as_it_is(config, tmp_path):
    listener = Listener()
    (tmp_path / "words.vec").write_text("ba " + "1 " * 15 + "1\nko " + "0 " * 15 + "3\nnowhere " + "2 " * 15 + "2\n")
    own = EmbedderConfig(str(tmp_path / "words.vec"), frozen=True)
    model = EncoderDecoderConfig(encoder=STACK, decoder=STACK, tie="none", source=own)
    run = train_run(replace(config, tokenizer=WordLevel(), model=model), listener)
    assert any("vectors for 2 of" in line for line in listener.said)
    translator = load(run.path, precision="fp32")
    ba, ko = (translator.source.inner.token_to_id(word) for word in ("ba", "ko"))
    rows = translator.model.source.weight.detach()[[ba, ko]]
    given = torch.tensor([[1.0] * 16, [0.0] * 15 + [3.0]])
    assert torch.allclose(rows / rows.norm(), given / given.norm())
    assert not torch.allclose(translator.model.target.weight.std(), torch.tensor(0.25), atol=1e-4)
    for text, problem in (
        ("ba 1 2\n", "set model.embedding = 2"),
        ("nowhere" + " 1" * 16, "no word of the vocabulary"),
    ):
        (tmp_path / "words.vec").write_text(text)
        with pytest.raises(SeqloomError, match=problem):
            train_run(replace(config, run=str(tmp_path / "b"), tokenizer=WordLevel(), model=model), Listener())
        assert not (tmp_path / "b").exists()
    with pytest.raises(ValueError, match="one table"):
        EncoderDecoderConfig(tie="all", target=own)
    (tmp_path / "words.vec").write_text("3 16\nba" + " 1" * 16 + "\nko" + " 2" * 16 + "\n")
    later = replace(config, run=str(tmp_path / "b"), tokenizer=WordLevel(), model=model)
    with pytest.raises(SeqloomError, match=r"2 words instead of 3[\s\S]*vectors_any_size = true"):
        train_run(later, Listener())
    model = replace(model, source=replace(own, vectors_any_size=True))
    assert train_run(replace(later, run=str(tmp_path / "c"), model=model), Listener())
