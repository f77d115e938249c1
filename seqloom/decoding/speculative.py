"""Speculative decoding: a small model proposes several tokens, and a large one verifies them in one pass.

The results have exactly the distribution of the large model alone (Leviathan et al. 2023; Chen et al. 2023): a token x
sampled from q is accepted with probability min(1, p(x) / q(x)), else one is sampled from max(p - q, 0), scaled to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.decoding.job import Task
from seqloom.decoding.results import Hypothesis, Ids
from seqloom.decoding.transforms import distribution
from seqloom.shapes import Float, Int, Tensor


@runtime_checkable
class Rewindable(Protocol):
    """A state that can forget its last tokens."""

    def back(self, count: int) -> Any:
        """The state as it was `count` tokens ago."""


S = TypeVar("S", bound=Rewindable)
Read = Callable[[Int[Tensor, "1 T"], S], tuple[Float[Tensor, "T V"], S]]


@dataclass
class Side:
    """One of the two models: how it reads, its state, and how many more tokens a state has room for."""

    read: Read[Any]
    state: Any
    room: Callable[[Any], int] = lambda state: 1 << 30


def speculating(
    large: Side, small: Side, task: Task, config: DecodingConfig, ahead: int
) -> Generator[Ids, None, tuple[Hypothesis, float]]:
    """Yields ids as they are decided; returns the result and the accepted share of the small model's proposals.

    Args:
        large, small: the models; both have read what comes before task.start.
        task: what to decode, one row.
        config: greedy decoding or sampling.
        ahead: the tokens that the small model proposes at a time.
    """
    assert isinstance(task.start, int)
    generator = torch.Generator(task.limits.device).manual_seed(config.seed)
    limit, ids, log_p, accepted, proposed = int(task.limits), list[int](), 0.0, 0, 0
    unread = [task.start]  # by the small model; the last one is unread by the large one, too
    while True:
        most = max(0, min(ahead, limit - len(ids), large.room(large.state) - 1))
        guesses, q = _ahead(small, unread, most, config, generator)
        tokens, log_ps = _verified(large, [unread[-1], *guesses], q, config, generator)
        kept = len(tokens) - 1
        accepted, proposed = accepted + kept, proposed + len(guesses)
        # The small model has not read its own last guess.
        small.state = small.state.back(max(0, len(guesses) - 1 - kept))
        unread = [*(unread if not guesses else guesses[-1:] if kept == len(guesses) else []), tokens[-1]]
        for i, token in enumerate(tokens):
            # As in `decoding`, the end follows at the limit.
            token = task.end if len(ids) == limit else token
            log_p += float(log_ps[i, token])
            if token in task.all_ends:
                return _hypothesis(ids, log_p, config), accepted / max(1, proposed)
            ids.append(token)
            yield [token]
            if task.stopped is not None and task.stopped(ids):
                return _hypothesis(ids, log_p, config, ended=False), accepted / max(1, proposed)


@torch.inference_mode()
def _verified(
    large: Side, tokens: Ids, q: Float[Tensor, "T V"] | None, config: DecodingConfig, generator: torch.Generator
) -> tuple[Ids, Float[Tensor, "T1 V"]]:
    """The accepted guesses (`tokens` after the first) and one more token; the log-probabilities at each position."""
    guesses = tokens[1:]
    scores, large.state = large.read(torch.tensor([tokens], device=generator.device), large.state)
    p = _probabilities(scores, config)
    kept = 0 if q is None else _accepted(p, q, guesses, generator)
    rest = p[kept] if q is None or kept == len(guesses) else (p[kept] - q[kept]).clamp(min=0)
    token = int(torch.multinomial(rest if bool(rest.sum() > 0) else p[kept], 1, generator=generator))
    large.state = large.state.back(len(guesses) - kept)
    return [*guesses[:kept], token], scores.float().log_softmax(-1)


@torch.inference_mode()
def _ahead(
    small: Side, unread: Ids, count: int, config: DecodingConfig, generator: torch.Generator
) -> tuple[Ids, Float[Tensor, "T V"] | None]:
    guesses: Ids = []
    q: list[Tensor] = []
    for _ in range(count):
        scores, small.state = small.read(torch.tensor([guesses[-1:] or unread], device=generator.device), small.state)
        q.append(_probabilities(scores[-1:], config))
        guesses.append(int(torch.multinomial(q[-1][0], 1, generator=generator)))
    return guesses, torch.cat(q) if q else None


def _probabilities(scores: Float[Tensor, "T V"], config: DecodingConfig) -> Float[Tensor, "T V"]:
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
