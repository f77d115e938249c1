"""Whole runs that learn preferences, made small: what they begin with, what they keep, and what they are used for."""

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
from calls import unknown_scores
from made_up import sentences, translated
from starts import make_starts
from toys import Listener, damage, left_behind

import seqloom
from seqloom.config import build
from seqloom.data.batches.preferences import encode_continuations, preference_batch
from seqloom.data.batches.stream import encode_beginnings
from seqloom.data.rows import Preference
from seqloom.errors import ConfigError, DataError, RunError, UsageError
from seqloom.objectives.preference import answer_log_p
from seqloom.run import Run
from seqloom.tasks import task_class
from seqloom.tasks.building import begin, load_run
from seqloom.tasks.preference.reference import unpacked
from seqloom.tasks.task import GradientConfig
from seqloom.text.chat import END, Message, chat_token, encode_chats, with_chat
from seqloom.text.tokenizer import BPE
from seqloom.text.training import train_tokenizer
from seqloom.training.fit import Interrupted
from seqloom.training.loop import GradientLearner
from seqloom.workflows.chat import Conversation
from seqloom.workflows.compare import compare_runs
from seqloom.workflows.evaluate import evaluate_run
from seqloom.workflows.report import write_report
from seqloom.workflows.train import train_run

STEPS: dict[str, Any] = {"steps": 4, "evaluate_every": 2, "log_every": 1, "threads": 1, "precision": "fp32"}


def write(path: Path, count: int, seed: int, answer: Callable[[str], tuple[str, str]]) -> str:
    rows = [(prompt, *answer(prompt)) for prompt in sentences(count, seed)]
    records = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preferences for brief answers, and four runs to start from."""
    made = tmp_path_factory.mktemp("start")
    for name, count, seed in (("train", 40, 5), ("valid", 9, 6), ("test", 11, 7)):
        write(made / f"{name}.jsonl", count, seed, lambda text: (text.split()[0], f"{text} {text} ba"))
        write(made / f"{name}-mt.jsonl", count, seed, lambda text: (translated(text), text))
    (made / "text.txt").write_text("".join(f"{line}\n\n" for line in sentences(60, 1)), encoding="utf-8")
    make_starts(made, **STEPS)
    return made


def config(folder: Path, name: str, run: Path, **more: Any) -> Any:
    """`name`: the run to start from, and the form of the prompts: "lm-text"."""
    start, _, form = name.partition("-")
    suffix = "-mt" if start == "mt" else ""
    tree = {
        "task": "prefer_translations" if start == "mt" else "prefer",
        "start": str(folder / start),
        "run": str(run),
        "data": {n: [str(folder / f"{n}{suffix}.jsonl")] for n in ("train", "valid", "test")}
        | {"form": form or "text"},
        "batches": {"tokens": 300, "length": 31},
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup": 1},
        "training": STEPS,
    } | more
    return build(task_class(str(tree["task"])), tree)


NAMES = ["lm-text", "lm-instruction", "lstm-instruction", "mt"]
LORA = {"kind": "lora", "rank": 2, "dropout": 0.3, "targets": ["*"]}


@pytest.fixture(scope="module", params=[*NAMES, "lm-instruction+lora"])
def trained(request: pytest.FixtureRequest, folder: Path) -> Run:
    name, _, adapted = request.param.partition("+")
    adapt = LORA if adapted else {"kind": "full"}
    return train_run(config(folder, name, folder / f"prefer-{request.param}", adapt=adapt), Listener())


def test_the_first_loss_is_that_of_no_preference_and_then_there_is_one(trained: Run) -> None:
    rows = trained.rows("metrics.jsonl")
    train, valid = ([row for row in rows if row["kind"] == kind] for kind in ("train", "valid"))
    assert train[0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert valid[-1]["loss"] < math.log(2)
    assert valid[-1]["reward_chosen"] > valid[-1]["reward_rejected"]
    assert valid[-1]["accuracy"] > 50
    assert valid[-1]["kl"] != 0
    assert trained.rows("samples.jsonl")


def test_what_is_trained_begins_as_the_reference_to_the_bit(trained: Run) -> None:
    """In every batch of the first epoch, with dropout in the config, and in the type of the training."""
    chosen = load_run(trained, GradientConfig).config
    for precision in ("fp32", "bf16"):
        chosen = replace(chosen, run="", training=replace(chosen.training, precision=precision))
        prepared = chosen.prepare(Listener())
        model = chosen.build(prepared.assets)
        begin(chosen, model, prepared.assets, Listener())
        learner = prepared.plan(chosen, model).learner
        assert isinstance(learner, GradientLearner)
        for number in range(3):
            model.train()
            loss = chosen.objective(model, learner.batches(number))
            loss.value.backward()
            with torch.no_grad():
                assert not chosen.objective.log_ratios(model, learner.batches(number)).any()


def test_the_kept_reference_is_what_the_start_says(trained: Run, folder: Path) -> None:
    """Of each answer by itself: the batches that it was read in do not matter."""
    loaded = load_run(trained, GradientConfig, precision="fp32")
    begun = load_run(loaded.config.begins_with, GradientConfig, precision="fp32")
    reference = loaded.assets.reference
    assert reference is not None
    assert reference["start"] == begun.run.best(pytest.fail).digest()
    drawn, start = unpacked(reference["drawn"]), loaded.config.start_token(loaded.assets)
    rows = loaded.config.data.read(loaded.config.data.valid)
    pairs = loaded.config.encoded(rows, loaded.assets).pairs
    assert len(drawn) == len(pairs) == 9
    model = loaded.config.build(loaded.assets).eval()
    begin(loaded.config, model, loaded.assets, Listener())  # with new tokens, if there are any
    found = [(drawn, reference["drawn_log_p"]), (pairs, reference["valid"]["log_p"])]
    for encoded, expected in found:
        for pair, kept in zip(encoded, expected, strict=True):
            with torch.no_grad():
                alone = answer_log_p(model, preference_batch([pair], np.zeros((1, 2)), start))
            assert kept == pytest.approx(alone.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", ["lm-text", "mt"])
def test_stopped_and_resumed_is_the_same_to_the_bit(folder: Path, tmp_path: Path, name: str) -> None:
    """Even where the run it started from is gone: what it said is kept."""
    copied = tmp_path / "folder"
    shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("prefer-*"))
    straight = config(copied, name, tmp_path / "straight")
    train_run(straight, Listener())
    stopped = replace(straight, run=str(tmp_path / "stopped"))
    for step in (1, 3):
        with pytest.raises(Interrupted):
            train_run(stopped, Listener(lambda n, at=step: n == at and os.kill(os.getpid(), signal.SIGTERM)))
        shutil.rmtree(straight.start, ignore_errors=True)
    train_run(stopped, Listener())
    assert left_behind(stopped.run) == left_behind(straight.run)
    kept = [(Path(run) / "reference.json").read_bytes() for run in (straight.run, stopped.run)]
    assert kept[0] == kept[1]


def test_a_run_goes_on_only_with_what_it_began_with(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "folder"
    shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("prefer-*"))
    chosen = config(copied, "lm-text", tmp_path / "run")
    run = train_run(chosen, Listener())
    (copied / "train.jsonl").write_text((copied / "test.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RunError, match="the train data is not what this run began with"):
        train_run(chosen, Listener())
    shutil.copy(folder / "train.jsonl", copied)
    train_run(chosen, Listener())
    # as if it had been killed before its first checkpoint, and another run now stood where it started from
    shutil.rmtree(run.path / "checkpoints")
    for pointer in ("best.json", "latest.json"):
        (run.path / pointer).unlink()
    run.update_info(training={})
    shutil.rmtree(copied / "lm")
    shutil.copytree(copied / "lstm", copied / "lm")
    with pytest.raises(RunError, match="lm is not what it was when this run began"):
        train_run(chosen, Listener())
    damage(run.path / "reference.json")
    with pytest.raises(RunError, match=r"reference.json: is not the file this run was trained with"):
        train_run(chosen, Listener())


def test_pairs_are_scored_with_the_kept_reference_or_that_of_the_start(
    trained: Run, folder: Path, tmp_path: Path
) -> None:
    scores = evaluate_run(trained, (), "", (), Listener())
    assert scores["examples"] == 11
    assert not unknown_scores(scores)
    assert scores["longer_accuracy"] == (50.0 if "mt" in trained.name else 0.0)
    suffix = "-mt" if "mt" in trained.name else ""
    shutil.copy(folder / f"test{suffix}.jsonl", other := tmp_path / "other.jsonl")
    with other.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"prompt": "ba", "chosen": "ko", "rejected": "mi"}) + "\n")
    more = evaluate_run(trained, (str(other),), "", (), Listener())
    assert more["examples"] == 12
    assert more["reward_chosen"] == pytest.approx(scores["reward_chosen"], abs=0.2)
    start = Path(load_run(trained, GradientConfig).config.begins_with)
    start.rename(start.with_name("away"))
    try:
        assert evaluate_run(trained, (), "", (), Listener())["accuracy"] == scores["accuracy"]
        with pytest.raises(RunError, match="is not there, or has changed"):
            evaluate_run(trained, (str(other),), "", (), Listener())
    finally:
        start.with_name("away").rename(start)


def test_for_all_else_it_is_a_run_as_any_other(trained: Run, folder: Path, tmp_path: Path) -> None:
    predictor = seqloom.load(trained)
    if "mt" in trained.name:
        assert len(predictor(["ba ko"], max_length=5)) == 1
        test = tuple(str(folder / f"pairs.{side}") for side in ("src", "tgt"))
        assert "bleu" in evaluate_run(trained, test, "", (), Listener())
    else:
        assert predictor("ba", max_length=5).startswith("ba")
        test = (str(folder / "text.txt"),)
        assert evaluate_run(trained, test, "", (), Listener())["perplexity"] > 1
        if "text" in trained.name:
            with pytest.raises(UsageError, match="was not trained on conversations"):
                Conversation(trained.path, (), Listener())
        else:
            assert (
                "".join(Conversation(trained.path, ("--decoding.max_length", "5"), Listener()).reply("ba")) is not None
            )
    write_report(trained, Listener())
    shutil.copytree(trained.path, twin := tmp_path / "twin")
    for to, files in (("pairs", ()), ("texts", test)):
        result = compare_runs([trained, twin], tmp_path / to, Listener(), files)
        assert [row["name"] for row in result["systems"]] == [trained.name, "twin"]


# Bad input


def test_what_has_no_answers_is_no_start(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="by a model that already answers"):
        config(folder, "lm-text", tmp_path / "run", start="").prepare(Listener())
    with pytest.raises(ConfigError, match=r"not 'encoder-decoder' .*; for that one the task is 'prefer_translations'"):
        config(folder, "lm-text", tmp_path / "run", start=str(folder / "mt"))
    with pytest.raises(ConfigError, match=r"not 'decoder-only' .*; for that one the task is 'prefer'"):
        config(folder, "mt", tmp_path / "run", start=str(folder / "lm"))
    with pytest.raises(ConfigError, match="an encoder-decoder reads no conversations"):
        config(folder, "mt-dialogue", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"data.margin is for the task 'reward'"):
        config(folder, "lm-text", tmp_path / "run", data={"train": ["x.jsonl"], "margin": "by"})
    with pytest.raises(RunError, match="no such run"):
        config(folder, "lm-text", tmp_path / "run", start="nowhere").prepare(Listener())
    assert not (tmp_path / "run").exists()


def test_pairs_without_a_difference_are_counted(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": f"ba {i}", "chosen": "ko", "rejected": "mi" if i % 2 else "ko"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    listener = Listener()
    data = {"train": [str(path)], "valid": [str(folder / "valid.jsonl")]}
    prepared = config(folder, "lm-text", tmp_path / "run", data=data).prepare(listener)
    assert {row["split"]: row["pairs"] for row in prepared.summary()} == {"train": 20, "valid": 9}
    assert listener.warnings == ["train: 20 pairs without a difference in what is read"]
    path.write_text("".join(json.dumps(row | {"rejected": "ko"}) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match="no pair of answers of train differs\\n  name files of pairs"):
        config(folder, "lm-text", tmp_path / "run", data=data).prepare(Listener())


@pytest.mark.parametrize("chat", [False, True])
def test_long_prompts_lose_their_beginning_and_long_answers_their_end(chat: bool) -> None:
    tokenizer = with_chat(train_tokenizer(BPE(size=290), sentences(60, 1)))
    prompts = ["ba ko", " ".join(["mi"] * 40), "lan"]
    answers = ["tesu", "gor", " ".join(["shi"] * 40)]
    rows = [
        Preference((Message("user", p),) if chat else p, answer, "ve")
        for p, answer in zip(prompts, answers, strict=True)
    ]
    whole = encode_continuations(rows, tokenizer, 10_000)
    assert whole.lost == ""
    for pair, row in zip(whole.pairs, rows, strict=True):
        end = [chat_token(tokenizer, END)] if chat else [tokenizer.end, tokenizer.stop]
        assert all(answer[-len(end) :].tolist() == end for answer in pair.answers)
        if chat:
            said = [*row.prompt, Message("assistant", row.chosen)]
            assert pair.rows[0].tolist() == encode_chats([said], tokenizer)[0][0].tolist()
        else:
            assert (
                pair.rows[0][:-2].tolist() == encode_beginnings([f"{row.prompt} {row.chosen}"], tokenizer)[0].tolist()
            )
    cut = encode_continuations(rows, tokenizer, 19)
    assert cut.lost == "2 prompts cut to what is read; 1 answer cut off"
    for before, after in zip(whole.pairs, cut.pairs, strict=True):
        assert max(map(len, after.rows)) <= 20
        assert after.prompt[0] == before.prompt[0] == tokenizer.start
        assert after.prompt[1:].tolist() == before.prompt[len(before.prompt) - len(after.prompt) + 1 :].tolist()
        for a, b in zip(before.answers, after.answers, strict=True):
            assert b.tolist() == a[: len(b)].tolist()
    assert [len(a) for a in cut.pairs[1].answers] == [len(a) for a in whole.pairs[1].answers]
