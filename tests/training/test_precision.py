from __future__ import annotations

from collections.abc import Iterator

import pytest

from seqloom.errors import UsageError
from seqloom.training import precision
from seqloom.training.precision import FreedMemory, pick_device


def given_back(monkeypatch: pytest.MonkeyPatch, held: Iterator[int], steps: int, kept: bool = True) -> list[int]:
    """The steps after which memory was given back, when so much was held after each."""
    found: list[int] = []
    steps_taken = iter(range(1, steps + 1))
    now = [0]

    class Libc:
        def malloc_trim(self, pad: int) -> int:
            found.append(now[0])
            return 1

    monkeypatch.setattr(precision, "_kept", [kept])
    monkeypatch.setattr(precision, "resident_bytes", lambda: next(held))
    monkeypatch.setattr(precision.ctypes, "CDLL", lambda name: Libc())
    memory = FreedMemory()
    for now[0] in steps_taken:
        memory.after_step()
    return found


def test_every_fifty_steps(monkeypatch):
    assert given_back(monkeypatch, iter([100] * 120), 120) == [50, 100]


def test_when_half_as_much_again_is_held(monkeypatch):
    held = iter([100, 120, 140, 160, 110, 164, 166, 90, 90])
    assert given_back(monkeypatch, held, 9) == [4, 7]


def test_never_where_freed_memory_is_not_kept(monkeypatch):
    assert given_back(monkeypatch, iter([100, 900] * 60), 120, kept=False) == []


@pytest.mark.parametrize("name", ["meta", "cupboard", "cpu:x", "", "x" * 10_000])
def test_a_device_that_nothing_can_be_computed_on(name):
    with pytest.raises(UsageError, match="no device"):
        pick_device(name)
