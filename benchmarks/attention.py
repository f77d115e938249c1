"""Attention: plain products against torch's fused kernel, by data type and length, forward alone and with backward.

    python benchmarks/attention.py

`seqloom.nn.attention.fused_is_faster` applies the results.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from seqloom.nn import attention
from seqloom.nn.attention import KeyValues, Scope, attend
from seqloom.training.precision import keep_freed_memory

SHAPES = [(290, 4, 14, 64), (128, 4, 32, 64), (32, 4, 128, 64), (64, 6, 256, 64), (8, 4, 512, 64), (4, 4, 1024, 64)]


def milliseconds(work: Callable[[], object], repeats: int = 9) -> float:
    for _ in range(2):
        work()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


def main() -> None:
    keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds, plain / fused")
    print("| B x H x T x C | type | forward | forward and backward |\n|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            q, k, v = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(3))
            grad = torch.randn(shape).to(dtype)
            scope = Scope(torch.ones(shape[0], 1, 1, shape[2], dtype=torch.bool))

            def forward(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v, scope: Scope = scope) -> None:
                with torch.inference_mode():
                    attend(q, KeyValues(k, v), scope)

            def both(
                q: torch.Tensor = q,
                k: torch.Tensor = k,
                v: torch.Tensor = v,
                scope: Scope = scope,
                grad: torch.Tensor = grad,
            ) -> None:
                attend(q, KeyValues(k, v), scope).backward(grad)

            cells = []
            for work in (forward, both):
                times = []
                for fused in (False, True):
                    attention.fused_is_faster = lambda q, k, fused=fused: fused  # type: ignore[misc]
                    times.append(milliseconds(work))
                cells.append(f"{times[0]:.2f} / {times[1]:.2f}")
            print(f"| {' x '.join(map(str, shape))} | {str(dtype)[6:]} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
