"""Where the processor computes bfloat16 in software, nothing computes in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import SMALL, Call, call
from made_up import write_corpus
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqloom.training import precision

__all__ = ["call"]
HALF = {torch.bfloat16, torch.float16}


class Halves(TorchDispatchMode):
    """Which operations had a tensor of half precision, beside those that convert or move one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = (x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor))
        if any(tensor.dtype in HALF for tensor in tensors):
            self.found.add(str(func))
        return result


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, count, seed in (("train", 30, 1), ("valid", 4, 2), ("test", 6, 3)):
        write_corpus(tmp_path, name, count, seed)
    (tmp_path / "small.toml").write_text(SMALL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("fast", [True, False])
def test_nothing_computes_in_half_precision_where_it_is_slow(call: Call, here, monkeypatch, fast):
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: fast)
    with Halves() as halves:
        assert call("train", "small.toml", "--run", "run", "-q").code == 0
        assert call("translate", "run", "ba ko", "--engine", "torch").code == 0
        assert call("eval", "run", "--test", "test.src", "test.tgt", "-q", "--engine", "torch").code == 0
    assert bool(halves.found) == fast, halves.found


def test_who_asks_for_it_is_told(call: Call, here, monkeypatch):
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: False)
    result = call("train", "small.toml", "--run", "run", "--training.precision", "bf16", "--training.steps", "1")
    assert "this processor computes bfloat16 in software, many times slower" in result.err


def test_instructions_that_the_environment_forbids_do_not_count():
    code = (
        "import torch; from seqloom.training import precision; precision.processor_flags = lambda: {'amx_bf16'}; "
        "print(precision.bf16_is_fast(torch.device('cpu')))"
    )
    forbidden = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    result = subprocess.run([sys.executable, "-c", code], env=forbidden, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
