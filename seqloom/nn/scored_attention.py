"""Attention of a decoder over a memory, as recurrent models use it.

    a = softmax(score(q, k)),  context = sum a v

Sources: dot, general, scaled-dot: Luong et al. 2015, Vaswani et al. 2017; additive: Bahdanau et al. 2015; the local
window (predictive alignment): Luong et al. 2015, section 3.2; coverage: See et al. 2017, eq. 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from seqloom.limits import Bounded, HeadCount, LengthOrZero, WidthOrZero
from seqloom.nn.attention import (
    Attended,
    CrossAttention,
    Heads,
    KeyValues,
    Scope,
    apply_weights,
    folded,
    memories_together,
    unfolded,
)
from seqloom.nn.linear import Linear
from seqloom.nn.masks import additive
from seqloom.nn.memory import Memory
from seqloom.nn.observe import note
from seqloom.shapes import Bool, Float, Tensor


@dataclass(frozen=True)
class AttentionConfig(Bounded):
    """How a decoder attends to the memory.

    Args:
        score: the function that scores a query against a position.
        inner: features of the additive score; 0 = the decoder's width.
        heads: the heads of the multi-head score.
        window: D of local attention: only the 2 D + 1 positions around a predicted one count; 0 = all positions.
        coverage: whether the additive score sees how much attention each position has received so far.
    """

    score: Literal["dot", "general", "additive", "scaled-dot", "multi-head"] = "additive"
    inner: WidthOrZero = 0
    heads: HeadCount = 4
    window: LengthOrZero = 0
    coverage: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coverage and self.score != "additive":
            raise ValueError("coverage needs score = 'additive'")
        if self.window and self.score == "multi-head":
            raise ValueError("a window needs a score other than 'multi-head'")

    def check(self, width: int, memory_width: int) -> None:
        """Raises ValueError if it does not fit a decoder of `width` and a memory of `memory_width`."""
        if self.score in ("dot", "scaled-dot") and width != memory_width:
            problem = f"score = {self.score!r} needs a decoder as wide as the memory, {memory_width}, not {width}"
            raise ValueError(f"{problem}; use 'general' or 'additive'")
        if self.score == "multi-head" and width % self.heads:
            raise ValueError(f"width {width} cannot be split into {self.heads} heads")


@dataclass(frozen=True)
class AttendedMemory:
    """The keys, values and mask of B sentences, computed once for all decoding steps."""

    kv: KeyValues
    mask: Bool[Tensor, "B S"] | None

    def select(self, sentences: Tensor) -> AttendedMemory:
        """The memory of the given sentences."""
        return AttendedMemory(self.kv.select(sentences), None if self.mask is None else self.mask[sentences])

    def joined(self, *others: AttendedMemory) -> AttendedMemory:
        """The memory of the sentences of this one and of others."""
        (kv,), mask = memories_together([((memory.kv,), memory.mask) for memory in (self, *others)])
        return AttendedMemory(kv, mask)


class ScoredAttention(nn.Module):
    """Queries of `width` over a memory of `memory_width`; the result has the width `context`."""

    def __init__(self, config: AttentionConfig, width: int, memory_width: int) -> None:
        super().__init__()
        self.config = config
        self.context = width if config.score == "multi-head" else memory_width
        A = config.inner or width
        match config.score:
            case "general":
                self.query = Linear(width, memory_width, bias=False)
            case "additive":
                self.query = Linear(width, A, bias=False)
                self.key = Linear(memory_width, A)
                self.score = Linear(A, 1, bias=False)
                if config.coverage:
                    self.covered = Linear(1, A, bias=False)
            case "multi-head":
                sizes = Heads(width, config.heads, config.heads, width // config.heads, True, True, 0.0)
                self.many = CrossAttention(sizes, memory_width)
        if config.window:
            self.place = nn.Sequential(Linear(width, A), nn.Tanh(), Linear(A, 1))

    def read(self, memory: Memory) -> AttendedMemory:
        """Computes once what every decoding step uses."""
        if self.config.score == "multi-head":
            return AttendedMemory(self.many.read(memory.states), memory.mask)
        keys = self.key(memory.states) if self.config.score == "additive" else memory.states
        return AttendedMemory(KeyValues(keys[:, None], memory.states[:, None]), memory.mask)

    def forward(
        self, q: Float[Tensor, "R T D"], memory: AttendedMemory, covered: Float[Tensor, "R S"] | None = None
    ) -> tuple[Float[Tensor, "R T C"], Float[Tensor, "R S"] | None]:
        """The contexts and, with coverage, the sum of the attention so far (which needs T = 1).

        Consecutive rows may share a sentence.
        """
        scope = Scope(None if memory.mask is None else memory.mask[:, None, None, :])
        if self.config.score == "multi-head":
            return self.many(q, memory.kv, scope), None
        R, B = q.shape[0], memory.kv.keys.shape[0]
        rows = folded(q[:, None], B)  # B 1 (R/B T) D
        scores = self._scores(rows, memory.kv.keys, None if covered is None else folded(covered[:, None, None], B))
        if scope.mask is not None:
            scores = scores + additive(scope.mask, scores.dtype)
        weights = scores.softmax(-1) if not self.config.window else self._local(rows, scores, memory.mask)
        context = unfolded(apply_weights(weights, memory.kv.values), R)
        note(self, Attended, R, rows, memory.kv.keys, memory.kv.values, scope, weights)
        if covered is not None:
            covered = covered + unfolded(weights, R)[:, 0].sum(1)
        return context[:, 0], covered

    def _scores(self, q: Tensor, k: Tensor, covered: Tensor | None) -> Tensor:
        match self.config.score:
            case "additive":
                fit = self.query(q)[:, 0, :, None] + k  # B T S A
                if covered is not None:
                    fit = fit + self.covered(covered[:, 0, :, :, None])
                scores: Tensor = self.score(fit.tanh())[..., 0][:, None]
                return scores
            case "general":
                q = self.query(q)
            case "scaled-dot":
                q = q * q.shape[-1] ** -0.5
        return q @ k.transpose(-1, -2)

    def _local(self, q: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Weights inside the window, multiplied by a Gaussian around the position that the query predicts."""
        S = scores.shape[-1]
        length = torch.full((scores.shape[0],), S, device=q.device) if mask is None else mask.sum(-1)
        exact = torch.promote_types(q.dtype, torch.float32)  # bfloat16 cannot tell positions apart
        middle = (length[:, None, None, None] - 1) * self.place(q).to(exact).sigmoid()
        away = (torch.arange(S, device=q.device) - middle).to(scores.dtype)  # B 1 T S
        D = self.config.window
        weights = (scores + additive(away.abs() <= D, scores.dtype)).softmax(-1)
        return weights * torch.exp(-2 * (away / D) ** 2)
