"""Batches side by side: in order, each on one thread, with every error, and none is computed for nobody."""

from __future__ import annotations

import threading

import pytest
import torch

from seqloom.decoding.streams import Streams
from seqloom.errors import DataError


def test_results_are_in_order_and_whoever_is_ready_takes_the_next_call() -> None:
    torch.set_num_threads(2)
    others_are_done = threading.Event()

    def work(number: int) -> tuple[int, str, int]:
        if number == 7:
            others_are_done.set()
        if number == 0:
            assert others_are_done.wait(30)
        return number, threading.current_thread().name, torch.get_num_threads()

    streams = Streams(work, 2)
    for _ in range(2):  # they stay
        others_are_done.clear()
        results = streams([(i,) for i in range(8)])
        assert [number for number, _, _ in results] == [*range(8)]
        first, *others = [thread for _, thread, _ in results]
        assert len({*others} - {first}) == 1
        assert {threads for _, _, threads in results} == {1}
    assert streams([]) == []
    assert torch.get_num_threads() == 2
    streams.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]


def test_an_error_is_raised_and_what_waits_is_left() -> None:
    done, raised = list[int](), threading.Event()

    def work(number: int) -> None:
        if number == 1:
            raise DataError("is wrong", where="text 1")
        if number > 1:
            assert raised.wait(30)
        done.append(number)

    streams = Streams(work, 2)
    with pytest.raises(DataError, match="text 1: is wrong"):
        streams([(i,) for i in range(9)])
    raised.set()
    streams.close()
    assert {*done} <= {0, 2, 3}
