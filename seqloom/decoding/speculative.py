"""Speculative decoding: a small model writes ahead; a large one reads that at once and takes what it would write.

The results have exactly the distribution of the large model alone (Leviathan et al. 2023; Chen et al. 2023): a word x
drawn from q is taken with probability min(1, p(x) / q(x)), else one is drawn from max(p - q, 0), scaled to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from seqloom.decoding.search import DecodingConfig, Hypothesis, Task, Words, distribution
from seqloom.shapes import Float, Int, Tensor


@runtime_checkable
class Rewindable(Protocol):
    """A state that can forget its last words."""

    def back(self, words: int) -> Any:
        """The state as it was so many words ago."""


S = TypeVar("S", bound=Rewindable)
Read = Callable[[Int[Tensor, "1 T"], S], tuple[Float[Tensor, "T V"], S]]


@dataclass
class Side:
    """One of the two models: how it reads, and what it has read."""

    read: Read[Any]
    state: Any


@torch.inference_mode()
def speculating(
    large: Side, small: Side, task: Task, config: DecodingConfig, ahead: int
) -> Generator[Words, None, tuple[Hypothesis, float]]:
    """Gives words as they are settled; returns the text, and which share of the small model's words was taken.

    Args:
        large, small: have both read what comes before task.start.
        task: of one row.
        config: temperature, top-k, top-p, min-p, whether words are drawn, the seed.
        ahead: words that the small model writes at a time.
    """
    assert isinstance(task.start, int)
    generator = torch.Generator(task.limits.device).manual_seed(config.seed)
    limit, ids, log_p, taken, written = int(task.limits), list[int](), 0.0, 0, 0
    unread = [task.start]  # by the small model; the last of it is unread by the large one, too
    while True:
        guesses, q = _ahead(small, unread, min(ahead, max(1, limit - len(ids))), config, generator)
        scores, large.state = large.read(_row([unread[-1], *guesses], task), large.state)
        p = _chances(scores, config)
        kept = _accepted(p, q, guesses, generator)
        rest = p[kept] if kept == len(guesses) else (p[kept] - q[kept]).clamp(min=0)
        word = int(torch.multinomial(rest if bool(rest.sum() > 0) else p[kept], 1, generator=generator))
        taken, written = taken + kept, written + len(guesses)
        large.state = large.state.back(len(guesses) - kept)
        # The small model has not read its own last guess.
        small.state = small.state.back(max(0, len(guesses) - 1 - kept))
        unread = [guesses[-1], word] if kept == len(guesses) else [word]
        log_ps = scores.float().log_softmax(-1)
        for i, w in enumerate([*guesses[:kept], word]):
            if len(ids) == limit:  # as in the other loop, the end is what comes at the limit
                w = task.end
            log_p += float(log_ps[i, w])
            if w == task.end:
                return _hypothesis(ids, log_p, config), taken / written
            ids.append(w)
            yield [w]
            if task.stopped is not None and task.stopped(ids):
                return _hypothesis(ids, log_p, config, ended=False), taken / written


def _ahead(
    small: Side, unread: Words, words: int, config: DecodingConfig, generator: torch.Generator
) -> tuple[Words, Float[Tensor, "T V"]]:
    guesses: Words = []
    chances: list[Tensor] = []
    device, given = generator.device, unread
    for _ in range(words):
        scores, small.state = small.read(torch.tensor([given], device=device), small.state)
        chances.append(_chances(scores[-1:], config))
        guesses.append(int(torch.multinomial(chances[-1][0], 1, generator=generator)))
        given = guesses[-1:]
    return guesses, torch.cat(chances)


def _row(words: Words, task: Task) -> Int[Tensor, "1 T"]:
    return torch.tensor([words], device=task.limits.device)


def _chances(scores: Float[Tensor, "T V"], config: DecodingConfig) -> Float[Tensor, "T V"]:
    if config.sample:
        return distribution(scores.float(), config)
    return torch.zeros_like(scores, dtype=torch.float32).scatter_(1, scores.argmax(-1, keepdim=True), 1.0)


def _accepted(p: Float[Tensor, "T1 V"], q: Float[Tensor, "T V"], words: Words, generator: torch.Generator) -> int:
    at = torch.tensor(words, device=q.device)[:, None]
    ratio = p[:-1].gather(1, at)[:, 0] / q.gather(1, at)[:, 0]
    refused = torch.rand(len(words), generator=generator, device=q.device) >= ratio
    return int(refused.nonzero()[0]) if bool(refused.any()) else len(words)


def _hypothesis(ids: Words, log_p: float, config: DecodingConfig, *, ended: bool = True) -> Hypothesis:
    return Hypothesis(tuple(ids), log_p, log_p / max(1, len(ids) + ended) ** config.length_penalty)
