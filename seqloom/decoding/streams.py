"""Batches decoded side by side, each on one thread: more than several threads for each product bring to a small model.

Threads of one product meet after every product. What a stream gives for a batch has the bits that one thread gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


class Streams:
    """Threads that each compute with one thread of torch's, while the caller waits.

    Args:
        work: what each does with the arguments of a call; it runs several times at once.
        count: the number of threads.
    """

    def __init__(self, work: Callable[..., Any], count: int) -> None:
        self._work, self._pool = work, ThreadPoolExecutor(count, "stream", torch.set_num_threads, (1,))

    def __call__(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What the work gives for each call, in their order; whoever is ready takes the next. Raises what it raises."""
        answers = [self._pool.submit(self._work, *call) for call in calls]
        try:
            return [answer.result() for answer in answers]
        finally:
            for answer in answers:
                answer.cancel()

    def close(self) -> None:
        """Ends the threads when their batches are done; what waits is left."""
        self._pool.shutdown(cancel_futures=True)
