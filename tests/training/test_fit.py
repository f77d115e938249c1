from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toys import Listener, Toy, ToyBatch, ToyLoss, damage, toy_model, toy_objective

from seqloom.errors import DivergedError, RunError
from seqloom.files import FROZEN
from seqloom.training.checkpoint import frozen_weights, load_weights, save_frozen
from seqloom.training.config import TrainingConfig
from seqloom.training.fit import Interrupted
from seqloom.training.schedule import Cosine, Plateau

BEST_AT_4 = {2: 10.0, 4: 30.0, 6: 20.0, 8: 25.0, 10: 29.0, 12: 11.0}


def raises_at(step: int, error: type[BaseException]) -> Callable[[int], None]:
    def after(number: int) -> None:
        if number == step:
            raise error

    return after


def signals_at(step: int, *numbers: int) -> Callable[[int], None]:
    def after(number: int) -> None:
        if number == step:
            for one in numbers:
                signal.raise_signal(one)

    return after


def pointed(toy: Toy, name: str) -> dict[str, object]:
    return toy.run.pointer(name)


# What is kept


def test_the_last_two_and_the_best_checkpoint_are_kept(toy):
    toy.scores = BEST_AT_4
    toy.fit(steps=12)
    assert toy.steps == [4, 10, 12]
    assert pointed(toy, "latest") == {"checkpoint": "step-00000012", "step": 12}
    assert pointed(toy, "best") == {"checkpoint": "step-00000004", "step": 4, "bleu": 30.0}
    assert all(c.fault() is None for c in toy.run.checkpoints())
    assert toy.run.best(pytest.fail).step == 4


def test_more_checkpoints_are_kept_where_they_are_asked_for(toy):
    toy.scores = BEST_AT_4
    toy.fit(steps=12, keep=3)
    assert toy.steps == [4, 8, 10, 12]


def test_the_loss_decides_between_equal_scores(toy, monkeypatch):
    toy.scores = {6: 1.0}
    losses = iter([9.0, 7.0, 5.0, 6.0, 4.0, 3.0])
    evaluate = toy._evaluate
    monkeypatch.setattr(toy, "_evaluate", lambda step: ({**evaluate(step)[0], "loss": next(losses)}, []))
    toy.fit(steps=4)
    assert pointed(toy, "best")["step"] == 4
    toy.fit(steps=12)
    assert pointed(toy, "best")["step"] == 6  # a better score beats a lower loss
    toy.scores = {6: 1.0, 14: 1.0, 16: 1.0}
    losses = iter([8.0, 2.0])
    toy.fit(steps=16)
    assert pointed(toy, "best")["step"] == 16


def test_a_finished_training_writes_a_lost_pointer_again(toy):
    toy.scores = BEST_AT_4
    toy.fit()
    before = pointed(toy, "best")
    (toy.run.path / "best.json").unlink()
    toy.fit()
    assert pointed(toy, "best") == before


def test_what_is_best_can_be_the_loss(toy):
    toy.scores = BEST_AT_4
    toy.fit(metric="loss")
    assert pointed(toy, "best") == {"checkpoint": "step-00000004", "step": 4, "loss": 70.0}


def test_the_last_step_is_evaluated_whatever_its_number(toy):
    toy.fit(steps=5)
    assert [row["step"] for row in toy.metrics() if row["kind"] == "valid"] == [2, 4, 5]
    assert toy.steps[-1] == 5


def test_lines_of_metrics(toy):
    toy.fit(log_every=3)
    rows = toy.run.rows("metrics.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == [1, 3, 6]
    assert set(train[0]) == {
        "kind", "step", "tokens", "seconds", "loss", "nll", "norm", "lr", "tokens_per_second"
    }  # fmt: skip
    assert [row["tokens"] for row in train] == [1, 1 + 3 + 5, 1 + 3 + 5 + 2 + 4 + 1]
    assert [row["bleu"] for row in rows if row["kind"] == "valid"] == [0.0] * 4


# Early stopping


@pytest.mark.parametrize("metric", ["bleu", "loss"])
def test_early_stopping(toy, metric):
    toy.scores = BEST_AT_4
    toy.fit(steps=12, patience=2, metric=metric)
    assert toy.steps == [4, 6, 8]
    assert toy.run.newest(pytest.fail).state()["done"] is True
    before = {p: p.stat().st_mtime_ns for p in toy.run.path.rglob("*")}
    toy.fit(steps=12, patience=2, metric=metric)  # started again it is over
    assert {p: p.stat().st_mtime_ns for p in toy.run.path.rglob("*")} == before
    toy.fit(steps=12, patience=4, metric=metric)  # and goes on where it may
    assert toy.steps == [4, 10, 12]


# Resuming


@pytest.fixture(params=["plain", "ema", "accumulate", "bf16", "average"])
def prepare(request: pytest.FixtureRequest) -> Callable[[Toy], Toy]:
    def change(toy: Toy) -> Toy:
        options: dict[str, dict[str, object]] = {
            "plain": {}, "ema": {"ema": 0.8}, "accumulate": {}, "bf16": {"precision": "bf16", "ema": 0.5},
            "average": {"average": "best", "average_count": 2},
        }  # fmt: skip
        toy.options |= options[request.param]
        toy.accumulate = 3 if request.param == "accumulate" else 1
        toy.scores = {2: 5.0, 4: 9.0, 6: 7.0, 8: 8.0}
        return toy

    return change


@pytest.mark.parametrize("stops", [(1,), (4,), (5,), (1, 2, 3, 4, 5, 6, 7)])
def test_stopped_and_resumed_is_the_same_to_the_bit(make_toy, prepare, stops):
    straight, stopped = prepare(make_toy("straight")), prepare(make_toy("stopped"))
    straight.fit()
    for stop in stops:
        with pytest.raises(Interrupted):
            stopped.fit(Listener(signals_at(stop, signal.SIGINT)))
        assert stopped.steps[-1] == stop
    stopped.fit()
    assert stopped.bits() == straight.bits()
    assert stopped.metrics() == straight.metrics()
    assert pointed(stopped, "best") == pointed(straight, "best")


@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_killed_and_resumed_is_the_same_to_the_bit(make_toy, prepare, killed_at):
    straight, killed = prepare(make_toy("straight")), prepare(make_toy("killed"))
    straight.fit()
    with pytest.raises(ZeroDivisionError):
        killed.fit(Listener(raises_at(killed_at, ZeroDivisionError)))
    killed.fit()
    assert killed.bits() == straight.bits()
    assert killed.metrics() == straight.metrics()


def test_a_longer_training_goes_on(toy):
    toy.scores = BEST_AT_4
    toy.fit()
    toy.fit(steps=12)
    assert toy.steps == [4, 10, 12]
    assert [row["step"] for row in toy.metrics() if row["kind"] == "train"] == list(range(1, 13))


def test_plateau_remembers_what_did_not_improve(make_toy):
    rates = []
    for name, stops in (("a", ()), ("b", (5, 7))):
        toy = make_toy(name)
        toy.schedule = Plateau(warmup=2, drop=0.5, patience=2)
        for stop in stops:
            with pytest.raises(Interrupted):
                toy.fit(Listener(signals_at(stop, signal.SIGTERM)), steps=12)
        toy.fit(steps=12)  # the first evaluation is the best: all others bring nothing
        rates.append([row["lr"] for row in toy.metrics() if row["kind"] == "train"])
    assert rates[0] == pytest.approx([0.01] + [0.02] * 5 + [0.01] * 4 + [0.005] * 2)
    assert rates[1] == rates[0]


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(make_toy):
    straight, toy = make_toy("straight"), make_toy("damaged")
    straight.fit()
    with pytest.raises(Interrupted):
        toy.fit(Listener(signals_at(5, signal.SIGINT)))
    for harm in (4, 5):
        damage(toy.checkpoint(harm).path / "optimizer.safetensors")
    listener = toy.fit()
    assert [w.split(" is damaged: ")[0].rsplit("/")[-1] for w in listener.warnings] == [
        "step-00000005",
        "step-00000004",
    ]
    assert "resuming after step 2 of 8" in listener.said
    assert toy.bits() == straight.bits()
    assert toy.metrics() == straight.metrics()


def test_when_every_checkpoint_is_damaged_nothing_is_replaced(toy):
    with pytest.raises(Interrupted):
        toy.fit(Listener(signals_at(3, signal.SIGINT)))
    for checkpoint in toy.run.checkpoints():
        os.truncate(checkpoint.path / "model.safetensors", 5)
    before = toy.metrics()
    with pytest.raises(RunError, match="no checkpoint is undamaged") as caught:
        toy.fit()
    assert f"remove {toy.run.path / 'checkpoints'} and train again" in caught.value.cure
    assert toy.metrics() == before


def test_weights_of_another_shape_are_refused(toy):
    toy.fit(steps=2)
    with pytest.raises(RunError, match="do not fit the config"):
        toy.fit(ema=0.5)


# Average and moving average


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("average", "steps"), [("last", [4, 6, 8]), ("best", [2, 6, 8])])
def test_the_mean_of_checkpoints_is_used_where_it_is_better(make_toy, precision, average, steps):
    plain, toy = make_toy("plain"), make_toy("mean")
    plain.schedule = toy.schedule = Cosine(warmup=1)  # Plateau would look at the scores
    plain.fit(precision=precision)
    played = {2: 7.0, 4: 1.0, 6: 8.0, 8: 9.0}
    calls = []

    def score(step: int) -> float:
        calls.append(step)
        return played[step] if len(calls) < 5 else 50.0

    toy.scores = score
    toy.fit(average=average, average_count=3, precision=precision)
    weights = [load_file(toy.checkpoint(step).path / "model.safetensors") for step in steps]
    mean = {n: torch.stack([w[n].double() for w in weights]).mean(0).float() for n in weights[0]}
    found = load_file(toy.run.path / "checkpoints" / "average" / "model.safetensors")
    used = toy.seen[-1]
    for name, tensor in mean.items():
        torch.testing.assert_close(found[name], tensor)
        torch.testing.assert_close(used[name], tensor.to(torch.bfloat16).float() if precision == "bf16" else tensor)
    assert pointed(toy, "best") == {"checkpoint": "average", "step": 8, "bleu": 50.0, "averaged": steps}
    assert toy.run.best(pytest.fail).path.name == "average"
    assert toy.bits()[1] == plain.bits()[1]  # training itself has not seen the mean


def test_a_mean_that_is_worse_is_not_used(toy):
    toy.scores = lambda step: 9.0 - step if len(toy.seen) < 5 else -50.0
    toy.fit(average="last", average_count=2)
    assert not (toy.run.path / "checkpoints" / "average").exists()
    assert pointed(toy, "best")["checkpoint"] == "step-00000002"


def test_a_damaged_checkpoint_is_no_part_of_the_mean(toy):
    toy.scores = BEST_AT_4
    with pytest.raises(Interrupted):
        toy.fit(Listener(signals_at(7, signal.SIGINT)), average="last", average_count=3)
    flat = toy.checkpoint(4).path / "model.safetensors"
    flat.write_bytes(b"\xff" * flat.stat().st_size)
    listener = toy.fit(average="last", average_count=3)
    assert any(said.startswith("the mean of 2 checkpoints") for said in listener.said)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_moving_average_is_what_is_evaluated_and_saved_and_training_goes_on_without_it(make_toy, precision):
    toy, rarely = make_toy("often"), make_toy("rarely")
    toy.schedule = rarely.schedule = Cosine(warmup=1)
    toy.fit(ema=0.6, precision=precision)
    rarely.fit(ema=0.6, precision=precision, evaluate_every=8)
    saved = load_file(toy.checkpoint(8).path / "model.safetensors")
    state = load_file(toy.checkpoint(8).path / "optimizer.safetensors")
    for name, tensor in toy.seen[-1].items():
        expected = saved[name].to(torch.bfloat16).float() if precision == "bf16" else saved[name]
        assert torch.equal(tensor, expected)
    assert not torch.equal(state["master"], state["ema"])
    assert toy.bits()[:2] == rarely.bits()[:2]


# What is not finite


def poisoned(step: int) -> Callable[[object, ToyBatch], ToyLoss]:
    def objective(model: object, batch: ToyBatch) -> ToyLoss:
        found = toy_objective(model, batch)
        return ToyLoss(found.value * math.nan, found.nll) if batch.rows[0] == 10 * (step - 1) else found

    return objective


def test_a_loss_that_is_not_finite_never_reaches_a_checkpoint(make_toy):
    straight, toy = make_toy("straight"), make_toy("poisoned")
    straight.fit()
    toy.objective = poisoned(6)
    for _ in range(2):  # the same command again meets it again
        with pytest.raises(DivergedError, match=r"the loss is nan at step 6; .* Its examples: 51\n"):
            toy.fit()
        assert toy.steps == [2, 4]
        assert all(c.fault() is None for c in toy.run.checkpoints())
    for checkpoint in toy.run.checkpoints():
        for name in ("model", "optimizer"):
            assert all(
                bool(t.float().isfinite().all()) for t in load_file(checkpoint.path / f"{name}.safetensors").values()
            )
    toy.objective = toy_objective  # the line mended
    toy.fit()
    assert toy.bits() == straight.bits()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_validation_that_is_not_finite_is_not_saved(toy, bad):
    toy.scores = {4: bad}
    with pytest.raises(DivergedError, match="after step 4; nothing was saved"):
        toy.fit()
    assert toy.steps == [2]


# Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
@pytest.mark.parametrize("step", [3, 4, 8])
def test_a_signal_saves_after_the_step_it_came_in(toy, number, code, step):
    handler = signal.getsignal(number)

    def objective(model: object, batch: ToyBatch) -> ToyLoss:
        if batch.rows[0] == 10 * (step - 1):
            signal.raise_signal(number)
        return toy_objective(model, batch)

    toy.objective = objective
    with pytest.raises(Interrupted, match=f"stopped and saved after step {step}") as caught:
        toy.fit()
    assert caught.value.exit_code == code
    assert "start the same command again: it resumes" in caught.value.cure
    assert toy.steps[-1] == step
    assert toy.run.newest(pytest.fail).step == step
    assert signal.getsignal(number) == handler


def test_a_second_interrupt_quits_at_once(toy):
    with pytest.raises(KeyboardInterrupt):
        toy.fit(Listener(signals_at(3, signal.SIGINT, signal.SIGINT)))
    assert toy.steps == [2]
    with pytest.raises(KeyboardInterrupt):
        toy.fit(Listener(signals_at(3, signal.SIGTERM, signal.SIGINT)))


def test_a_signal_while_the_end_is_being_written_is_not_lost(toy):
    def score(step: int) -> float:
        if len(toy.seen) == 5:
            signal.raise_signal(signal.SIGTERM)
        return 1.0

    toy.scores = score
    with pytest.raises(Interrupted, match="after step 8"):
        toy.fit(average="last")
    assert toy.run.newest(pytest.fail).state()["done"] is False
    toy.fit(average="last")
    assert toy.run.newest(pytest.fail).state()["done"] is True
    assert len(toy.seen) == 6


@pytest.mark.parametrize("evaluated", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"average": "last"}])
def test_a_signal_gives_up_the_evaluation_and_resuming_makes_up_for_it(make_toy, options, evaluated):
    straight, toy = make_toy("straight"), make_toy("stopped")
    straight.scores = toy.scores = {2: 1.0, 4: 3.0, 6: 2.0, 8: 2.5}
    straight.fit(**options)

    def score(step: int) -> float:
        if len(toy.seen) == evaluated:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the evaluation went on")
        return straight.scores[step]

    toy.scores = score
    with pytest.raises(Interrupted, match=f"after step {2 * evaluated}"):
        toy.fit(**options)
    last = toy.run.newest(pytest.fail)
    assert (last.step, last.state()["due"]) == (2 * evaluated, True)
    toy.fit(**options)
    assert toy.bits() == straight.bits()
    assert toy.metrics() == straight.metrics()
    assert toy.run.rows("samples.jsonl") == straight.run.rows("samples.jsonl")
    assert len(toy.run.rows("samples.jsonl")) == 4


def test_outside_the_main_thread_it_trains_as_well(make_toy):
    toy, straight = make_toy("thread"), make_toy("straight")
    thread = threading.Thread(target=toy.fit)
    thread.start()
    thread.join()
    straight.fit()
    assert toy.bits() == straight.bits()


# The rest


def test_tensorboard_files_hold_what_metrics_jsonl_holds(toy):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    toy.scores = BEST_AT_4
    with pytest.raises(ZeroDivisionError):  # after line 5, which a resumed training writes again
        toy.fit(Listener(raises_at(6, ZeroDivisionError)), tensorboard=True)
    toy.fit(tensorboard=True)
    events = accumulator.EventAccumulator(str(toy.run.path / "tensorboard"))
    events.Reload()
    for kind, name in (("train", "loss"), ("train", "lr"), ("valid", "bleu")):
        expected = [(row["step"], row[name]) for row in toy.metrics() if row["kind"] == kind]
        found = [(event.step, event.value) for event in events.Scalars(f"{kind}/{name}")]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)


def test_the_disk_is_full(toy, monkeypatch):
    toy.fit(steps=4)
    before = {p: p.read_bytes() for p in (toy.run.path / "checkpoints").rglob("*") if p.is_file()}

    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device") as caught:
        toy.fit(steps=8)
    assert "free some space and start the same command again" in caught.value.cure
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in (toy.run.path / "checkpoints").rglob("*") if p.is_file()} == before
    toy.fit(steps=8)
    assert toy.steps[-1] == 8


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"evaluate_every": 0}, {"log_every": 0}, {"average_count": 0}, {"ema": 1.0}, {"ema": -0.1},
     {"patience": -1}, {"threads": -1}],
)  # fmt: skip
def test_impossible_values(wrong):
    with pytest.raises(ValueError, match="must"):
        TrainingConfig(**wrong)


def test_cosine_ends_at_its_floor(toy):
    toy.schedule = Cosine(warmup=2, floor=0.1)
    toy.fit()
    rates = [row["lr"] for row in toy.metrics() if row["kind"] == "train"]
    assert rates[1] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "steps"), [(0.0, 3.0, 10), (2.0, 3.0, 6), (0.5, 7.0, 4), (0.01, 3.0, 1)]
)
def test_epochs_give_the_steps(epochs: float, per_epoch: float, steps: int) -> None:
    assert TrainingConfig(steps=10, epochs=epochs).lasting(per_epoch).steps == steps
    with pytest.raises(ValueError, match="epochs"):
        TrainingConfig(epochs=-1.0)


def half_frozen() -> nn.Module:
    model = toy_model()
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpoints_hold_what_is_learned_and_the_run_what_is_frozen(toy: Toy, precision: str) -> None:
    toy.make, toy.scores = half_frozen, float
    exact = toy_model()[0].weight.detach()
    toy.fit(precision=precision, steps=4, average="last", average_count=2)
    assert torch.equal(toy.model[0].weight, exact.to(toy.model[0].weight.dtype))
    assert set(load_file(toy.checkpoint(4).path / "model.safetensors")) == {"0.bias", "3.weight", "3.bias"}
    assert sum(t.numel() for t in load_file(toy.checkpoint(4).path / "optimizer.safetensors").values()) < 64 * 4 * 64
    base = half_frozen()
    assert save_frozen(toy.run.path, base, frozen_weights(base), None) == [toy.run.path / FROZEN]
    for folder in ("step-00000004", "average"):
        whole = toy_model()
        nn.init.zeros_(whole[0].weight)
        load_weights(toy.run.path / "checkpoints" / folder, whole)
        assert torch.equal(whole[0].weight, exact)
