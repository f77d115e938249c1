"""Runs that learn a reward, from encoders and from language models."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import unknown_scores
from made_up import sentences
from toys import Listener, left_behind

import seqloom
from seqloom.config import build
from seqloom.data.batches.masked import MaskConfig
from seqloom.data.batches.stream import StreamConfig
from seqloom.data.sources.chats.conversations import Conversations
from seqloom.data.sources.text import TextFiles
from seqloom.errors import ConfigError, DataError, RunError, UsageError
from seqloom.inspection.scores import detail_tables
from seqloom.models.decoder import DecoderOnlyConfig
from seqloom.models.encoder import EncoderOnlyConfig
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.run import Run
from seqloom.tasks.building import load_model, load_run
from seqloom.tasks.encoder.embed import load_encoder
from seqloom.tasks.encoder.masked_words import MaskedWordsConfig
from seqloom.tasks.encoder.reward import RewardConfig, RewardPredictor
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.text.chat import Message
from seqloom.text.tokenizer import BPE
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.workflows.compare import compare_runs
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.report import write_report
from seqloom.workflows.train import train_run

STACK = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.1)
LSTM = RecurrentDecoderConfig(layers=1, width=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preferences for answers that repeat the prompt, and runs to start from."""
    made = tmp_path_factory.mktemp("reward")
    for name, count, seed in (("train", 90, 5), ("valid", 12, 6), ("test", 23, 7)):
        rows = [
            {"prompt": text, "chosen": f"ko {text}", "rejected": f"ve {text} ve"} for text in sentences(count, seed)
        ]
        rows.append({"prompt": "ba", "chosen": "mi", "rejected": "mi"})
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (made / "text.txt").write_text("".join(f"{line}\n\n" for line in sentences(60, 1)), encoding="utf-8")
    chats = [{"prompt": line, "response": line.split()[0]} for line in sentences(40, 3)]
    (made / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats), encoding="utf-8")
    training = TrainingConfig(steps=2, evaluate_every=2, threads=1, precision="fp32", metric="loss")
    shared: dict[str, Any] = {"tokenizer": BPE(size=290), "training": training}
    text = TextFiles((str(made / "text.txt"),))
    train_run(
        MaskedWordsConfig(
            run=str(made / "bert"),
            data=text,
            model=EncoderOnlyConfig(encoder=STACK),
            batches=MaskConfig(tokens=200, length=32),
            **shared,
        ),
        Listener(),
    )
    for name, decoder, tie in (("lm", STACK, True), ("untied", LSTM, False)):
        train_run(
            LanguageModelConfig(
                run=str(made / name),
                data=Conversations((str(made / "chats.jsonl"),)),
                model=DecoderOnlyConfig(decoder=decoder, tie=tie),
                batches=StreamConfig(lanes=4, length=31),
                **shared,
            ),
            Listener(),
        )
    return made


def config(folder: Path, name: str, run: Path, **more: Any) -> RewardConfig:
    """`name`: the run to start from, and the form of the prompts: "bert-text"."""
    start, _, form = name.partition("-")
    tree = {
        "task": "reward",
        "start": str(folder / start),
        "run": str(run),
        "data": {n: [str(folder / f"{n}.jsonl")] for n in ("train", "valid", "test")} | {"form": form},
        "batches": {"tokens": 400, "length": 32},
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup": 3},
        "training": {"steps": 60, "evaluate_every": 30, "log_every": 1, "threads": 1, "precision": "fp32"},
    } | more
    made: RewardConfig = build(RewardConfig, tree)
    return made


@pytest.fixture(
    scope="module", params=["bert-text", "bert-instruction", "lm-text", "lm-instruction", "untied-instruction"]
)
def trained(request: pytest.FixtureRequest, folder: Path) -> Run:
    return train_run(config(folder, request.param, folder / f"reward-{request.param}"), Listener())


def test_a_reward_is_learned_scored_and_looked_at(trained: Run, tmp_path: Path) -> None:
    scores = evaluate_run(trained, (), "", (), Listener())
    assert scores["examples"] == 23  # without the pair that has no difference
    assert scores["accuracy"] > 90  # of answers that only differ in their words; the longer one is always wrong
    assert scores["longer_accuracy"] == 0
    assert scores["against_length"] == scores["accuracy"]
    assert scores["reward_chosen"] > scores["reward_rejected"]
    assert not unknown_scores(scores)
    assert len(scores["predictions"]) == 23
    write_report(trained, Listener())
    seen = seqloom.load(trained.path, precision="fp32").look(("ba ko", "mi ve"))
    (value,) = seen.data()["predictions"]
    assert value["asked"] == "value"
    assert float(seen.scores[0, 0]) == pytest.approx(
        seqloom.load(trained.path, precision="fp32").score("ba ko", "mi ve"), abs=1e-5
    )
    assert [table.title for table in detail_tables(scores)] == ["Calibration"]
    with pytest.raises(UsageError, match=r"writes no text\n  leave the engine ctranslate2 out$"):
        seqloom.load(trained.path, engine="ctranslate2")


def test_a_reward_does_not_depend_on_padding_and_batch_mates(trained: Run) -> None:
    predictor = seqloom.load(trained, precision="fp32")
    assert isinstance(predictor, RewardPredictor)
    pairs = [(text, f"ko {text}") for text in sentences(9, 11)]
    together = [one.reward for one in predictor(pairs)]
    assert together == pytest.approx([predictor.score(*pair) for pair in pairs], abs=1e-5)
    assert len(set(together)) > 5
    line = str(predictor(["ba ko\tmi"])[0])
    assert line.split("\t")[1:] == ["ba ko", "mi"]
    if "instruction" in trained.name:
        said = (Message("user", pairs[0][0]),)
        assert predictor.score(said, pairs[0][1]) == pytest.approx(together[0], abs=1e-5)
    else:
        with pytest.raises(UsageError, match="has not learned from conversations"):
            predictor.score((Message("user", "ba"),), "ko")
    for wrong in ("ba", ("ba",), ("ba", ""), ("", "ba"), ("ba", "ko", "mi")):
        with pytest.raises(UsageError, match="this run is for answers to prompts"):
            predictor([wrong])


def test_what_a_reward_model_is_not_for(trained: Run, tmp_path: Path) -> None:
    if "bert" in trained.name:
        assert load_encoder(trained)(["ba ko"]).shape == (1, 16)
        return
    with pytest.raises(RunError, match="gives rewards, not vectors"):
        load_encoder(trained)
    with pytest.raises(UsageError, match="has no published format"):
        load_model(trained, Listener())


def test_the_head_of_the_vocabulary_stays_as_it_was(folder: Path, trained: Run) -> None:
    if "untied" in trained.name:
        before, after = (
            load_run(run, task, precision="fp32").model
            for run, task in ((folder / "untied", LanguageModelConfig), (trained, RewardConfig))
        )
        kept = before.head.weight.shape[0]
        assert torch.equal(after.head.weight[:kept], before.head.weight)
        assert not torch.equal(after.embedder.weight[:kept], before.embedder.weight)


def test_stopped_and_resumed_is_the_same_to_the_bit(folder: Path, tmp_path: Path) -> None:
    brief = {"training": {"steps": 4, "evaluate_every": 2, "log_every": 1, "threads": 1, "precision": "fp32"}}
    straight, stopped = (config(folder, "lm-instruction", tmp_path / name, **brief) for name in ("straight", "stopped"))
    train_run(straight, Listener())
    with pytest.raises(Interrupted):
        train_run(stopped, Listener(lambda step: step == 3 and os.kill(os.getpid(), signal.SIGTERM)))
    train_run(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)


def test_rewards_of_two_runs_are_compared(folder: Path, trained: Run, tmp_path: Path) -> None:
    if trained.name == "reward-bert-text":
        brief = {"training": {"steps": 1, "evaluate_every": 1, "threads": 1, "precision": "fp32"}}
        other = train_run(config(folder, "lm-text", tmp_path / "other", **brief), Listener())
        result = compare_runs([trained, other], tmp_path / "compared", Listener())
        assert result["systems"][0]["intervals"]["accuracy"] >= 0


def test_findings_and_what_is_cut_are_reported(folder: Path, tmp_path: Path) -> None:
    for name, said in (
        ("bert-text", "2 answers cut, with the prompt, to 32 tokens"),
        ("bert-instruction", "1 prompt cut to what is read"),
    ):
        path = tmp_path / "long.jsonl"
        rows = [{"prompt": " ".join(["ba"] * n), "chosen": "ko", "rejected": "ve"} for n in (3, 90)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        listener = Listener()
        data = {"train": [str(path)], "valid": [str(folder / "valid.jsonl")], "form": name.split("-")[1]}
        prepared = config(folder, name, tmp_path / "run", data=data).prepare(listener)
        assert f"train: {said}" in listener.warnings
        assert "valid: 1 pair without a difference left out" in listener.warnings
        found = {(f.what, f.where) for f in prepared.findings()}
        assert ("pairs without a difference", f"{folder / 'valid.jsonl'}:13") in found
        assert "the longer answer wins" in {what for what, _ in found}
        assert prepared.summary()[0]["examples"] == 2


def test_wrong_configs(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batches.long must be 'cut'"):
        config(folder, "bert-text", tmp_path / "run", batches={"length": 32, "long": "windows"})
    with pytest.raises(ConfigError, match="must be 'accuracy' or 'loss'"):
        config(folder, "bert-text", tmp_path / "run", training={"metric": "bleu"})
    same = tmp_path / "same.jsonl"
    same.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n', encoding="utf-8")
    data = {"train": [str(same)], "valid": [str(same)]}
    with pytest.raises(DataError, match=r"same.jsonl:1: no pair has two different answers"):
        config(folder, "bert-text", tmp_path / "run", data=data).prepare(Listener())


def test_a_margin_in_the_data_is_learned_with(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": f"ba {i}", "chosen": "ko", "rejected": "ve", "by": i} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"train": [str(path)], "valid": [str(path)], "margin": "by"}
    chosen = config(folder, "bert-text", tmp_path / "run", data=data)
    prepared = chosen.prepare(Listener())
    learner: Any = prepared.plan(chosen, chosen.build(prepared.assets)).learner
    assert sorted(learner.batches(0).targets.tolist()) == [0.0, 1.0, 2.0, 3.0, 4.0]
