"""The number type to compute in, the device, and the memory of the process."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from seqloom.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
"""Where Linux reports on processes and on control groups."""

# How many compiled kernels oneDNN keeps, and what each takes in bfloat16 (docs/benchmarks.md, "Memory").
KERNELS, KERNEL_BYTES = 4096, 600_000


def processor_flags() -> set[str]:
    """The processor's instruction sets that matter for speed."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    flags = {flag for line in text.split("\n") if line.startswith("flags") for flag in line.split()}
    return flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni"}


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32: with AVX-512 BF16 or AMX, or on a GPU that supports them.

    oneDNN, which computes them, may be kept from these instructions by its environment (ONEDNN_MAX_CPU_ISA).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu" or not processor_flags() & {"avx512_bf16", "amx_bf16"}:
        return False
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dtype_for(precision: Precision | Literal["int8"], device: torch.device) -> torch.dtype:
    """The type of a precision; "auto" is bfloat16 where it is fast, and what is beside 8 bits float32.

    Raises UsageError for 8 bits where there are no kernels.
    """
    if precision == "int8":
        if device.type != "cpu":
            raise UsageError(f"8 bits are for processors, not {device.type}", where="int8", cure='device = "cpu"')
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            raise UsageError("torch has no kernels of 8 bits for this processor", where="int8", cure="leave it out")
    if precision == "auto":
        precision = "bf16" if bf16_is_fast(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def in_8_bits(precision: str) -> Literal["int8"]:
    """The precision of a model whose matrices are rounded to 8 bits. Raises UsageError where another one is named."""
    if precision not in ("auto", "fp32", "int8"):
        raise UsageError(f"8 bits are an own precision, beside {precision}", where="int8", cure="leave one out")
    return "int8"


def slow_here(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products of this type are many times slower than float32: torch computes them in software then."""
    return device.type == "cpu" and dtype != torch.float32 and not bf16_is_fast(device)


def pick_device(name: str) -> torch.device:
    """The device with a name; "auto" is the GPU if there is one. Raises UsageError if there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=name).device
        if device.type == "meta":
            raise NotImplementedError  # it has no numbers
        return device
    except (RuntimeError, AssertionError, NotImplementedError):
        problem = f"this machine has no device {name!r}"
        raise UsageError(problem, where="training.device", cure="cpu is always available") from None


def keep_freed_memory() -> bool:
    """Makes glibc keep freed blocks instead of returning them, and oneDNN keep more compiled kernels.

    The first speeds up training by up to 1.5 times; the second matters because each new shape of a batch is compiled.
    Both affect the whole process, so only the command line calls this. SEQLOOM_KEEP_MEMORY=0 prevents it.
    ONEDNN_PRIMITIVE_CACHE_CAPACITY in the environment takes precedence over KERNELS.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("SEQLOOM_KEEP_MEMORY") == "0":
        return False
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    _kept.append(bool(libc.mallopt(m_mmap_threshold, 1 << 30) and libc.mallopt(m_trim_threshold, 2**31 - 1)))
    return _kept[-1]


class FreedMemory:
    """Returns the freed memory that glibc keeps from time to time: otherwise the gaps between compiled kernels and
    between blocks of many sizes would grow to several times the memory in use.

    It takes a tenth of a second; every 50 steps it has no measurable effect on speed.
    """

    def __init__(self) -> None:
        self._steps, self._needed = 0, 0

    def after_step(self) -> None:
        """Call after each step: returns memory every 50 steps, or when 1.5 times that of the first is held."""
        if not any(_kept):
            return
        self._steps += 1
        held = resident_bytes()
        if self._steps == 1:
            self._needed = held
        if self._steps >= _GIVE_BACK or held > _GROWTH * self._needed:
            ctypes.CDLL(None).malloc_trim(0)
            self._steps = 0


_GIVE_BACK = 50  # steps
_GROWTH = 1.5
_kept: list[bool] = []


def shortage(needed: int, device: torch.device) -> int | None:
    """The free memory of a device where it is less than `needed` bytes; None = it is enough, or not known."""
    free = free_bytes(device)
    if free is not None and needed > free:  # only then may it help to return what this process has freed and keeps
        gc.collect()
        if any(_kept):
            ctypes.CDLL(None).malloc_trim(0)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        free = free_bytes(device)
    return None if free is None or needed <= free else free


def free_bytes(device: torch.device) -> int | None:
    """The memory that a device still has for this process; None where the system does not report it.

    Main memory includes what the system can reclaim and free swap space, and ends where the control groups of the
    process end (the limit of a container).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines)}
        return min([1024 * kilobytes["MemAvailable"], *_rooms()]) + 1024 * kilobytes["SwapFree"]
    except (OSError, ValueError, KeyError):
        return None


def _rooms() -> Iterator[int]:
    """What each memory control group above this process still allows, in version 2 or 1 of the kernel's interface."""
    for line in (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, limit, usage, total = (
            (GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            if controllers
            else (GROUPS, "memory.max", "memory.current", "")
        )
        group = root / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
            try:
                allowed, used = (int((folder / name).read_text(encoding="ascii")) for name in (limit, usage))
                stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            except (OSError, ValueError):  # no such group within a container, or the limit is "max"
                continue
            # The page cache counts as used, and is reclaimed where memory is needed.
            yield allowed - used + sum(int(stat.get(f"{total}{kind}_file", 0)) for kind in ("active", "inactive"))


def peak_bytes(device: torch.device) -> int:
    """The peak memory of this process, on its device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """The main memory that this process holds now; 0 if the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0
