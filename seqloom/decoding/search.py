"""The decoding loop: greedy, beam search and sampling, for any model that predicts the next token."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from seqloom.decoding import transforms
from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.nn.effective import adapters_of, by_row
from seqloom.shapes import Bool, Float, Int, Tensor


@runtime_checkable
class Selectable(Protocol):
    """A state of several rows that is carried from step to step."""

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Any:
        """The state of the given rows; `sentences` = the memory rows they belong to. None = all, unchanged."""


S = TypeVar("S", bound=Selectable)
T = TypeVar("T")
Step = Callable[[Int[Tensor, "R 1"], S], tuple[Float[Tensor, "R V"], S]]


@dataclass(frozen=True)
class Hypothesis:
    """One result: its ids without start and end, and the score it was ranked by.

    `log_p` is the model's log-probability, end included; `repetition_penalty` changes it, other options do not.
    """

    ids: tuple[int, ...]
    log_p: float
    score: float


@dataclass(frozen=True)
class Task:
    """What to decode.

    Args:
        start: the id that is read first, for all results or for each.
        end: the id that ends a sequence, and follows at its limit.
        limits: the most tokens of each of the B results, without the end.
        prefixes: the ids that each result must begin with, -1 where it is free.
        attention: returns the attention (R S) of the last step over the source; only the coverage penalty needs it.
        source_mask: True on the real positions of the source, which should be covered; None = all are real.
        stopped: whether ids are complete without an end id.
        prompts: what was read before each result, up to its `start`, with -1 before a shorter one; None = only `start`.
        ends: further ids that end a sequence.
    """

    start: int | Int[Tensor, " B"]
    end: int
    limits: Int[Tensor, " B"]
    prefixes: Int[Tensor, "B P"] | None = None
    attention: Callable[[], Float[Tensor, "R S"]] | None = None
    source_mask: Bool[Tensor, "B S"] | None = None
    stopped: Callable[[Sequence[int]], bool] | None = None
    prompts: Int[Tensor, "B P"] | None = None
    ends: tuple[int, ...] = ()

    @property
    def all_ends(self) -> tuple[int, ...]:
        """The ids that end a sequence."""
        return (self.end, *self.ends)

    @cached_property
    def end_ids(self) -> Int[Tensor, " E"]:
        """The same as a tensor."""
        return torch.tensor(self.all_ends, device=self.limits.device)

    def first(self) -> Int[Tensor, " B"]:
        """The id that is read first, for each result."""
        return self.start if isinstance(self.start, Tensor) else torch.full_like(self.limits, self.start)


Ids = list[int]


@dataclass
class _Progress:
    """K live hypotheses for each of B sentences, and the ended ones of every sentence."""

    sentences: Int[Tensor, " B"]
    ids: Int[Tensor, "B K T"]
    log_p: Float[Tensor, "B K"]
    coverage: Float[Tensor, "B K S"] | None = None
    ended: dict[int, list[Hypothesis]] = field(default_factory=dict)


def decode(step: Step[S], state: S, task: Task, config: DecodingConfig) -> list[list[Hypothesis]]:
    """The best hypotheses of each sentence, best first; each is computed with the adapter of its row."""
    if (adapters := adapters_of()) is None:
        return last_of(decoding(step, state, task, config))

    def with_adapters(last: Tensor, now: _Adapted) -> tuple[Tensor, _Adapted]:
        with by_row(now.adapters):
            scores, after = step(last, now.state)
        return scores, _Adapted(after, now.adapters)

    return last_of(decoding(with_adapters, _Adapted(state, adapters), task, config))


@dataclass(frozen=True)
class _Adapted:
    """A state, and the number of the adapter of each of its rows."""

    state: Any
    adapters: Int[Tensor, " R"]

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> _Adapted:
        adapters = self.adapters if rows is None else self.adapters[rows]
        return _Adapted(self.state.select(rows, sentences), adapters)


def last_of(steps: Generator[Ids, None, T]) -> T:
    """The value that a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def decoding(
    step: Step[S], state: S, task: Task, config: DecodingConfig
) -> Generator[Ids, None, list[list[Hypothesis]]]:
    """Yields the newest token of each sentence's best hypothesis after each step; returns the best hypotheses of each
    sentence, best first.

    `step` returns the logits of the token after the last one of each row. `state` has one row per sentence.
    Rows of finished sentences are dropped along the way.
    """
    B = task.limits.shape[0]
    device = task.limits.device
    copies = config.n_best if isinstance(config, Sampling) else 1
    sentences = torch.arange(B, device=device).repeat_interleave(copies)
    generator = torch.Generator(device).manual_seed(config.seed)
    now = _Progress(
        sentences,
        torch.empty(len(sentences), 1, 0, dtype=torch.long, device=device),
        torch.zeros(len(sentences), 1, device=device),
        ended={i: [] for i in range(B)},
    )
    last = task.first()[sentences, None]
    with torch.inference_mode():
        state = state.select(sentences, sentences) if copies > 1 else state
    while len(now.sentences):
        with torch.inference_mode():  # not around the yield, so that the caller is not affected
            scores, state = step(last, state)
            scores = _transformed(scores.float(), now, task, config)
            if isinstance(config, Sampling):
                pick = _sampled(scores, now, config, generator)
            else:
                pick = _best(scores, now, config)
            rows, kept = _advance(now, pick, task, config)
            if len(now.sentences):
                still = kept is None and torch.equal(rows, torch.arange(len(last), device=device))
                state = state.select(None if still else rows, kept)
                last = now.ids[:, :, -1].reshape(-1, 1)
        if len(now.sentences):
            yield last[:: now.ids.shape[1], 0].tolist()
    return [sorted(now.ended[i], key=lambda h: -h.score)[: config.n_best] for i in range(B)]


@dataclass(frozen=True)
class _Pick:
    """Candidates for each sentence, best first: the hypothesis each continues, its token and its log-probability."""

    parents: Int[Tensor, "B N"]
    tokens: Int[Tensor, "B N"]
    log_p: Float[Tensor, "B N"]


def _transformed(scores: Tensor, now: _Progress, task: Task, config: DecodingConfig) -> Tensor:
    B, K, T = now.ids.shape
    history = now.ids.view(B * K, T)
    if config.count_prompt:
        prompts = task.first()[:, None] if task.prompts is None else task.prompts
        history = torch.cat((prompts[now.sentences].repeat_interleave(K, 0), history), 1)
    if config.repetition_penalty != 1:
        scores = transforms.repetition_penalty(scores, history, config.repetition_penalty)
    forced = torch.where(task.limits[now.sentences] <= T, task.end, -1)
    if task.prefixes is not None and task.prefixes.shape[1] > T:
        prefix = task.prefixes[now.sentences, T]
        forced = torch.where(prefix >= 0, prefix, forced)
    if not (config.no_repeat_ngram or config.min_length > T or bool((forced >= 0).any())):
        return scores
    log_p = scores.log_softmax(-1)
    allowed = log_p
    if config.no_repeat_ngram:
        allowed = transforms.no_repeat_ngram(allowed, history, config.no_repeat_ngram)
        allowed[:, task.end] = log_p[:, task.end]  # finished rows repeat it
    if config.min_length > T:
        allowed = transforms.without(allowed, task.end_ids)
    token = forced.repeat_interleave(K)[:, None]
    only = torch.full_like(log_p, -torch.inf).scatter_(1, token.clamp(min=0), log_p.gather(1, token.clamp(min=0)))
    changed = token >= 0 if allowed is log_p else torch.ones_like(token, dtype=torch.bool)
    allowed = torch.where(token >= 0, only, allowed)
    # Choosing a token renormalizes what is allowed; this restores the probability that the model gave it.
    left = allowed.logsumexp(-1, keepdim=True)
    now.log_p = now.log_p + torch.where(changed, left, 0.0).view(B, K)
    return torch.where(changed, allowed, scores)


def _best(scores: Tensor, now: _Progress, config: DecodingConfig) -> _Pick:
    B, K, _ = now.ids.shape
    # The softmax kernel is several times faster than logsumexp, and keeps the order.
    p, tokens = scores.softmax(-1).topk(min(config.beam + 1, scores.shape[1]))
    total = (now.log_p[:, :, None] + p.log().view(B, K, -1)).flatten(1)
    log_p, index = total.topk(min(2 * config.beam, total.shape[1]))
    return _Pick(index // p.shape[1], tokens.view(B, -1).gather(1, index), log_p)


def _sampled(scores: Tensor, now: _Progress, config: Sampling, generator: torch.Generator) -> _Pick:
    log_p = scores.log_softmax(-1)
    tokens = torch.multinomial(distribution(scores, config), 1, generator=generator)
    return _Pick(torch.zeros_like(tokens), tokens, now.log_p + log_p.gather(1, tokens))


def distribution(scores: Float[Tensor, "R V"], config: Sampling) -> Float[Tensor, "R V"]:
    """The distribution to sample from: temperature, then top-k, top-p and min-p."""
    scores = scores / config.temperature
    if config.top_k:
        scores = transforms.top_k(scores, config.top_k)
    if config.top_p < 1:
        scores = transforms.top_p(scores, config.top_p)
    if config.min_p:
        scores = transforms.min_p(scores, config.min_p)
    return scores.softmax(-1)


def _advance(now: _Progress, pick: _Pick, task: Task, config: DecodingConfig) -> tuple[Tensor, Tensor | None]:
    """Removes ended hypotheses and keeps the best of the rest; returns the state's rows and sentences to keep."""
    B, K, T = now.ids.shape
    ends = torch.isin(pick.tokens, task.end_ids) | pick.log_p.isneginf()
    if task.attention is not None:
        attention = task.attention().view(B, K, -1)
        if now.coverage is None:
            covered = None if task.source_mask is None else ~task.source_mask[now.sentences, None]
            now.coverage = attention if covered is None else attention + covered.to(attention.dtype)
        else:
            now.coverage = now.coverage + attention
    if task.stopped is not None:
        ends |= _stopped(now, pick, ends, task.stopped)
    _end(now, pick, ends, task, config)
    # The best candidates that have not ended, still best first; an ended sample has none.
    order = ends.long().argsort(dim=1, stable=True)[:, : config.beam]
    alive = ~ends.gather(1, order)
    parents, tokens = pick.parents.gather(1, order), pick.tokens.gather(1, order)
    log_p = pick.log_p.gather(1, order).masked_fill(~alive, -torch.inf)
    going = alive.any(1) & ~_done(now, log_p, T + 1, task, config)
    log_p = log_p.masked_fill(~going[:, None], -torch.inf)
    keep = _kept(going)
    rows = (torch.arange(B, device=parents.device)[:, None] * K + parents)[keep].flatten()
    parents, tokens = parents[keep], tokens[keep]
    now.ids = torch.cat((now.ids[keep].gather(1, parents[:, :, None].expand(-1, -1, T)), tokens[:, :, None]), dim=2)
    now.log_p, now.sentences = log_p[keep], now.sentences[keep]
    if now.coverage is not None:
        now.coverage = now.coverage[keep].gather(1, parents[:, :, None].expand(-1, -1, now.coverage.shape[2]))
    return rows, None if len(keep) == B else keep


def _kept(going: Bool[Tensor, " B"]) -> Int[Tensor, " B2"]:
    """The unfinished sentences, filled up with finished ones so that only few batch sizes occur.

    Matrix kernels are compiled for each new shape, which costs more than the finished rows.
    """
    B, live = going.shape[0], int(going.sum())
    room = min(B, -(-live // _GRAIN) * _GRAIN)
    if room == B:
        return torch.arange(B, device=going.device)
    return going.long().argsort(descending=True, stable=True)[:room].sort().values


_GRAIN = 16


def _stopped(now: _Progress, pick: _Pick, ends: Bool[Tensor, "B N"], stopped: Callable[[Ids], bool]) -> Tensor:
    """The candidates that are complete without an end id."""
    ids = now.ids.tolist()
    flat = zip(pick.parents.tolist(), pick.tokens.tolist(), ends.tolist(), strict=True)
    complete = [
        [not done and stopped([*ids[b][p], token]) for p, token, done in zip(parents, tokens, dones, strict=True)]
        for b, (parents, tokens, dones) in enumerate(flat)
    ]
    return torch.tensor(complete, device=ends.device)


def _end(now: _Progress, pick: _Pick, ends: Bool[Tensor, "B N"], task: Task, config: DecodingConfig) -> None:
    counted = (ends & pick.log_p.isfinite())[:, : config.beam]
    if not bool(counted.any()):
        return
    T = now.ids.shape[2]
    sentence, rank = counted.nonzero(as_tuple=True)
    parent, log_p = pick.parents[sentence, rank], pick.log_p[sentence, rank]
    score = log_p / (T + 1) ** config.length_penalty
    if now.coverage is not None:
        covered = now.coverage[sentence, parent].clamp(1e-9, 1.0)
        score = score + config.coverage_penalty * covered.log().sum(-1)
    ids, last = now.ids[sentence, parent].tolist(), pick.tokens[sentence, rank].tolist()
    columns = now.sentences[sentence].tolist(), ids, last, log_p.tolist(), score.tolist()
    for i, tokens, token, p, s in zip(*columns, strict=True):
        now.ended[i].append(Hypothesis((*tokens, *([] if token in task.all_ends else [token])), p, s))


def _done(now: _Progress, log_p: Float[Tensor, "B K"], length: int, task: Task, config: DecodingConfig) -> Tensor:
    """The sentences that need no more steps."""
    if isinstance(config, Sampling):
        return torch.zeros_like(now.sentences, dtype=torch.bool)
    first = config.stop == "first" or config.beam == 1
    count = config.beam if first else config.n_best
    bars = []  # the score of the worst result if the search stopped now
    for i in now.sentences.tolist():
        scores = sorted((h.score for h in now.ended[i]), reverse=True)
        bars.append(scores[count - 1] if len(scores) >= count else -torch.inf)
    bar = torch.tensor(bars, device=log_p.device)
    if first:
        return bar.isfinite()
    a = config.length_penalty
    at = torch.full_like(bar, length)
    if config.stop == "certain":  # with a positive penalty, the longest hypothesis may become the best
        longest = (task.limits[now.sentences] + 1).clamp(min=length + 1).to(bar.dtype)
        at = longest if a > 0 else at + 1
    attainable: Tensor = log_p.amax(1) / at**a
    return bar >= attainable


def beam_rows(prefixes: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B P"] | None:
    """Prefixes of different lengths as one tensor, -1 where a row is free; None if all are empty."""
    width = max((len(p) for p in prefixes), default=0)
    if width == 0:
        return None
    return torch.tensor([[*p, *[-1] * (width - len(p))] for p in prefixes], device=device)
