"""A budget in minutes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from calls import Call
from hypothesis import given
from hypothesis import strategies as st

from seqloom.config import load
from seqloom.errors import ConfigError, UsageError
from seqloom.run import Run
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.tasks.task import GradientConfig
from seqloom.tasks.word_vectors.task import EmbedWordsConfig
from seqloom.training.config import TrainingConfig
from seqloom.training.schedule import Cosine, Schedule
from seqloom.workflows.estimate import paced, resumed

BUDGET = ["--training.minutes", "0.01", "--training.evaluate_every", "3"]


@given(
    minutes=st.floats(0.1, 1000),
    step=st.floats(1e-4, 2),
    evaluation=st.floats(0, 600),
    every=st.integers(1, 10**5),
    average=st.sampled_from(["none", "best"]),
)
def test_the_steps_fill_the_budget_and_do_not_exceed_it(minutes, step, evaluation, every, average):
    config = TrainingConfig(minutes=minutes, evaluate_every=every, average=average)
    try:
        training = config.within_minutes(step, evaluation)
    except UsageError:
        assert 60 * minutes <= (1 + (average == "best")) * evaluation + 1.25 * step + 1e-6
        return
    evaluations = -(-training.steps // training.evaluate_every) + (average == "best")
    spent = training.steps * step + evaluations * evaluation
    assert spent <= 60 * minutes * (1 + 1e-9)
    assert spent > 60 * minutes - step - 2.25 * evaluation - 1e-6
    if 8 * evaluation < training.evaluate_every * step and training.steps >= 25:
        assert evaluations >= 4
    assert training.evaluate_every <= max(every, 1 + 4 * evaluation / step)


def test_a_budget_that_no_evaluation_fits_into_is_refused():
    with pytest.raises(UsageError, match=r"0\.1 minutes are too few: an evaluation takes 7\.0 s"):
        TrainingConfig(minutes=0.1).within_minutes(0.1, 7.0)


def test_a_length_that_is_worth_absurdly_many_steps_is_refused():
    with pytest.raises(UsageError, match=r"training\.epochs: 1e\+06 epochs are 10,000,000,000 steps: steps must"):
        TrainingConfig(epochs=1e6).lasting(10_000)
    with pytest.raises(UsageError, match=r"training\.minutes: 1e\+06 minutes are .* steps"):
        TrainingConfig(minutes=1e6).within_minutes(1e-6, 0.0)


@dataclass(frozen=True)
class Config(GradientConfig):
    schedule: Schedule = field(default_factory=lambda: Cosine(warmup=500))


def test_what_the_budget_was_worth_stays_and_more_minutes_are_worth_more():
    typed = Config(training=TrainingConfig(minutes=30.0, evaluate_every=100))
    begun = paced(typed, 1000, 60)
    assert (begun.training.steps, begun.training.evaluate_every, begun.schedule.warmup) == (1000, 60, 100)
    assert resumed(typed, begun) == (begun, begun)
    longer = replace(typed, training=replace(typed.training, minutes=45.0))
    now, before = resumed(longer, begun)
    assert (now.training.steps, now.training.evaluate_every, now.schedule.warmup) == (1500, 60, 100)
    assert before.training == replace(begun.training, minutes=45.0)
    assert resumed(typed, now)[0].schedule == now.schedule  # and back again
    without = replace(typed, training=TrainingConfig(steps=7))
    assert resumed(without, begun) == (without, begun)


def test_training_lasts_as_long_as_asked_and_is_then_like_any_other(call: Call, folder: Path):
    first = call("train", "small.toml", "--run", "first", *BUDGET)
    assert first.code == 0
    assert "0.01 minutes allow " in first.err
    config = load(TranslateConfig, Path("first/config.toml"))
    training = config.training
    assert training.minutes == 0.01
    assert training.steps == Run.open("first").info()["training"]["steps"] > 1
    steps = ["--training.steps", training.steps, "--training.evaluate_every", training.evaluate_every]
    warmup = ["--schedule.warmup", config.schedule.warmup]
    assert call("train", "small.toml", "--run", "second", *steps, *warmup, "-q").code == 0
    weights = [Run.open(name).checkpoints()[-1].path / "model.safetensors" for name in ("first", "second")]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    again = call("train", "small.toml", "--run", "first", *BUDGET)
    assert again.code == 0
    assert "allow" not in again.err
    assert load(TranslateConfig, Path("first/config.toml")) == config
    call("train", "small.toml", "--run", "second", "--training.minutes", "1").refused(
        2, f"second: was begun with {training.steps} steps", "--training.steps N"
    )


def test_check_goes_by_the_budget(call: Call, folder: Path):
    result = call("check", "small.toml", *BUDGET)
    assert result.code == 0
    assert any("minutes" in line and "0.0" in line for line in result.lines)
    negative = call("check", "small.toml", "--training.minutes=-1")
    negative.refused(2, "--training.minutes: expected a number from 0 to 1,000,000, got -1.0")


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (["--training.steps", "7"], (7, 0.0, 0.0)),
        (["--training.epochs", "7"], (9, 7.0, 0.0)),
        (["--training.minutes", "7"], (9, 0.0, 7.0)),
        (["--training.steps", "7", "--training.minutes", "0"], (7, 0.0, 0.0)),
        (["--training.log_every", "7"], (9, 3.0, 30.0)),
    ],
)
def test_a_length_on_the_command_line_takes_the_place_of_the_file_s(tmp_path, typed, left):
    file = tmp_path / "c.toml"
    file.write_text("[training]\nsteps = 9\nepochs = 3\nminutes = 30\n")
    training = load(Config, file, typed).training
    assert (training.steps, training.epochs, training.minutes) == left


def test_a_length_in_a_file_takes_the_place_of_a_default(tmp_path):
    (tmp_path / "text.txt").write_text("ba ko\n")
    file = tmp_path / "c.toml"
    file.write_text("data = {train = ['text.txt']}\n[training]\nsteps = 9\n")
    assert load(EmbedWordsConfig, file).training.epochs == 0
    assert load(EmbedWordsConfig, file, ["--training.epochs", "2"]).training.epochs == 2
    file.write_text("data = {train = ['text.txt']}\n")
    assert load(EmbedWordsConfig, file).training.epochs == 5


def test_two_lengths_on_the_command_line_exclude_each_other(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[training]\nsteps = 9\n")
    with pytest.raises(ConfigError, match="steps and minutes exclude each other"):
        load(Config, file, ["--training.steps", "7", "--training.minutes", "8"])
    with pytest.raises(ConfigError, match="steps and minutes exclude each other"):
        load(Config, file, ["--training.steps", "7", "--training.minutes"])
