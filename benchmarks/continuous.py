"""Requests together, against the same ones one at a time: texts a second, and how long the first words take.

    python benchmarks/continuous.py RUN
    python benchmarks/continuous.py RUN --jobs 8 16 32 --texts 200 --kind greedy

RUN is one that translates or continues texts, such as that of recipes/translate-phrases.toml. As many requests as
`jobs` are under way at any time: where one is finished, the next one joins.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


def measured(predictor: Any, texts: Sequence[str], jobs: int, options: dict[str, Any]) -> dict[str, float]:
    """The texts and the tokens a second, and the median milliseconds from joining to the last piece."""
    running, waiting = predictor.continuous(rows=10_000), deque(texts)
    begun, writings, latencies, tokens = {}, {}, [], 0
    start = time.process_time()
    while waiting or len(running):
        while waiting and len(running) < jobs:
            writing = predictor.job(waiting.popleft(), **options)
            running.join(writing.job)
            writings[writing.job], begun[writing.job] = writing, time.process_time()
        for update in running.step():
            writing = writings[update.job]
            writing.take(update)
            if writing.results is not None:
                tokens += writing.usage.completion
                latencies.append(time.process_time() - begun[update.job])
    seconds = time.process_time() - start
    return {
        "texts/s": len(texts) / seconds,
        "tokens/s": tokens / seconds,
        "median ms": 1000 * statistics.median(latencies),
    }


def numbers(count: int) -> list[str]:
    """Amounts of money, as the demo's translator reads them."""
    return [f"${(7919 * i) % 99_991 / 100:,.2f} on day {i % 31 + 1}" for i in range(1, count + 1)]


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--jobs", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--kind", choices=("greedy", "beam", "sample"), default="greedy")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    import torch

    import seqloom

    torch.set_num_threads(options.threads)
    predictor, texts = seqloom.load(options.run), numbers(options.texts)
    measured(predictor, texts[:8], 4, {"kind": options.kind})
    alone = measured(predictor, texts, 1, {"kind": options.kind})
    for jobs in (1, *options.jobs):
        figures = alone if jobs == 1 else measured(predictor, texts, jobs, {"kind": options.kind})
        shown = "  ".join(f"{value:8.1f} {name}" for name, value in figures.items())
        say(f"{jobs:3} at a time  {shown}  {figures['texts/s'] / alone['texts/s']:5.2f} times")


if __name__ == "__main__":
    main()
