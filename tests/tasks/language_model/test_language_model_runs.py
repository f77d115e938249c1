"""Whole runs of language models, made small: what a training leaves behind, and that stopping does not change it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import sentences
from toys import Listener, left_behind

import seqloom
from seqloom import files
from seqloom.config import load as load_config
from seqloom.config import to_toml
from seqloom.data.batches.shards import Keeping, Shards, StampedText, write_shards
from seqloom.data.batches.stream import Layout, Stream, StreamConfig, encode_block
from seqloom.data.rows import Text
from seqloom.data.sources.chats.conversations import Conversations
from seqloom.data.sources.standard_library import StandardLibrary
from seqloom.data.sources.text import TextFiles, text_source
from seqloom.errors import RunError, UsageError
from seqloom.evaluation.perplexity import perplexities, text_nll
from seqloom.files import digest_of
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import EmbedderConfig, Inputs
from seqloom.nn.positions import Learned
from seqloom.nn.transformer import TransformerConfig
from seqloom.run import Run
from seqloom.tasks import load
from seqloom.tasks.building import begin, load_model
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.text.chat import Message
from seqloom.text.tokenizer import BPE, Tokenizer, TokenizerFile, WordLevel
from seqloom.text.training import train_tokenizer
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.training.optimizer import AdamW
from seqloom.training.schedule import Noam
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.report import finish, write_report
from seqloom.workflows.train import train_run

LSTM = RecurrentDecoderConfig(cell="lstm", layers=2, width=16, dropout=0.2, weight_drop=0.3)
STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.2)
DECODERS = {"lstm": LSTM, "transformer": STACK, "convolutional": ConvolutionalConfig(layers=2, width=16)}


@pytest.fixture
def config(tmp_path: Path) -> LanguageModelConfig:
    for name, count, seed in (("train", 60, 1), ("valid", 12, 2)):
        lines = sentences(count, seed)
        lines[count // 2 : count // 2] = [""]
        (tmp_path / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    conversations = [{"prompt": line, "response": line.split()[0]} for line in sentences(40, 3)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in conversations), encoding="utf-8")
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
    "convolution, held out, lines": lambda c: replace(
        c,
        data=TextFiles(c.data.train, documents="lines"),
        model=DecoderOnlyConfig(decoder=DECODERS["convolutional"]),
    ),
    "conversations": lambda c: replace(
        c, data=Conversations((str(Path(c.run).parent / "chats.jsonl"),)), model=DecoderOnlyConfig(decoder=STACK)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_training_that_was_stopped_ends_with_the_same_bits(config, tmp_path, change):
    straight = CHANGES[change](config)
    train_run(straight, Listener())
    for step in (1, 3):  # before the first evaluation, and after one
        stopped = replace(straight, run=str(tmp_path / f"stopped-{step}"))
        with pytest.raises(Interrupted):
            train_run(
                stopped, Listener(lambda n, step=step: signal.raise_signal(signal.SIGTERM) if n == step else None)
            )
        train_run(stopped, Listener())
        assert left_behind(stopped.run) == left_behind(straight.run), step


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_learns_is_measured_and_writes(config, name):
    chosen = replace(
        config,
        model=DecoderOnlyConfig(decoder=DECODERS[name]),
        training=replace(config.training, steps=60, evaluate_every=30),
    )
    run = train_run(chosen, Listener())
    first, last = (row for row in run.rows("metrics.jsonl") if row["kind"] == "valid")
    assert last["loss"] < first["loss"] < math.log(280)
    (tmp := Path(chosen.run).parent / "one.txt").write_text("ba ko\nmi\n", encoding="utf-8")
    scores = evaluate_run(run.path, [str(tmp)], "", (), Listener())
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
    run = train_run(replace(config, tokenizer=WordLevel()), Listener())
    last = run.rows("metrics.jsonl")[-1]
    assert last["perplexity"] == last["word_perplexity"] == pytest.approx(math.exp(last["loss"]))


@pytest.mark.parametrize("name", DECODERS)
def test_a_text_is_measured_as_by_hand(config, name):
    chosen = replace(config, model=DecoderOnlyConfig(decoder=DECODERS[name]))
    generator = load(train_run(chosen, Listener()).path, precision="fp32")
    model, ids = generator.model, np.random.default_rng(1).integers(4, 280, 29).astype(np.int32)

    def stream(**sizes: int) -> Stream:
        return Stream(ids, np.ones(29, np.int32), Layout(StreamConfig(**sizes), carries=model.carries))

    read = torch.from_numpy(np.roll(ids, 1).astype(np.int64))[None]
    with torch.inference_mode():
        if model.carries:
            hidden = model(Inputs.text(read))[0][0]
        else:  # each word from the window it is first in
            starts = [0] * 9 + [6 * (1 + (p - 9) // 6) for p in range(9, 29)]
            hidden = torch.stack([model(Inputs.text(read[:, s : p + 1]))[0][0, -1] for p, s in enumerate(starts)])
        log_p = model.head(hidden).log_softmax(-1)
    expected = -log_p[torch.arange(29), torch.from_numpy(ids.astype(np.int64))].sum()
    assert text_nll(model, stream(lanes=1, length=9, stride=6)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("length", "name"), [*((n, name) for n in (29, 40) for name in DECODERS), (7, "lstm")])
def test_a_document_is_measured_as_if_it_stood_alone(length, name):
    torch.manual_seed(1)
    model = LanguageModel(DecoderOnlyConfig(decoder=DECODERS[name]), 280)
    chance = np.random.default_rng(1)
    parts = [np.append(chance.integers(4, 280, size), 2).astype(np.int32) for size in (9, 1, 16)]

    def nll(ids: np.ndarray, begins: int | None) -> float:
        config = StreamConfig(lanes=1, length=length)
        return text_nll(model, Stream(ids, ids, Layout(config, carries=model.carries), begins))

    alone = sum(nll(part, None) for part in parts)
    assert nll(np.concatenate(parts), 2) == pytest.approx(alone, rel=1e-5)
    assert nll(np.concatenate(parts), None) != pytest.approx(alone, rel=1e-5)


def test_perplexities_by_hand():
    scores = perplexities(12 * math.log(2), 6, {"words": 3, "characters": 24, "bytes": 48})
    assert scores == pytest.approx(
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
    assert load_config(LanguageModelConfig, path) == config
    train_run(config, Listener())
    with pytest.raises(RunError, match=r"batches\.lanes: 4 -> 5"):
        train_run(replace(config, batches=replace(config.batches, lanes=5)), Listener())
    longer = replace(config, training=replace(config.training, steps=7))
    assert seqloom.train(longer).info()["training"]["steps"] == 7


def test_given_vectors_are_taken_and_stay_where_they_are_frozen(config, tmp_path):
    word = Text.of(text_source(config.data.train)).lines[0].split()[0]
    (tmp_path / "v.txt").write_text(f"{word} " + " ".join(map(str, range(11))))
    embedder = EmbedderConfig(str(tmp_path / "v.txt"), frozen=True)
    config = replace(config, tokenizer=WordLevel(), model=replace(config.model, embedder=embedder, embedding=11))
    run = train_run(config, Listener())
    generator = load(run.path, precision="fp32")
    row = generator.model.embedder.weight.detach()[generator.tokenizer.whole_words()[word]]
    vector = torch.arange(11.0)
    assert torch.allclose(row / row.norm(), vector / vector.norm())


# Shards


def test_a_run_that_goes_on_does_not_tokenize_again_but_sees_that_the_text_has_changed(config, monkeypatch):
    run, path = train_run(config, Listener()), Path(config.data.train[0])
    before = {p: p.stat().st_mtime_ns for p in (run.path / "shards").rglob("*.npy")}
    assert before
    longer = replace(config, training=replace(config.training, steps=7))
    with monkeypatch.context() as patch:
        patch.setattr("seqloom.data.batches.shards.encode_block", None)
        train_run(longer, Listener())
        os.utime(path, ns=(1, 1))
        train_run(longer, Listener())
    path.write_text("ba\n" + path.read_text())
    with pytest.raises(RunError, match="the train data is not what this run began with"):
        train_run(longer, Listener())
    assert {p: p.stat().st_mtime_ns for p in (run.path / "shards").rglob("*.npy")} == before


def test_a_tokenization_that_was_broken_off_goes_on(config, monkeypatch):
    def small(source: StampedText, tokenizer: Tokenizer, keeping: Keeping) -> Shards:
        return write_shards(source, tokenizer, replace(keeping, room=90))

    def broken(block: Any, tokenizer: Any) -> Any:
        if any(number > 40 for _, number in block):
            raise KeyboardInterrupt
        return encode_block(block, tokenizer)

    monkeypatch.setattr("seqloom.data.sources.text.write_shards", small)
    monkeypatch.setattr("seqloom.data.rows._BLOCK_LINES", 10)
    with monkeypatch.context() as patch:
        patch.setattr("seqloom.data.batches.shards.encode_block", broken)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, Listener())
    whole = {p: p.stat().st_mtime_ns for p in Path(config.run).rglob("*.npy")}
    assert whole
    straight = replace(config, run=f"{config.run}-2")
    for one in (config, straight):
        train_run(one, Listener())
    assert {p: p.stat().st_mtime_ns for p in whole} == whole
    assert left_behind(config.run) == left_behind(straight.run)


def test_shards_that_are_gone_are_made_again(config):
    train_run(config, Listener())
    shutil.rmtree(Path(config.run) / "shards")
    train_run(replace(config, training=replace(config.training, steps=7)), Listener())
    assert (Path(config.run) / "shards" / "corpus.json").is_file()


def test_python_itself_is_the_text_where_none_is_named(config, tmp_path, monkeypatch):
    (library := tmp_path / "lib" / "pydoc_data").mkdir(parents=True)
    (library / "topics.py").write_text("topics = {}\n")
    for n in range(80):
        (tmp_path / "lib" / f"m{n}.py").write_text(f"def f{n}(x):\n\n    return x + {n}\n")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path / "lib")})
    chosen = replace(config, data=StandardLibrary(), model=DecoderOnlyConfig(decoder=STACK))
    run = train_run(chosen, Listener())
    assert run.info()["corpus"].keys() == {"train", "valid", "test"}
    scores = evaluate_run(run.path, [], "", (), Listener())
    assert scores["tokens"] > 20


def test_the_kind_of_data_is_found(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[training]\nsteps = 1\n")
    assert load_config(LanguageModelConfig, path).data == StandardLibrary()
    named = load_config(LanguageModelConfig, path, ["--data.train", "a.txt", "--data.documents", "lines"])
    assert named.data == TextFiles(("a.txt",), documents="lines")
    chats = load_config(LanguageModelConfig, path, ["--data.kind", "conversations", "--data.train", "a.jsonl"])
    assert chats.data == Conversations(("a.jsonl",))


# Fine-tuning


def tuned(config: LanguageModelConfig, *words: str) -> LanguageModelConfig:
    """The config of a run that starts from another one and learns conversations, as the command line makes it."""
    folder = Path(config.run).parent
    (folder / "base.toml").write_text(to_toml(config), encoding="utf-8")
    (folder / "tune.toml").write_text(
        f'start = "{config.run}"\nrun = "{folder}/tuned"\n[data]\nkind = "conversations"\n'
        f'train = ["{folder}/chats.jsonl"]\n[batches]\nlanes = 4\nlength = 40\n'
        "[optimizer]\nlr = 0.01\n[training]\nsteps = 6\nevaluate_every = 3\nthreads = 1\nprecision = 'fp32'\n"
    )
    return load_config(LanguageModelConfig, folder / "tune.toml", words)


@pytest.mark.parametrize("name", ["transformer", "lstm"])
def test_a_run_is_tuned_on_conversations_and_answers(config, name):
    base = replace(config, model=DecoderOnlyConfig(decoder=DECODERS[name]), tokenizer=BPE(size=290))
    train_run(base, Listener())
    chosen = tuned(base)
    assert (chosen.model, chosen.tokenizer) == (base.model, base.tokenizer)
    longer = replace(chosen.training, steps=60, evaluate_every=30)
    run = train_run(replace(chosen, training=longer), Listener())
    rows = [row for row in run.rows("metrics.jsonl") if row["kind"] == "valid"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    generator = load(run.path, precision="fp32")
    answer = "".join(generator.reply([Message("user", "ba ko mi")], max_length=9, sample=False))
    assert answer
    assert "<|" not in answer
    scores = evaluate_run(run.path, [str(Path(base.run).parent / "chats.jsonl")], "", (), Listener())
    assert (scores["words"], scores["unknown"]) == (80, 0)  # one word and one end of each answer
    scores = evaluate_run(run.path, [], "", (), Listener())
    assert (scores["test"], scores["loss"]) == ("valid", pytest.approx(min(row["loss"] for row in rows), rel=1e-4))
    assert scores["stride"] is None
    with pytest.raises(UsageError, match="there are no windows"):
        evaluate_run(run.path, [], "", ("--batches.stride", "4"), Listener())
    shutil.rmtree(base.run)  # a run stands alone
    assert "<|" not in "".join(load(run.path, precision="fp32").reply([Message("user", "ba")], max_length=3))
    train_run(replace(chosen, training=replace(longer, steps=61)), Listener())


def test_tuning_starts_from_the_weights_of_the_run_and_new_words_from_the_mean(config, tmp_path):
    plain = train_tokenizer(BPE(size=280), Text.of(text_source(config.data.train)).lines[:20])
    (tmp_path / "plain.json").write_text(plain.to_json())
    base = replace(
        config,
        model=DecoderOnlyConfig(decoder=STACK, tie=False),
        tokenizer=TokenizerFile(path=str(tmp_path / "plain.json")),
    )
    train_run(base, Listener())
    chosen = tuned(base)
    run = train_run(replace(chosen, optimizer=AdamW(lr=1e-12), training=replace(chosen.training, steps=1)), Listener())
    before, after = (dict(load(path, precision="fp32").model.named_parameters()) for path in (base.run, run.path))
    for key, weight in before.items():
        torch.testing.assert_close(after[key][: len(weight)], weight, rtol=0, atol=1e-12)
        if len(after[key]) > len(weight):
            assert len(after[key]) == len(weight) + 4
            torch.testing.assert_close(after[key][len(weight) :], weight.mean(0).expand(4, -1))
    assert load(run.path).tokenizer.vocab_size == plain.vocab_size + 4


def test_what_only_reads_the_model_hashes_only_the_model_and_that_once(config, monkeypatch):
    run = train_run(config, Listener())
    assets, weights = config.assets(run), run.best(pytest.fail).weights
    hashed: list[Path] = []
    monkeypatch.setattr(files, "digest_of", lambda path: (hashed.append(path), digest_of(path))[1])
    uses: dict[str, Callable[[], object]] = {
        "load": lambda: load(run.path),
        "evaluate": lambda: evaluate_run(run.path, (), "", (), Listener()),
        "report": lambda: write_report(Run.open(run.path), Listener()),
        "export": lambda: load_model(Run.open(run.path), Listener()),
        "evaluate and report": lambda: (
            evaluate_run(opened := Run.open(run.path), (), "", (), Listener()),
            write_report(opened, Listener()),
        ),
        "start": lambda: begin(replace(config, start=str(run.path)), config.build(assets), assets, Listener()),
    }
    for name, use in uses.items():
        use()
        assert (name, sorted(hashed)) == (name, [weights, run.path / "tokenizer.json"])
        hashed.clear()


def test_a_run_that_is_resumed_hashes_each_file_once(config, monkeypatch):
    train_run(config, Listener())
    hashed: list[Path] = []
    monkeypatch.setattr(files, "digest_of", lambda path: (hashed.append(path), digest_of(path))[1])
    run = train_run(config, Listener())
    finish(run, Listener())
    newest = run.newest(pytest.fail)
    saved = {run.best(pytest.fail).weights, *(newest.path / f"{n}.safetensors" for n in ("model", "optimizer"))}
    assert saved <= {*hashed}
    assert len(hashed) == len({*hashed})


def test_the_model_is_that_of_the_run_and_not_of_a_preset(config):
    base = replace(config, model=DecoderOnlyConfig(decoder=STACK))
    tuned(base)
    Path(base.run).mkdir(parents=True)
    (Path(base.run) / "config.toml").write_text(to_toml(base), encoding="utf-8")
    path = Path(base.run).parent / "tune.toml"
    path.write_text(path.read_text() + '[model]\npreset = "llama-nano"\ndecoder.dropout = 0.25\n')
    assert load_config(LanguageModelConfig, path).model == replace(base.model, decoder=replace(STACK, dropout=0.25))
    with pytest.raises(UsageError, match="the model is that of"):
        load_config(LanguageModelConfig, path, ("--model.preset", "llama-nano"))


def test_what_cannot_be_started_from_is_refused(config, tmp_path):
    base = replace(config, model=DecoderOnlyConfig(decoder=STACK))
    train_run(base, Listener())
    with pytest.raises(RunError, match="the weights do not fit the model") as caught:
        train_run(tuned(base, "--model.decoder.inner", "24"), Listener())
    assert "leave out" in caught.value.cure
    with pytest.raises(RunError, match="no such run"):
        train_run(replace(tuned(base), start=str(tmp_path / "nowhere")), Listener())
