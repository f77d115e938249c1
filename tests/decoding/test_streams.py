"""Processes that work side by side: in order, with every error, and none is left behind."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch
from torch import nn

from seqloom.decoding import streams as module
from seqloom.decoding.streams import Streams, forked
from seqloom.errors import DataError, MissingExtra, UsageError
from seqloom.text.tokenizer import BPE
from seqloom.text.training import train_tokenizer

pytestmark = pytest.mark.skipif(not module.CAN_FORK, reason="this system cannot fork what has used threads")


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    before = active_children()
    yield
    assert [process for process in active_children() if process not in before] == []


def test_results_are_in_order_whoever_is_ready_takes_the_next_call() -> None:
    others_are_done = get_context("fork").Event()

    def work(number: int) -> tuple[int, int, int]:
        if number == 7:
            others_are_done.set()
        if number == 0:
            assert others_are_done.wait(30)
        return number, os.getpid(), torch.get_num_threads()

    streams = Streams(work, 2)
    for _ in range(2):  # they stay
        others_are_done.clear()
        results = streams([(i,) for i in range(8)])
        assert [number for number, _, _ in results] == [*range(8)]
        first, *others = [process for _, process, _ in results]
        assert {*others} == {process.pid for process in streams._processes} - {first}
        assert {threads for _, _, threads in results} == {1}
    assert streams([]) == []
    assert streams([(5,)])[0][0] == 5
    streams.close()
    streams.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("is wrong", where="text 3", cure="mend it"), DataError),
        (OSError(errno.ENOSPC, "is full"), OSError),
        (MissingExtra("this", "that"), RuntimeError),  # pickle cannot make it again
        (SystemExit(3), SystemExit),
    ],
)
def test_an_error_is_raised_here(error: BaseException, expected: type[BaseException]) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise error
        return number

    with pytest.raises(expected) as raised:
        Streams(work, 2)([(i,) for i in range(9)])
    assert str(error) in str(raised.value)
    assert getattr(raised.value, "cure", "") == getattr(error if expected is DataError else None, "cure", "")
    assert expected is RuntimeError or "in work" in raised.value.__notes__[0]


def test_a_process_that_the_system_ends_is_an_error() -> None:
    def work(number: int) -> None:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UsageError, match=r"was ended by SIGKILL\n  if there was too little memory"):
        Streams(work, 2)([(i,) for i in range(9)])
    streams = Streams(work, 2)
    assert streams([(1,)] * 4) == [None] * 4
    os.kill(streams._processes[1].pid, signal.SIGKILL)
    streams._processes[1].join()
    with pytest.raises(UsageError, match="was ended by SIGKILL"):
        streams([(1,)] * 4)
    with pytest.raises(UsageError, match="was ended before its time"):
        Streams(lambda: os._exit(0), 2)([()])


def test_an_interrupt_ends_all_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    def work(*parents: int) -> None:
        for process in (os.getpid(), *parents):
            os.kill(process, signal.SIGINT)
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        Streams(work, 2)([(), (os.getpid(),)])
    assert capfd.readouterr() == ("", "")


def ends(of: Callable[[], BaseProcess]) -> bool:
    """Whether all processes end that have the end of a pipe which they get."""
    reading, writing = os.pipe()
    process = of()
    os.close(writing)
    process.join()
    ended = bool(select.select([reading], [], [], 20)[0])
    os.close(reading)
    return ended


@pytest.mark.parametrize("busy", [False, True])
def test_they_end_with_their_parent(busy: bool) -> None:
    def parent() -> None:
        streams = Streams(lambda: time.sleep(0.3), 3)
        for connection in streams._connections[: 3 * busy]:
            connection.send((0, ()))
        os.kill(os.getpid(), signal.SIGKILL)

    def started() -> BaseProcess:
        process = get_context("fork").Process(target=parent)
        with module._forking():
            process.start()
        return process

    assert ends(started)


def test_threads_that_have_computed_here_are_not_missed_there(capfd: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(2)
    model, x = nn.Sequential(nn.Linear(300, 300), nn.LayerNorm(300)), torch.randn(200, 300)
    tokenizer = train_tokenizer(BPE(size=270), ["one two three"] * 3)

    def work() -> tuple[torch.Tensor, int]:
        return model(x).detach().sum().item(), len(tokenizer.encode(["one two"] * 200))

    for kept in (None, "true"):
        os.environ.pop(module._TOKENIZERS, None)
        os.environ.update({} if kept is None else {module._TOKENIZERS: kept})
        for _ in range(5):
            torch.set_num_threads(2)
            model(x)
            work()
            streams: Any = forked(work, 2)
            torch.set_num_threads(1)
            assert streams([()] * 4) == [work()] * 4
            streams.close()
        assert os.environ.pop(module._TOKENIZERS, None) == kept
    assert capfd.readouterr() == ("", "")


def test_where_there_is_no_room_or_no_fork_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, forks = os.fork, list[int]()

    def full() -> int:
        if forks:
            raise BlockingIOError(errno.EAGAIN, "no room")
        forks.append(fork())
        return forks[0]

    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", full)
        assert forked(print, 2) is None
    assert len(forks) == 1
    monkeypatch.setattr(module, "CAN_FORK", False)
    assert forked(print, 2) is None
