from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqloom.errors import UsageError
from seqloom.training import precision
from seqloom.training.precision import FreedMemory, free_bytes, pick_device, shortage


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


# Free memory

CPU = torch.device("cpu")
MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\nSwapFree: 300 kB\n"
STAT = "anon 1\nactive_file 20480\ninactive_file 10240\ntotal_active_file 4096\ntotal_inactive_file 1024"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def group(folder: Path, limit: str, used: int, version: int = 2) -> None:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip((*names, "memory.stat"), (limit, str(used), STAT), strict=True):
        write(folder / name, f"{text}\n")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 5,000 KiB of memory, 300 KiB of swap space, and no limits."""
    monkeypatch.setattr(precision, "PROC", tmp_path / "proc")
    monkeypatch.setattr(precision, "GROUPS", tmp_path / "groups")
    write(tmp_path / "proc" / "meminfo", MEMINFO)
    write(tmp_path / "proc" / "self" / "cgroup", "0::/a/b:c\n")
    return tmp_path


def test_free_memory_is_what_the_system_can_reclaim_and_swap_space(system):
    assert free_bytes(CPU) == 5300 * 1024


@pytest.mark.parametrize(
    ("place", "limit", "free"),
    [
        ("groups/a/b:c", "3072000", 3000 * 1024),
        ("groups/a", "3072000", 3000 * 1024),  # of the group above
        ("groups", "3072000", 3000 * 1024),  # as a container sees its own
        ("groups/a/b:c", "max", 5000 * 1024),
        ("groups/other", "3072000", 5000 * 1024),
        ("", "3072000", 5000 * 1024),
    ],
)
def test_memory_ends_where_a_control_group_ends(place, limit, free, system):
    group(system / place, limit, used=30720)  # all of which is page cache
    assert free_bytes(CPU) == free + 300 * 1024


def test_the_smallest_of_the_limits_counts(system):
    group(system / "groups" / "a", "2048000", used=102400)
    group(system / "groups" / "a" / "b:c", "3072000", used=102400)
    assert free_bytes(CPU) == 2048000 - 102400 + 30720 + 300 * 1024


def test_version_1_of_control_groups(system):
    write(system / "proc" / "self" / "cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n")
    group(system / "groups" / "memory", str(2**63 - 4096), used=4096, version=1)
    group(system / "groups" / "memory" / "a", "2048000", used=102400, version=1)
    assert free_bytes(CPU) == 2048000 - 102400 + 5120 + 300 * 1024


def test_where_the_system_reports_nothing(system):
    (system / "proc" / "meminfo").unlink()
    assert free_bytes(CPU) is None
    assert shortage(1 << 60, CPU) is None
    assert free_bytes(torch.device("meta")) is None


def test_this_system_reports_plausible_values():
    if (free := free_bytes(CPU)) is not None:
        assert 1 << 20 < free < 1 << 50


def test_a_shortage_is_what_lacks_after_freed_memory_is_given_back(monkeypatch):
    free, trims = [100], []

    class Libc:
        def malloc_trim(self, pad: int) -> int:
            trims.append(pad)
            free[0] += 50
            return 1

    monkeypatch.setattr(precision, "_kept", [True])
    monkeypatch.setattr(precision.ctypes, "CDLL", lambda name: Libc())
    monkeypatch.setattr(precision, "free_bytes", lambda device: free[0])
    assert (shortage(100, CPU), trims) == (None, [])
    assert (shortage(150, CPU), trims) == (None, [0])
    assert (shortage(201, CPU), trims) == (200, [0, 0])
