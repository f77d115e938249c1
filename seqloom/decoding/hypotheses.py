"""The live hypotheses of what is decoded, and how a step of the search changes them.

Scores are tensors; of each step only the few best candidates come to Python, which keeps the hypotheses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from seqloom.decoding import transforms
from seqloom.decoding.config import DecodingConfig, Sampling
from seqloom.decoding.job import Task
from seqloom.decoding.results import Candidate, Choice, Hypothesis, Reason, Result
from seqloom.nn.state import stacked
from seqloom.shapes import Float, Int, Tensor

_Pick = tuple[int, int, float]
"""A candidate: the hypothesis it continues, its token, and the log-probability of all."""


@dataclass(eq=False)
class _Block:
    """The K live hypotheses of a sentence, or a sample.

    Args:
        owner: what becomes of the sentence.
        prompt: what was read before; its last id is read first.
        prefix: the ids that it must begin with, -1 where it is free.
        limit: the most ids of a result, without the end.
        hypotheses: their ids.
        log_p: their log-probabilities; minus infinity = there is none.
        alive: whether it goes on. Blocks that have ended fill a batch up.
    """

    owner: Result
    prompt: Sequence[int]
    prefix: Sequence[int]
    limit: int
    hypotheses: list[tuple[int, ...]]
    log_p: list[float]
    alive: bool = True

    @property
    def length(self) -> int:
        """The ids of each hypothesis."""
        return len(self.hypotheses[0])

    def forced(self, end: int) -> int:
        """The only id that may follow; -1 = any."""
        n = self.length
        if n < len(self.prefix) and self.prefix[n] >= 0:
            return self.prefix[n]
        return end if n >= self.limit else -1


Kept = tuple[list[int], list[int] | None]
"""The rows to keep of a state, and the blocks if they are not all."""


class Search:
    """The live hypotheses of sentences that are decoded in one way: K for each of B blocks, a sentence or a sample.

    Args:
        task: what to decode.
        config: how.
        results: what becomes of each sentence of the task; None = new ones.
    """

    def __init__(self, task: Task, config: DecodingConfig, results: Sequence[Result] | None = None) -> None:
        self.task, self.config, self.device = task, config, task.limits.device
        copies = config.n_best if isinstance(config, Sampling) else 1
        count = len(task.limits)
        self.sentences = [i for i in range(count) for _ in range(copies)]
        if results is None:
            generator = torch.Generator(self.device).manual_seed(config.seed)
            results = [Result(task.stopped, generator) for _ in range(count)]
        self.results = results
        for result in results:
            result.live = copies
        first, limits = task.first().tolist(), task.limits.tolist()
        prompts = [[i] for i in first] if task.prompts is None else task.prompts.tolist()
        prefixes = [[]] * count if task.prefixes is None else task.prefixes.tolist()
        self.blocks = [
            _Block(results[i], [*prompts[i][:-1], first[i]], prefixes[i], limits[i], [()], [0.0])
            for i in self.sentences
        ]
        self.coverage: Float[Tensor, "B K S"] | None = None

    def __bool__(self) -> bool:
        return bool(self.blocks)

    @property
    def width(self) -> int:
        """K."""
        return len(self.blocks[0].hypotheses)

    @property
    def rows(self) -> int:
        """R = B K."""
        return len(self.blocks) * self.width

    @property
    def newest(self) -> list[int]:
        """The newest id of each hypothesis."""
        return [h[-1] if h else block.prompt[-1] for block in self.blocks for h in block.hypotheses]

    @property
    def kind(self) -> Any:
        """What searches have in common that can become one."""
        return self.config.shared, self.task.all_ends, self.task.attention

    def take(self, scores: Float[Tensor, "_ V"], rows: slice) -> Kept:
        """Goes one step on; returns the rows, and the blocks if they are not all, to keep of the state.

        Args:
            scores: the logits of the id after the last one of each row of all searches.
            rows: those of this one.
        """
        scores, attention = scores[rows].float(), self.task.attention
        config, constrained = self.config, _constrained(scores, self)
        picks = _sampled(*constrained, self, config) if isinstance(config, Sampling) else _best(*constrained, self)
        if self.width == 1:
            self._note(scores, picks)
        if attention is not None:
            self._cover(attention()[rows].view(len(self.blocks), self.width, -1))
        return self._advance(picks)

    def _note(self, scores: Tensor, picks: Sequence[Sequence[_Pick]]) -> None:
        noted = [b for b, block in enumerate(self.blocks) if block.alive and block.owner.chosen is not None]
        detailed = [b for b in noted if self.blocks[b].owner.top is not None]
        choices = {b: Choice(picks[b][0][1]) for b in noted}
        if detailed:
            log_p = scores[detailed].log_softmax(-1)
            most = min(log_p.shape[1], max(self.blocks[b].owner.top or 0 for b in detailed))
            values, tokens = (each.tolist() for each in log_p.topk(most))
            chosen = torch.tensor([[choices[b].id] for b in detailed], device=self.device)
            of_ids = log_p.gather(1, chosen)[:, 0].tolist()
            for i, b in enumerate(detailed):
                top = tuple(zip(tokens[i], values[i], strict=True))[: self.blocks[b].owner.top]
                choices[b] = Choice(choices[b].id, of_ids[i], top)
        for b, choice in choices.items():
            noted_so_far = self.blocks[b].owner.chosen
            assert noted_so_far is not None
            noted_so_far.append(choice)

    def _cover(self, attention: Float[Tensor, "B K S"]) -> None:
        if self.coverage is None:
            mask = self.task.source_mask
            at = torch.tensor(self.sentences, device=self.device)
            covered = 0 if mask is None else (~mask[at, None]).to(attention.dtype)
            self.coverage = attention + covered
        else:  # the memory of a batch is as wide as its longest source
            missing = self.coverage.shape[2] - attention.shape[2]
            self.coverage = self.coverage + F.pad(attention, (0, missing))

    def _advance(self, picks: Sequence[Sequence[_Pick]]) -> Kept:
        """Removes ended hypotheses and keeps the best of the rest."""
        K, width, covered = self.width, min(self.config.beam, len(picks[0])), self._covered()
        rows = list[int]()
        for b, (block, candidates) in enumerate(zip(self.blocks, picks, strict=True)):
            if not block.alive:
                parents = [*range(K), *[0] * width][:width]
                block.hypotheses, block.log_p = [block.hypotheses[i] for i in parents], [-torch.inf] * width
            else:
                going, ended = self._split(block, candidates, covered[b])
                block.owner.ended += ended.values()
                block.alive = bool(going) and not self._done(block, candidates[going[0]][2])
                block.owner.live -= not block.alive
                going = going if block.alive else []
                _note_candidates(block.owner, candidates, going, ended)
                # Places that nothing goes on in are filled up.
                chosen = [candidates[rank] for rank in [*going, *[0] * width][:width]]
                parents = [parent for parent, _, _ in chosen]
                block.hypotheses = [(*block.hypotheses[parent], token) for parent, token, _ in chosen]
                block.log_p = [*(log_p for _, _, log_p in chosen[: len(going)]), *[-torch.inf] * (width - len(going))]
            rows += [b * K + parent for parent in parents]
        if self.coverage is not None:
            self.coverage = self.coverage.flatten(0, 1)[self._tensor(rows)].view(len(picks), width, -1)
        keep = _kept([block.alive for block in self.blocks])
        if keep is not None:
            self._keep(keep)
            rows = [row for b in keep for row in rows[b * width : (b + 1) * width]]
        return rows, keep

    def without(self, results: Collection[Result]) -> Kept:
        """Removes sentences, and blocks that have ended; returns what `take` does."""
        keep = [b for b, block in enumerate(self.blocks) if block.alive and block.owner not in results]
        rows = [b * self.width + i for b in keep for i in range(self.width)]
        if len(keep) == len(self.blocks):
            return rows, None
        self._keep(keep)
        return rows, keep

    def join(self, other: Search) -> None:
        """Adds the blocks of another search of the same kind, as wide as this one."""
        self.blocks = [*self.blocks, *other.blocks]
        if self.coverage is not None and other.coverage is not None:
            self.coverage = stacked([self.coverage, other.coverage], 1)

    def history(self) -> Int[Tensor, "R T"]:
        """The ids of each hypothesis, with those of its prompt where the config counts them, -1 before shorter ones."""
        counts = self.config.count_prompt
        rows = [(*(b.prompt if counts else ()), *h) for b in self.blocks for h in b.hypotheses]
        longest = max(map(len, rows))
        return self._tensor([(*[-1] * (longest - len(row)), *row) for row in rows])

    def _tensor(self, values: Any) -> Int[Tensor, ...]:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _keep(self, keep: Sequence[int]) -> None:
        self.blocks = [self.blocks[b] for b in keep]
        if self.coverage is not None:
            self.coverage = self.coverage[self._tensor(keep)]

    def _covered(self) -> list[list[float]]:
        """What is added to the score of each hypothesis for what it has attended to."""
        if self.coverage is None:
            return [[0.0] * self.width] * len(self.blocks)
        logs = self.coverage.clamp(1e-9, 1.0).log().sum(-1)
        return (self.config.coverage_penalty * logs).tolist()

    def _split(
        self, block: _Block, candidates: Sequence[_Pick], covered: Sequence[float]
    ) -> tuple[list[int], dict[int, Hypothesis]]:
        """The ranks of the best candidates that go on; and those that have ended and are good enough, by their rank."""
        ends, stopped, length = self.task.all_ends, block.owner.stopped, block.length
        going, ended = list[int](), dict[int, Hypothesis]()
        for rank, (parent, token, log_p) in enumerate(candidates):
            if len(going) == self.config.beam:
                break
            before, by_end = block.hypotheses[parent], token in ends
            if not by_end and log_p != -torch.inf and not (stopped is not None and stopped([*before, token])):
                going.append(rank)
            elif rank < self.config.beam and isfinite(log_p):
                reason: Reason = "length" if by_end and length >= block.limit else "stop"
                score = log_p / (length + 1) ** self.config.length_penalty + covered[parent]
                ended[rank] = Hypothesis(before if by_end else (*before, token), log_p, score, reason)
        return going, ended

    def _done(self, block: _Block, best: float) -> bool:
        """Whether a block needs no more steps; `best`: the log-probability of its best hypothesis that goes on."""
        config, length = self.config, block.length + 1
        if isinstance(config, Sampling):
            return False
        first = config.stop == "first" or config.beam == 1
        results = block.owner.best(config.beam if first else config.n_best)
        if len(results) < (config.beam if first else config.n_best):
            return False
        # With a positive penalty, the longest hypothesis may become the best.
        longest = max(block.limit, length) if config.length_penalty > 0 else length
        at = longest + 1 if config.stop == "certain" else length
        return first or results[-1].score >= best / at**config.length_penalty


def _note_candidates(
    owner: Result, candidates: Sequence[_Pick], going: Sequence[int], ended: Mapping[int, Hypothesis]
) -> None:
    if owner.steps is not None:
        places = {rank: place for place, rank in enumerate(going)}
        step = enumerate(candidates)
        owner.steps.append([Candidate(*pick, places.get(n), ended.get(n)) for n, pick in step if isfinite(pick[2])])


def _constrained(scores: Float[Tensor, "R V"], now: Search) -> tuple[Float[Tensor, "R V"], Float[Tensor, "R V"]]:
    """The logits after the penalties, and what the config and the task leave of them: -inf where they forbid a token.

    A token that is left keeps the log-probability that it has among all. Both are one tensor where none is forbidden.
    """
    config, task, blocks, K = now.config, now.task, now.blocks, now.width
    history = now.history() if config.repetition_penalty != 1 or config.no_repeat_ngram else None
    if history is not None and config.repetition_penalty != 1:
        scores = transforms.repetition_penalty(scores, history, config.repetition_penalty)
    forced = [block.forced(task.end) for block in blocks]
    short = [block.length < config.min_length for block in blocks]
    if not (config.no_repeat_ngram or any(short) or max(forced) >= 0):
        return scores, scores
    allowed = scores.clone()
    if history is not None and config.no_repeat_ngram:
        transforms.no_repeat_ngram(allowed, history, config.no_repeat_ngram)
        allowed[:, task.end] = scores[:, task.end]  # finished rows repeat it
    short_rows, token = (now._tensor(each).repeat_interleave(K) for each in (short, forced))
    if any(short):
        transforms.without(allowed, task.end_ids, short_rows.nonzero())
    if max(forced) >= 0:
        at, token = token >= 0, token[token >= 0]
        allowed[at] = -torch.inf
        allowed[at, token] = scores[at, token]
    return scores, allowed


def _best(scores: Float[Tensor, "R V"], allowed: Float[Tensor, "R V"], now: Search) -> list[list[_Pick]]:
    """The most probable continuations of the hypotheses of each block, best first."""
    B, K, beam = len(now.blocks), now.width, now.config.beam
    values, tokens = transforms.likeliest(allowed, min(beam + 1, scores.shape[1]))
    before = torch.tensor([block.log_p for block in now.blocks], device=now.device)
    # Where the greatest value is known, what is left is faster than logsumexp.
    greatest = values[:, :1] if allowed is scores else scores.amax(1, keepdim=True)
    values = values - (greatest + (scores - greatest).exp_().sum(-1, keepdim=True).log_())
    total, each = (before[:, :, None] + values.view(B, K, -1)).flatten(1), values.shape[1]
    parents = [[0] * each] * B
    if K > 1:
        total, index = total.topk(min(2 * beam, total.shape[1]))
        tokens, parents = tokens.view(B, -1).gather(1, index), (index // each).tolist()
    columns = zip(parents, tokens.tolist(), total.tolist(), strict=True)
    return [[*zip(*block, strict=True)] for block in columns]


def _sampled(
    scores: Float[Tensor, "B V"], allowed: Float[Tensor, "B V"], now: Search, config: Sampling
) -> list[list[_Pick]]:
    """A token drawn for each block that has not ended."""
    p = transforms.distribution(allowed, config)
    tokens = torch.zeros(len(p), 1, dtype=torch.long, device=p.device)
    live = [b for b, block in enumerate(now.blocks) if block.alive]
    for generator, part in groupby(live, key=lambda b: now.blocks[b].owner.generator):
        at = torch.tensor([*part], device=p.device)
        tokens[at] = torch.multinomial(p[at], 1, generator=generator)
    before = torch.tensor([block.log_p for block in now.blocks], device=now.device)
    log_p = before + scores.gather(1, tokens) - scores.logsumexp(-1, keepdim=True)
    columns = zip(tokens[:, 0].tolist(), log_p[:, 0].tolist(), strict=True)
    return [[(0, *pick)] for pick in columns]


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
