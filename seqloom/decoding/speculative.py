"""Speculative decoding: a small model writes ahead; a large one reads that at once and takes what it would write.

The results have exactly the distribution of the large model alone (Leviathan et al. 2023; Chen et al. 2023): a word x
drawn from q is taken with probability min(1, p(x) / q(x)), else one is drawn from max(p - q, 0), scaled to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.decoding.search import Hypothesis, Ids, Task, distribution
from seqloom.shapes import Float, Int, Tensor


@runtime_checkable
class Rewindable(Protocol):
    """A state that can forget its last words."""

    def back(self, count: int) -> Any:
        """The state as it was so many words ago."""


S = TypeVar("S", bound=Rewindable)
Read = Callable[[Int[Tensor, "1 T"], S], tuple[Float[Tensor, "T V"], S]]


@dataclass
class Side:
    """One of the two models: how it reads, what it has read, and how many words more a state can go back over."""

    read: Read[Any]
    state: Any
    room: Callable[[Any], int] = lambda state: 1 << 30


def speculating(
    large: Side, small: Side, task: Task, config: DecodingConfig, ahead: int
) -> Generator[Ids, None, tuple[Hypothesis, float]]:
    """Gives words as they are settled; returns the text, and which share of the small model's words was taken.

    Args:
        large, small: have both read what comes before task.start.
        task: of one row.
        config: greedy, or what is drawn from and the seed.
        ahead: words that the small model writes at a time.
    """
    assert isinstance(task.start, int)
    generator = torch.Generator(task.limits.device).manual_seed(config.seed)
    limit, ids, log_p, taken, written = int(task.limits), list[int](), 0.0, 0, 0
    unread = [task.start]  # by the small model; the last of it is unread by the large one, too
    while True:
        most = max(0, min(ahead, limit - len(ids), large.room(large.state) - 1))
        guesses, q = _ahead(small, unread, most, config, generator)
        tokens, log_ps = _settled(large, [unread[-1], *guesses], q, config, generator)
        kept = len(tokens) - 1
        taken, written = taken + kept, written + len(guesses)
        # The small model has not read its own last guess.
        small.state = small.state.back(max(0, len(guesses) - 1 - kept))
        unread = [*(unread if not guesses else guesses[-1:] if kept == len(guesses) else []), tokens[-1]]
        for i, word in enumerate(tokens):
            # As in the other loop, the end is what comes at the limit.
            word = task.end if len(ids) == limit else word
            log_p += float(log_ps[i, word])
            if word == task.end:
                return _hypothesis(ids, log_p, config), taken / max(1, written)
            ids.append(word)
            yield [word]
            if task.stopped is not None and task.stopped(ids):
                return _hypothesis(ids, log_p, config, ended=False), taken / max(1, written)


@torch.inference_mode()
def _settled(
    large: Side, tokens: Ids, q: Float[Tensor, "T V"] | None, config: DecodingConfig, generator: torch.Generator
) -> tuple[Ids, Float[Tensor, "T1 V"]]:
    """Of the words after the first those that are taken, and one more; and the log-probabilities of all words there."""
    guesses = tokens[1:]
    scores, large.state = large.read(torch.tensor([tokens], device=generator.device), large.state)
    p = _chances(scores, config)
    kept = 0 if q is None else _accepted(p, q, guesses, generator)
    rest = p[kept] if q is None or kept == len(guesses) else (p[kept] - q[kept]).clamp(min=0)
    word = int(torch.multinomial(rest if bool(rest.sum() > 0) else p[kept], 1, generator=generator))
    large.state = large.state.back(len(guesses) - kept)
    return [*guesses[:kept], word], scores.float().log_softmax(-1)


@torch.inference_mode()
def _ahead(
    small: Side, unread: Ids, count: int, config: DecodingConfig, generator: torch.Generator
) -> tuple[Ids, Float[Tensor, "T V"] | None]:
    guesses: Ids = []
    chances: list[Tensor] = []
    device, given = generator.device, unread
    for _ in range(count):
        scores, small.state = small.read(torch.tensor([given], device=device), small.state)
        chances.append(_chances(scores[-1:], config))
        guesses.append(int(torch.multinomial(chances[-1][0], 1, generator=generator)))
        given = guesses[-1:]
    return guesses, torch.cat(chances) if chances else None


def _chances(scores: Float[Tensor, "T V"], config: DecodingConfig) -> Float[Tensor, "T V"]:
    if isinstance(config, Sampling):
        return distribution(scores.float(), config)
    return torch.zeros_like(scores, dtype=torch.float32).scatter_(1, scores.argmax(-1, keepdim=True), 1.0)


def _accepted(p: Float[Tensor, "T1 V"], q: Float[Tensor, "T V"], tokens: Ids, generator: torch.Generator) -> int:
    at = torch.tensor(tokens, device=q.device)[:, None]
    ratio = p[:-1].gather(1, at)[:, 0] / q.gather(1, at)[:, 0]
    refused = torch.rand(len(tokens), generator=generator, device=q.device) >= ratio
    return int(refused.nonzero()[0]) if bool(refused.any()) else len(tokens)


def _hypothesis(ids: Ids, log_p: float, config: DecodingConfig, *, ended: bool = True) -> Hypothesis:
    return Hypothesis(tuple(ids), log_p, log_p / max(1, len(ids) + ended) ** config.length_penalty)
