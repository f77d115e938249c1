"""A training in a process of its own that is interrupted, terminated and killed, and resumes to the same bits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import Call

from seqloom.cli import main
from seqloom.run import Run
from seqloom.training.log import Reporter
from seqloom.training.loop import Step

STEPS = 120
COMMAND = ("train", "small.toml", "--training.steps", str(STEPS), "--training.evaluate-every", "50")


@contextlib.contextmanager
def training(run: str) -> Iterator[subprocess.Popen[str]]:
    """A training that reports every step through a pipe so narrow that it cannot end before someone listens."""
    command = [sys.executable, "-m", "seqloom", *COMMAND, "--run", run, "-v"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stderr is not None
        fcntl.fcntl(process.stderr.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    output = ""
    while word not in output:
        line = process.stderr.readline()
        assert line, output
        output += line
    return output


def bits(path: str) -> tuple[object, ...]:
    run = Run.open(path)
    last = run.checkpoints()[-1]
    assert (last.step, last.fault()) == (STEPS, None)
    times = ("seconds", "tokens_per_second")
    rows = [{k: v for k, v in row.items() if k not in times} for row in run.rows("metrics.jsonl")]
    weights = [(last.path / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]
    return weights, rows, run.rows("samples.jsonl")


@pytest.fixture(scope="module")
def straight(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """What the same training leaves when nothing stops it."""
    folder = tmp_path_factory.mktemp("straight")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    with contextlib.chdir(folder):
        main([*COMMAND, "--run", "straight", "-q"])
        return bits("straight")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_stopped_by_a_signal_it_saves_and_the_same_command_resumes(call: Call, folder, straight, number, code):
    with training("new") as process:
        output = read_until(process, "step 3/")
        process.send_signal(number)
        _, rest = process.communicate()
    output += rest
    assert process.returncode == code
    assert "Traceback" not in output
    stopped = int(re.findall(r"step (\d+)/", output)[-1])
    assert 3 <= stopped < STEPS
    assert f"seqloom: stopped and saved after step {stopped}\n  start the same command again: it resumes\n" in output
    assert Run.open("new").checkpoints()[-1].step == stopped
    assert "training" not in Run.open("new").info()
    result = call(*COMMAND, "--run", "new")
    assert result.code == 0
    assert f"resuming after step {stopped} of {STEPS}" in result.err
    assert bits("new") == straight


def test_killed_in_the_middle_it_goes_on_from_the_last_checkpoint(call: Call, folder, straight):
    with training("new") as process:
        read_until(process, "step 55/")
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = [c.step for c in Run.open("new").checkpoints()]
    assert left in ([50], [50, 100])
    result = call(*COMMAND, "--run", "new")
    assert result.code == 0
    assert f"resuming after step {left[-1]} of {STEPS}" in result.err
    assert bits("new") == straight
    assert [p.name for p in Path("new/checkpoints").iterdir() if p.name.startswith(".")] == []


def test_a_second_interrupt_quits_without_saving(call: Call, folder, monkeypatch):
    true = Reporter.step

    def step(self: Reporter, step: Step) -> None:
        true(self, step)
        if step.number == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Reporter, "step", step)
    result = call("train", "small.toml", "--run", "new", "-q")
    assert (result.code, result.out, result.err) == (130, "", "")
    assert [c.step for c in Run.open("new").checkpoints()] == [2]


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT as a terminal sends it; a shell lets what it starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt_before_training_begins(call: Call, folder, monkeypatch):
    monkeypatch.setattr("seqloom.data.sources.pairs.Files.splits", lambda data: signal.raise_signal(signal.SIGINT))
    result = call("train", "small.toml", "--run", "new", "-q")
    assert (result.code, result.err) == (130, "")
    assert not Path("new").exists()


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("module", ["cyclopts", "rich.console", "seqloom.cli.translate"])
def test_an_interrupt_while_the_command_line_is_imported(module):
    """Also where the module turns the exception into another, as Python 3.11 does while it makes a class."""
    script = f"""
import signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "{module}":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError
sys.meta_path.insert(0, Interrupts())
from seqloom.cli import main
main(["translate", "run", "ba"])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
