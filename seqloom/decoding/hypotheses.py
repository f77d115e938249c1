"""The live hypotheses of what is decoded, and how a step of the search changes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.decoding import transforms
from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.decoding.job import Task
from seqloom.decoding.results import Candidate, Choice, Hypothesis, Reason, Result
from seqloom.nn.state import stacked
from seqloom.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class _Pick:
    """Candidates for each block, best first: the hypothesis each continues, its token and its log-probability."""

    parents: Int[Tensor, "B N"]
    tokens: Int[Tensor, "B N"]
    log_p: Float[Tensor, "B N"]


_FILLED: dict[str, tuple[float, bool]] = {
    "ids": (-1, True),
    "prompts": (-1, True),
    "prefixes": (-1, False),
    "coverage": (1, False),
}
"""What fills up shorter rows, and whether before them."""
_OF_BLOCKS = (*_FILLED, "lengths", "log_p", "limits")


class Search:
    """The live hypotheses of sentences that are decoded in one way: K for each of B blocks, a sentence or a sample.

    Args:
        task: what to decode.
        config: how.
        results: what becomes of each sentence of the task; None = new ones.
    """

    def __init__(self, task: Task, config: DecodingConfig, results: Sequence[Result] | None = None) -> None:
        self.task, self.config = task, config
        copies, device = config.n_best if isinstance(config, Sampling) else 1, task.limits.device
        self.sentences = torch.arange(len(task.limits), device=device).repeat_interleave(copies)
        if results is None:
            generator = torch.Generator(device).manual_seed(config.seed)
            results = [Result(task.stopped, generator) for _ in range(len(task.limits))]
        self.results = results
        for result in results:
            result.live = copies
        self.owners = [results[i] for i in self.sentences.tolist()]
        self.alive = [True] * len(self.owners)
        first, B = task.first(), len(self.owners)
        self.start = first[self.sentences, None]
        self.ids = self.start.new_empty(B, 1, 0)
        self.lengths, self.limits = torch.zeros_like(self.sentences), task.limits[self.sentences]
        self.log_p = torch.zeros(B, 1, device=device)
        prompts = first[:, None] if task.prompts is None else task.prompts
        prefixes = prompts[:, :0] if task.prefixes is None else task.prefixes
        self.prompts, self.prefixes = prompts[self.sentences], prefixes[self.sentences]
        self.coverage: Float[Tensor, "B K S"] | None = None

    @property
    def width(self) -> int:
        """K."""
        return self.ids.shape[1]

    @property
    def last(self) -> Int[Tensor, "R 1"]:
        """The newest id of each hypothesis."""
        return self.ids[:, :, -1].reshape(-1, 1) if self.ids.shape[2] else self.start

    @property
    def kind(self) -> Any:
        """What searches have in common that can become one."""
        return self.config.shared, self.task.all_ends, self.task.attention

    def take(
        self, scores: Float[Tensor, "R V"], attention: Float[Tensor, "R S"] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Goes one step on; returns the rows, and the blocks if they are not all, to keep of the state.

        Args:
            scores: the logits of the id after the last one of each row.
            attention: what each row has attended to.
        """
        scores = scores.float()
        allowed, self.log_p = _constrained(scores, self)
        pick = _sampled(allowed, self, self.config) if isinstance(self.config, Sampling) else _best(allowed, self)
        if self.width == 1:
            self._note(scores, pick)
        if attention is not None:
            self._cover(attention.view(len(self.owners), self.width, -1))
        return self._advance(pick)

    def _note(self, scores: Tensor, pick: _Pick) -> None:
        noted = [b for b, owner in enumerate(self.owners) if owner.chosen is not None and self.alive[b]]
        if not noted:
            return
        ids, detailed = pick.tokens[:, 0].tolist(), [b for b in noted if self.owners[b].top is not None]
        choices = {b: Choice(ids[b]) for b in noted}
        if detailed:
            log_p = scores[detailed].log_softmax(-1)
            most = min(log_p.shape[1], max(self.owners[b].top or 0 for b in detailed))
            values, tokens = (each.tolist() for each in log_p.topk(most))
            of_ids = log_p.gather(1, pick.tokens[detailed, :1])[:, 0].tolist()
            for i, b in enumerate(detailed):
                top = tuple(zip(tokens[i], values[i], strict=True))[: self.owners[b].top]
                choices[b] = Choice(ids[b], of_ids[i], top)
        for b, choice in choices.items():
            noted_so_far = self.owners[b].chosen
            assert noted_so_far is not None
            noted_so_far.append(choice)

    def _note_candidates(self, pick: _Pick, ends: Tensor, order: Tensor, kept: Tensor) -> None:
        for b, owner in enumerate(self.owners):
            if owner.steps is None or not self.alive[b]:
                continue
            finite, done = pick.log_p[b].isfinite().tolist(), ends[b].tolist()
            counted = [n for n in range(min(self.config.beam, len(done))) if done[n] and finite[n]]
            ended = dict(zip(counted, owner.ended[len(owner.ended) - len(counted) :], strict=True))
            places = {
                n: i for i, (n, still) in enumerate(zip(order[b].tolist(), kept[b].tolist(), strict=True)) if still
            }
            columns = zip(pick.parents[b].tolist(), pick.tokens[b].tolist(), pick.log_p[b].tolist(), strict=True)
            owner.steps.append(
                [Candidate(*each, places.get(n), ended.get(n)) for n, each in enumerate(columns) if finite[n]]
            )

    def _cover(self, attention: Float[Tensor, "B K S"]) -> None:
        if self.coverage is None:
            mask = self.task.source_mask
            covered = 0 if mask is None else (~mask[self.sentences, None]).to(attention.dtype)
            self.coverage = attention + covered
        else:  # the memory of a batch is as wide as its longest source
            missing = self.coverage.shape[2] - attention.shape[2]
            self.coverage = self.coverage + F.pad(attention, (0, missing))

    def _advance(self, pick: _Pick) -> tuple[Tensor, Tensor | None]:
        """Removes ended hypotheses and keeps the best of the rest."""
        B, K, _ = self.ids.shape
        ends = torch.isin(pick.tokens, self.task.end_ids) | pick.log_p.isneginf()
        if any(owner.stopped is not None for owner in self.owners):
            ends |= self._stopped(pick, ends)
        self._end(pick, ends)
        # The best candidates that have not ended, still best first; an ended sample has none.
        order = ends.long().argsort(dim=1, stable=True)[:, : self.config.beam]
        alive = ~ends.gather(1, order)
        parents, tokens = pick.parents.gather(1, order), pick.tokens.gather(1, order)
        log_p = pick.log_p.gather(1, order).masked_fill(~alive, -torch.inf)
        going = alive.any(1) & ~self._done(log_p)
        self.log_p = log_p.masked_fill(~going[:, None], -torch.inf)
        self._note_candidates(pick, ends, order, self.log_p.isfinite())
        before, self.alive = self.alive, going.tolist()
        for owner, was, still in zip(self.owners, before, self.alive, strict=True):
            owner.live -= was and not still
        ids = self.ids.gather(1, parents[:, :, None].expand(-1, -1, self.ids.shape[2]))
        self.ids = torch.cat((ids, tokens[:, :, None]), dim=2)
        self.lengths = self.lengths + 1
        if self.coverage is not None:
            self.coverage = self.coverage.gather(1, parents[:, :, None].expand(-1, -1, self.coverage.shape[2]))
        rows = torch.arange(B, device=parents.device)[:, None] * K + parents
        keep = _kept(self.alive)
        if keep is None:
            return rows.flatten(), None
        at = torch.tensor(keep, dtype=torch.long, device=parents.device)
        self._keep(keep, at)
        return rows[at].flatten(), at

    def without(self, results: Collection[Result]) -> tuple[Tensor, Tensor | None]:
        """Removes sentences, and blocks that have ended; returns what `take` does."""
        both = zip(self.owners, self.alive, strict=True)
        keep = [b for b, (owner, alive) in enumerate(both) if alive and owner not in results]
        rows = torch.arange(len(self.log_p.flatten()), device=self.limits.device).view(self.log_p.shape)
        if len(keep) == len(self.owners):
            return rows.flatten(), None
        at = torch.tensor(keep, dtype=torch.long, device=self.limits.device)
        self._keep(keep, at)
        return rows[at].flatten(), at

    def join(self, other: Search) -> None:
        """Adds the blocks of another search of the same kind, as wide as this one."""
        for name in _OF_BLOCKS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None:
                fill, left = _FILLED.get(name, (0, False))
                setattr(self, name, stacked([mine, theirs], fill, left=left))
        longest = int(self.lengths.max())
        self.ids = self.ids[:, :, self.ids.shape[2] - longest :]
        self.owners, self.alive = [*self.owners, *other.owners], [*self.alive, *other.alive]

    def _keep(self, keep: Sequence[int], at: Int[Tensor, " B2"]) -> None:
        for name in _OF_BLOCKS:
            if (value := getattr(self, name)) is not None:
                setattr(self, name, value[at])
        self.owners, self.alive = [self.owners[b] for b in keep], [self.alive[b] for b in keep]

    def _stopped(self, pick: _Pick, ends: Bool[Tensor, "B N"]) -> Tensor:
        """The candidates that are complete without an end id."""
        ids, lengths = self.ids.tolist(), self.lengths.tolist()
        complete = ends.new_zeros(ends.shape).tolist()
        for b, (parents, tokens, done) in enumerate(
            zip(pick.parents.tolist(), pick.tokens.tolist(), ends.tolist(), strict=True)
        ):
            if (stopped := self.owners[b].stopped) is not None and self.alive[b]:
                real = len(ids[b][0]) - lengths[b]
                for n, (parent, token) in enumerate(zip(parents, tokens, strict=True)):
                    complete[b][n] = not done[n] and stopped([*ids[b][parent][real:], token])
        return torch.tensor(complete, dtype=torch.bool, device=ends.device)

    def _end(self, pick: _Pick, ends: Bool[Tensor, "B N"]) -> None:
        counted = (ends & pick.log_p.isfinite())[:, : self.config.beam]
        if not bool(counted.any()):
            return
        block, rank = counted.nonzero(as_tuple=True)
        parent, log_p = pick.parents[block, rank], pick.log_p[block, rank]
        lengths = self.lengths[block]
        score = log_p / ((lengths + 1).double() ** self.config.length_penalty).to(log_p.dtype)
        if self.coverage is not None:
            covered = self.coverage[block, parent].clamp(1e-9, 1.0)
            score = score + self.config.coverage_penalty * covered.log().sum(-1)
        ids, last = self.ids[block, parent].tolist(), pick.tokens[block, rank].tolist()
        limits = self.limits[block].tolist()
        columns = block.tolist(), ids, last, lengths.tolist(), limits, log_p.tolist(), score.tolist()
        for b, tokens, token, length, limit, p, s in zip(*columns, strict=True):
            by_end = token in self.task.all_ends
            reason: Reason = "length" if by_end and length >= limit else "stop"
            result = (*tokens[len(tokens) - length :], *([] if by_end else [token]))
            self.owners[b].ended.append(Hypothesis(result, p, s, reason))

    def _done(self, log_p: Float[Tensor, "B K"]) -> Bool[Tensor, " B"]:
        """The blocks that need no more steps."""
        config, length = self.config, self.lengths + 1
        if isinstance(config, Sampling):
            return torch.zeros_like(length, dtype=torch.bool)
        first = config.stop == "first" or config.beam == 1
        count = config.beam if first else config.n_best
        bars = []  # the score of the worst result if the search stopped now
        for owner in self.owners:
            results = owner.best(count)
            bars.append(results[-1].score if len(results) == count else -torch.inf)
        bar = torch.tensor(bars, device=log_p.device)
        if first:
            return bar.isfinite()
        a = config.length_penalty
        at = length
        if config.stop == "certain":  # with a positive penalty, the longest hypothesis may become the best
            at = torch.maximum(self.limits, length) + 1 if a > 0 else length + 1
        attainable: Tensor = log_p.amax(1) / at.to(bar.dtype) ** a
        return bar >= attainable


def _constrained(scores: Float[Tensor, "R V"], now: Search) -> tuple[Float[Tensor, "R V"], Float[Tensor, "B K"]]:
    """The scores after what the config and the task demand of a result, and the log-probabilities so far.

    Choosing a token renormalizes what is allowed; what is added to the latter restores the probability that the model
    gave it.
    """
    B, K, T = now.ids.shape
    config, task, history = now.config, now.task, now.ids.view(B * K, T)
    if config.count_prompt:
        history = torch.cat((now.prompts.repeat_interleave(K, 0), history), 1)
        history = history.gather(1, (history >= 0).long().argsort(dim=1, stable=True))  # -1 stands before all others
    if config.repetition_penalty != 1:
        scores = transforms.repetition_penalty(scores, history, config.repetition_penalty)
    forced = torch.where(now.limits <= now.lengths, task.end, -1)
    if P := now.prefixes.shape[1]:
        prefix = now.prefixes.gather(1, now.lengths.clamp(max=P - 1)[:, None])[:, 0]
        forced = torch.where((prefix >= 0) & (now.lengths < P), prefix, forced)
    short = now.lengths < config.min_length
    lengthened = bool(config.min_length) and bool(short.any())
    if not (config.no_repeat_ngram or lengthened or bool((forced >= 0).any())):
        return scores, now.log_p
    log_p = scores.log_softmax(-1)
    allowed = log_p
    if config.no_repeat_ngram:
        allowed = transforms.no_repeat_ngram(allowed, history, config.no_repeat_ngram)
        allowed[:, task.end] = log_p[:, task.end]  # finished rows repeat it
    if lengthened:
        longer = transforms.without(allowed, task.end_ids)
        allowed = torch.where(short.repeat_interleave(K)[:, None], longer, allowed)
    token = forced.repeat_interleave(K)[:, None]
    only = torch.full_like(log_p, -torch.inf).scatter_(1, token.clamp(min=0), log_p.gather(1, token.clamp(min=0)))
    changed = token >= 0
    if config.no_repeat_ngram:
        changed = torch.ones_like(changed)
    elif lengthened:
        changed |= short.repeat_interleave(K)[:, None]
    allowed = torch.where(token >= 0, only, allowed)
    left = allowed.logsumexp(-1, keepdim=True)
    return torch.where(changed, allowed, scores), now.log_p + torch.where(changed, left, 0.0).view(B, K)


def _best(scores: Float[Tensor, "R V"], now: Search) -> _Pick:
    """The most probable continuations of the hypotheses of each block."""
    B, K, _ = now.ids.shape
    beam = now.config.beam
    # The softmax kernel is several times faster than logsumexp, and keeps the order.
    p, tokens = scores.softmax(-1).topk(min(beam + 1, scores.shape[1]))
    total = (now.log_p[:, :, None] + p.log().view(B, K, -1)).flatten(1)
    log_p, index = total.topk(min(2 * beam, total.shape[1]))
    return _Pick(index // p.shape[1], tokens.view(B, -1).gather(1, index), log_p)


def _sampled(scores: Float[Tensor, "B V"], now: Search, config: Sampling) -> _Pick:
    """A token drawn for each block that has not ended."""
    log_p, p = scores.log_softmax(-1), transforms.distribution(scores, config)
    tokens = torch.zeros(len(p), 1, dtype=torch.long, device=p.device)
    live = [b for b, alive in enumerate(now.alive) if alive]
    for generator, part in groupby(live, key=lambda b: now.owners[b].generator):
        at = torch.tensor([*part], device=p.device)
        tokens[at] = torch.multinomial(p[at], 1, generator=generator)
    return _Pick(torch.zeros_like(tokens), tokens, now.log_p + log_p.gather(1, tokens))


def _kept(alive: Sequence[bool]) -> list[int] | None:
    """The unfinished blocks, filled up with finished ones so that only few batch sizes occur; None = all.

    Matrix kernels are compiled for each new shape, which costs more than the finished rows.
    """
    live = sum(alive)
    room = min(len(alive), -(-live // _GRAIN) * _GRAIN)
    if room == len(alive):
        return None
    order = sorted(range(len(alive)), key=lambda b: not alive[b])
    return sorted(order[:room])


_GRAIN = 16
