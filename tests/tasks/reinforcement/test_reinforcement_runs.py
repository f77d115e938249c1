"""Whole runs that learn from rewards, made small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import Call
from made_up import sentences
from starts import make_starts
from toys import Listener

from seqloom.data.rows import Prompt
from seqloom.decoding.config import Sampling
from seqloom.errors import DataError
from seqloom.run import Run
from seqloom.tasks import load
from seqloom.tasks.building import begin
from seqloom.tasks.reinforcement.rewards import LengthReward, PatternReward, RunReward, judged
from seqloom.tasks.reinforcement.rollouts import (
    Asked,
    Policy,
    PromptBatches,
    Reading,
    Reference,
    RolloutConfig,
    Rollouts,
)

BASES = ("lm", "lstm", "mt")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs to start from, and prompts."""
    made = tmp_path_factory.mktemp("start")
    rows = [{"prompt": line, "right": line.split()[0]} for line in sentences(24, 5)]
    (made / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (made / "prompts.txt").write_text("\n\n".join(sentences(24, 5)), encoding="utf-8")
    make_starts(made, steps=40, evaluate_every=40, threads=1, precision="fp32")
    return made


def write_config(folder: Path, base: str, more: str = "", form: str = "text", reward: str = "") -> str:
    if base == "mt":
        pair = [str(folder / f"pairs.{end}") for end in ("src", "tgt")]
        data = f'kind = "files"\ntrain = {pair}\nvalid = {pair}'
    else:
        data = f'train = ["{folder / "prompts.jsonl"}"]\nform = "{form}"\nanswer = "right"'
    text = f"""\
task = "reinforce{"_translations" if base == "mt" else ""}"
start = "{folder / base}"
data = {{{", ".join(data.splitlines())}}}
reward = {{{reward or 'kind = "length", words = 3'}}}
batches = {{prompts = 3, answers = 5, length = 40, answer = 9, updates = 2}}
optimizer = {{lr = 0.01}}
schedule = {{kind = "noam", warmup = 1}}
{more}
[training]
steps = 5
evaluate_every = 2
log_every = 1
threads = 1
precision = "fp32"
"""
    Path("rl.toml").write_text(text.replace("'", '"'), encoding="utf-8")
    return "rl.toml"


OBJECTIVES = {
    "rloo": "",
    "grpo": 'objective = {kind = "grpo", kl = "loss", deviation = true, weigh = "answers"}',
    "reinforce": 'objective = {kind = "reinforce", clip = 0.1}',
    "ppo": 'objective = {kind = "ppo"}',
    "minimum-risk": 'objective = {kind = "minimum-risk"}',
    "online-dpo": 'objective = {kind = "online-dpo"}',
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_learns_from_rewards_and_resumes_to_the_bit(
    call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, objective: str
) -> None:
    monkeypatch.chdir(tmp_path)
    adapt = '\nadapt = {kind = "lora", rank = 2}' if objective in ("rloo", "ppo") else ""
    path = write_config(bases, base, OBJECTIVES[objective] + adapt)
    result = call("train", path, "--run", "whole")
    assert result.code == 0, result.err
    rows = [row for row in Run.open("whole").rows("metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert abs(rows[4]["kl"]) > 1e-3
    assert rows[0]["reward"] == rows[1]["reward"]  # two updates of the same answers
    assert {"reward", "divergence", "win_rate", "entropy"} <= Run.open("whole").rows("metrics.jsonl")[2].keys()
    for steps in ("1", "4", "5"):  # between the updates of the same answers, too
        assert call("train", path, "--run", "parts", "--training.steps", steps, "-q").code == 0
    newest = [Run.open(name).newest(print) for name in ("whole", "parts")]
    first, second = (checkpoint.weights.read_bytes() for checkpoint in newest if checkpoint is not None)
    assert first == second
    assert b"critic" not in first
    files = sorted(bases.glob("pairs.*" if base == "mt" else "prompts.jsonl"))
    scored = call("eval", "whole", "-q", "--json", "--test", *files)
    assert scored.code == 0, scored.err
    assert ("bleu" if base == "mt" else "reward_start") in json.loads(scored.out)
    assert call("report", "whole", "-q").code == 0
    if base == "mt":
        compared = call("compare", bases / base, "whole", "-q", "--to", "to", "--test", *files)
        assert compared.code == 0, compared.err


def test_the_road_from_conversations_to_rewards_ends_in_chat(
    call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(bases, "lm", form="instruction", reward='kind = "exact"')
    assert call("train", path, "--run", "tuned", "-q").code == 0
    assert list(load("tuned").reply([]))  # a conversation without messages is answered, too
    assert call("check", path, "-q").code == 0


def test_a_changed_judge_gives_other_rewards(call: Call, bases: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": s, "chosen": s.split()[0], "rejected": f"{s} no"} for s in sentences(30, 4)]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    text = f'task = "reward"\nstart = "{bases / "lm"}"\n[data]\ntrain = ["pairs.jsonl"]\n[training]\nsteps = 2\n'
    Path("judge.toml").write_text(text + "evaluate_every = 2\nthreads = 1\n", encoding="utf-8")
    assert call("train", "judge.toml", "--run", "judge", "-q").code == 0
    path = write_config(bases, "lm", reward='kind = "run", run = "judge"')
    assert call("train", path, "--run", "run", "--training.steps", "2", "-q").code == 0
    judge = RunReward("judge").judge()  # whatever a model writes
    assert len(judge([Prompt("ba")] * 4, ["", " ", "\0\t", "ko"])) == 4
    shutil.rmtree("judge")
    assert call("train", "judge.toml", "--run", "judge", "--seed", "2", "-q").code == 0
    call("train", path, "--run", "run", "-q").refused(2, "judge: is not what it was when this run began")


def rollouts(bases: Path, base: str, temperature: float = 1.0) -> tuple[Any, Rollouts, PromptBatches]:
    """A model, its rollouts on the prompts, and the prompts by step."""
    tree: dict[str, Any] = {"start": str(bases / base), "reward": {"kind": "length", "words": 3}}
    tree["batches"] = {"prompts": 3, "answers": 5, "length": 40, "answer": 9, "temperature": temperature}
    from seqloom.config import build
    from seqloom.tasks import task_class

    if base == "mt":
        pair = [str(bases / f"pairs.{end}") for end in ("src", "tgt")]
        tree |= {"task": "reinforce_translations", "data": {"kind": "files", "train": pair, "valid": pair}}
    else:
        tree |= {"task": "reinforce", "data": {"train": [str(bases / "prompts.jsonl")]}}
    config: Any = build(task_class(tree["task"]), tree)
    assets = config.started(None)
    model = config.build(assets)
    begin(config, model, assets, Listener())
    rows = config.asked(Listener())["train"]
    policy = Policy(config, config.predictor(model, assets), config.start_token(assets))
    judge = config.reward.judge()
    encoded = config.encoded(rows, "train", assets, Listener())
    return (
        model,
        Rollouts(policy, Asked(rows, encoded, judge), Reference(model), Listener().warn),
        PromptBatches(len(rows), config.batches, 1),
    )


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_of_sampling_are_those_of_learning(bases: Path, base: str, temperature: float) -> None:
    model, learning, batches = rollouts(bases, base, temperature)
    policy = learning.policy
    prompts = [learning.asked.encoded[i] for i in batches(0).rows]
    sampling = Sampling(n_best=4, temperature=temperature, seed=3, max_length=9)
    model.eval()
    if base == "mt":
        results = policy.predictor.hypotheses(prompts, sampling)
    else:
        from seqloom.decoding.job import Request

        request = Request(9, policy.predictor.tokenizer.stop)
        results = policy.predictor.engine.generate([p.tolist() for p in prompts], request, sampling)
    end = policy.config.end(policy.predictor)
    answers = [np.array([*h.ids, end]) for each in results for h in each]
    repeated = [p for p in prompts for _ in range(4)]
    width = max(map(len, answers))
    mask = torch.arange(width) < torch.tensor([len(answer) for answer in answers])[:, None]
    read = Reading(model, repeated, answers, policy.start, mask)
    with torch.no_grad():
        again = read.log_p(read.hidden(), 1.0).sum(1)
    expected = [h.log_p for each in results for h in each]
    assert again.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("base", BASES)
def test_the_first_loss_is_that_of_a_ratio_of_one_without_dropout(bases: Path, base: str) -> None:
    model, learning, batches = rollouts(bases, base)
    loss = learning(model, batches(0))
    again = learning(model, batches(0), loss.carry)
    assert loss.nll == again.nll
    assert loss.scores["clipped"] == 0
    assert loss.tokens == 15
    assert loss.carry["reference"].allclose(loss.carry["sampled"], atol=1e-5)
    ended = loss.carry["ended"]
    last = loss.carry["ids"].gather(1, (loss.carry["ids"] >= 0).sum(1, keepdim=True) - 1)[:, 0]
    end = learning.policy.config.end(learning.policy.predictor)
    assert torch.equal(last == end, ended)  # the end is learned, and no other token is one


def test_prompts_come_once_in_each_epoch() -> None:
    batches = PromptBatches(7, RolloutConfig(prompts=3, answers=2, updates=2), 5)
    assert batches.per_epoch == 6
    epoch = [batches(step).rows for step in range(0, 6, 2)]
    assert {row for rows in epoch for row in rows} == set(range(7))
    assert [batches(step).update for step in range(4)] == [0, 1, 0, 1]
    assert batches(2).rows == batches(3).rows != batches(8).rows


def test_a_rewarded_word_is_written_more_often(
    call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(bases, "lm", 'objective = {kind = "rloo", beta = 0.0}', reward='kind = "pattern", pattern = "ba|ko"')
    steps = "--training.steps", "40", "--training.evaluate_every", "40", "--batches.prompts", "8"
    result = call("train", "rl.toml", "--run", "run", "-q", *steps)
    assert result.code == 0, result.err
    scores = Run.open("run").rows("metrics.jsonl")[-1]
    assert scores["reward"] > scores["reward_start"] + 0.2


REWARD = """\
def plain(prompt, answer):
    return len(answer)

def compared(prompt, answer, reference):
    return float(reference in answer)

def raises(prompt, answer):
    raise KeyError("lost")

def undefined(prompt, answer):
    return float("nan")

def constant(prompt, answer):
    return 1
"""


def test_a_function_rewards(call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_rewards.py").write_text(REWARD, encoding="utf-8")
    for name in ("plain", "compared"):
        path = write_config(bases, "lm", reward=f'kind = "python", function = "own_rewards:{name}"')
        assert call("train", path, "--run", name, "-q").code == 0
    for name, words in (
        ("raises", ("the reward: raises KeyError: 'lost'", "its batch begins with", "->")),
        ("undefined", ("the reward: gives an answer nan",)),
    ):
        path = write_config(bases, "lm", reward=f'kind = "python", function = "own_rewards:{name}"')
        call("train", path, "--run", name, "-q").refused(3, *words, "mend it; no step was taken")
    for function in ("own_rewards:nothing", "no_such_module:f", "own_rewards"):
        path = write_config(bases, "lm", reward=f'kind = "python", function = "{function}"')
        call("train", path, "--run", "none", "-q").refused(2, "reward.function", "cannot be used")
        assert not Path("none").exists()
    path = write_config(bases, "lm", reward='kind = "python", function = "own_rewards:constant"')
    result = call("train", path, "--run", "constant", "--training.steps", "24")
    assert "have the reward 1: nothing is learned" in result.err


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"reward": 'kind = "pattern", pattern = "("'}, 2, ("reward", "no regular expression")),
        ({"reward": 'kind = "run", run = "nowhere"'}, 2, ("no such run",)),
        ({"more": 'objective = {kind = "minimum-risk", kl = "loss"}'}, 2, ("objective", "must be 'reward'")),
        ({"more": 'objective = {kind = "online-dpo", beta = 0}'}, 2, ("objective", "beta above 0")),
    ],
)
def test_what_gives_no_rewards_is_refused(
    call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Any, code: int, words: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(bases, "lm", **more)
    call("train", path, "--run", "run", "-q").refused(code, *words, cured="no such run" in words)
    assert not Path("run").exists()


def test_a_run_that_rewards_is_a_classifier_or_a_reward_model(
    call: Call, bases: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(bases / "lm")
    path = write_config(bases, "lm", reward=f'kind = "run", run = "{run}"')
    call("train", path, "--run", "run", "-q").refused(2, "gives no rewards", "'reward' or 'classify'")


def test_right_answers_must_be_there(call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(bases, "lm", reward='kind = "chrf"')
    call("train", path, "--run", "run", "-q", "--data.answer", "").refused(3, "compares with right answers")
    call("train", path, "--run", "run", "-q", "--data.answer", "rihgt").refused(3, "no field 'rihgt'", "right")


def test_a_changed_start_is_no_reference(call: Call, bases: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(bases, "lm")
    assert call("train", path, "--run", "run", "--training.steps", "2", "-q").code == 0
    call("train", path, "--run", "run", "--start", str(bases / "lstm"), "-q").refused(2, "start")


def test_plain_lines_are_prompts(call: Call, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(bases, "lm")
    lines = "--data.train", str(bases / "prompts.txt"), "--data.answer", "", "--data.words", "2"
    result = call("train", path, "--run", "run", *lines)
    assert result.code == 0, result.err
    samples = Run.open("run").rows("samples.jsonl")
    assert all(len(row["prompt"].split()) <= 2 for row in samples)
    assert all(row["text"].startswith(row["prompt"]) and row["start"].startswith(row["prompt"]) for row in samples)


def test_rewards_are_finite_numbers_one_for_each_answer() -> None:
    rows = [Prompt("ba"), Prompt("ko")]
    assert judged(LengthReward(words=2).judge(), rows, ["a b", "a b c"]) == [1.0, 0.5]
    assert judged(PatternReward("^a").judge(), rows, ["ab", "ba"]) == [1.0, 0.0]
    with pytest.raises(DataError, match="1 rewards for 2 answers"):
        judged(lambda prompts, answers: [1.0], rows, ["a", "b"])
    with pytest.raises(DataError, match="inf"):
        judged(lambda prompts, answers: [1.0, float("inf")], rows, ["a", "b"])
