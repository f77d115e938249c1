"""Attention: plain products against torch's fused kernel, by data type and length, forward alone and with backward.

    python benchmarks/attention.py
    python benchmarks/attention.py --causal --dtypes float32 --shapes 8x4x512x64 4x4x1024x64 1x4x4096x64

`seqloom.nn.attention.fused_is_faster` applies the results. With --causal, the fused kernel with a causal mask against
the same with the flag that says that the mask is causal. The two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from seqloom.nn import attention
from seqloom.nn.attention import KeyValues, Scope, attend
from seqloom.training.precision import keep_freed_memory

SHAPES = ["290x4x14x64", "128x4x32x64", "32x4x128x64", "64x6x256x64", "8x4x512x64", "4x4x1024x64"]
Way = tuple[bool, Scope]  # whether the fused kernel is used, and with which mask


def take_turns(work: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The median milliseconds of each piece of work, after two turns that are not timed."""
    seconds: list[list[float]] = [[] for _ in work]
    for i in range(2 + repeats):
        for one, taken in zip(work, seconds, strict=True):
            begun = time.perf_counter()
            one()
            if i >= 2:
                taken.append(time.perf_counter() - begun)
    return [1000 * statistics.median(taken) for taken in seconds]


def ways(shape: Sequence[int], causal: bool) -> tuple[Way, Way]:
    """What is compared: plain and fused, or fused with a mask and with the flag."""
    batch, _, length, _ = shape
    if causal:
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        return (True, Scope(mask)), (True, Scope(mask, causal=True))
    scope = Scope(torch.ones(batch, 1, 1, length, dtype=torch.bool))
    return (False, scope), (True, scope)


def measured(shape: Sequence[int], dtype: torch.dtype, causal: bool, repeats: int) -> list[str]:
    """The table's cells of a shape: forward alone, forward and backward."""
    q, k, v = (torch.randn(*shape).to(dtype).requires_grad_() for _ in range(3))
    grad = torch.randn(*shape).to(dtype)

    def forward(way: Way) -> torch.Tensor:
        attention.fused_is_faster = lambda *_: way[0]
        return attend(q, KeyValues(k, v), way[1])

    def alone(way: Way) -> None:
        with torch.inference_mode():
            forward(way)

    def both(way: Way) -> None:
        forward(way).backward(grad)

    cells = []
    for work in (alone, both):
        first, second = take_turns([partial(work, way) for way in ways(shape, causal)], repeats)
        cells.append(f"{first:.2f} / {second:.2f} ({first / second:.2f})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="BxHxTxC")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    keep_freed_memory()
    what = "fused with a mask / with the causal flag" if options.causal else "plain / fused"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds, {what} (ratio)")
    print("| B x H x T x C | type | forward | forward and backward |\n|---|---|---|---|")
    for dtype in options.dtypes:
        for shape in options.shapes:
            sizes = [int(size) for size in shape.split("x")]
            cells = measured(sizes, getattr(torch, dtype), options.causal, options.repeats)
            print(f"| {' x '.join(map(str, sizes))} | {dtype} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
