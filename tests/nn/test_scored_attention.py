from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqloom.inspection.capture import look
from seqloom.nn.memory import Memory
from seqloom.nn.scored_attention import AttentionConfig, ScoredAttention

B, T, S, D, M, A = 3, 2, 5, 7, 7, 11
LENGTHS = [5, 2, 4]
MASK = torch.arange(S) < torch.tensor(LENGTHS)[:, None]


def an_attention(**options: object) -> tuple[ScoredAttention, Memory, Tensor]:
    reader = ScoredAttention(AttentionConfig(**options), D, M).double()
    for parameter in reader.parameters():
        torch.nn.init.normal_(parameter)
    states = torch.randn(B, S, M).double()
    return reader, Memory(states, MASK, states[:, 0]), torch.randn(B, T, D).double()


def fit(reader: ScoredAttention, q: Tensor, k: Tensor, had: float) -> float:
    match reader.config.score:
        case "dot":
            return float(q @ k)
        case "scaled-dot":
            return float(q @ k) / math.sqrt(D)
        case "general":
            return float(reader.query.weight @ q @ k)
        case _:
            inside = reader.query.weight @ q + reader.key.weight @ k + reader.key.bias
            if reader.config.coverage:
                inside = inside + reader.covered.weight[:, 0] * had
            return float(reader.score.weight[0] @ inside.tanh())


def loop(reader: ScoredAttention, memory: Memory, q: Tensor, had: Tensor) -> tuple[Tensor, Tensor]:
    """Contexts and weights, number by number."""
    weights, window = torch.zeros(*q.shape[:2], S).double(), reader.config.window
    for b in range(B):
        for t in range(q.shape[1]):
            middle = 0.0
            if window:
                middle = (LENGTHS[b] - 1) * float(reader.place(q[b, t]).sigmoid())
            seen = [s for s in range(LENGTHS[b]) if not window or abs(s - middle) <= window]
            e = {s: math.exp(fit(reader, q[b, t], memory.states[b, s], float(had[b, s]))) for s in seen}
            for s in seen:
                bell = math.exp(-((s - middle) ** 2) / (2 * (window / 2) ** 2)) if window else 1.0
                weights[b, t, s] = e[s] / sum(e.values()) * bell
    return weights @ memory.states, weights


SCORES = [{"score": s} for s in ("dot", "scaled-dot", "general", "additive")]
LOCAL = [{"score": s, "window": 2} for s in ("general", "additive")]
COVER = [{"score": "additive", "coverage": True}, {"score": "additive", "inner": 11}]


@torch.no_grad()
@pytest.mark.parametrize("options", SCORES + LOCAL + COVER, ids=str)
def test_it_is_its_equations(options):
    reader, memory, q = an_attention(**options)
    had, coverage = torch.rand(B, S).double() * MASK, reader.config.coverage
    q = q[:, :1] if coverage else q
    with look(reader) as seen:
        context, covered = reader(q, reader.read(memory), had if coverage else None)
    expected, weights = loop(reader, memory, q, had)
    torch.testing.assert_close(context, expected)
    torch.testing.assert_close(seen.weights("")[:, 0], weights)
    if coverage:
        torch.testing.assert_close(covered, had + weights.sum(1))
    else:
        assert covered is None


@torch.no_grad()
@pytest.mark.parametrize("options", SCORES + LOCAL + COVER + [{"score": "multi-head", "heads": 7}], ids=str)
def test_rows_that_share_a_sentence(options):
    reader, memory, _ = an_attention(**options)
    q, had = torch.randn(2 * B, T, D).double(), None
    if options.get("coverage"):
        q, had = q[:, :1], torch.rand(2 * B, S).double()
    rows = torch.arange(B).repeat_interleave(2)
    shared = reader(q, reader.read(memory), had)
    apart = reader(q, reader.read(memory.select(rows)), had)
    torch.testing.assert_close(shared, apart)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"score": "dot", "coverage": True}, "coverage needs"),
        ({"score": "multi-head", "window": 3}, "window needs"),
        ({"window": -1}, "window must be from 0"),
        ({"heads": 0}, "heads must be from 1"),
    ],
)
def test_impossible_choices(options, word):
    with pytest.raises(ValueError, match=word):
        AttentionConfig(**options)


def test_widths_that_do_not_fit():
    with pytest.raises(ValueError, match="as wide as the memory, 7, not 5"):
        AttentionConfig(score="dot").check(5, 7)
    with pytest.raises(ValueError, match="into 4 heads"):
        AttentionConfig(score="multi-head").check(7, 7)
    AttentionConfig(score="general").check(5, 7)
