"""Transforms of the logits of the next token before one is chosen. Each takes scores (R V)."""

from __future__ import annotations

import torch

from seqloom.decoding.config import Sampling
from seqloom.shapes import Float, Int, Tensor

_PART = 64  # tokens
_NUCLEUS = 256  # tokens, in which most of the probability is sought first
_FEW = 1 << 15  # scores, for which `topk` alone is faster

Scores = Float[Tensor, "R V"]
History = Int[Tensor, "R T"]


def repetition_penalty(scores: Scores, history: History, penalty: float) -> Scores:
    """Divides positive scores of tokens already used by `penalty`, multiplies negative ones (Keskar et al. 2019).

    -1 in the history stands for no token; the last one of a row is real.
    """
    history = torch.where(history >= 0, history, history[:, -1:])
    used = scores.gather(1, history)
    return scores.scatter(1, history, torch.where(used > 0, used / penalty, used * penalty))


def no_repeat_ngram(scores: Scores, history: History, size: int) -> None:
    """Forbids, in place, each token that would complete a `size`-gram that the row has (Paulus et al. 2018)."""
    T = history.shape[1]
    if size > T:
        return
    grams = history.unfold(1, size, 1)  # R T-size+1 size
    last = history[:, T - size + 1 :]
    repeats = (grams[:, :, :-1] == last[:, None, :]).all(-1) & (grams[:, :, -1] >= 0)  # -1 stands for no token
    row, position = repeats.nonzero(as_tuple=True)
    scores[row, grams[row, position, -1]] = -torch.inf


def without(scores: Scores, tokens: Int[Tensor, " N"], rows: Int[Tensor, "M 1"]) -> None:
    """Forbids tokens in some rows, in place, except where nothing else is possible."""
    before = scores[rows, tokens]
    scores[rows, tokens] = -torch.inf
    alone = scores.amax(-1)[rows[:, 0]] == -torch.inf
    scores[rows[alone], tokens] = before[alone]


def top_k(scores: Scores, k: int) -> Scores:
    """Only the k best tokens of each row."""
    least = likeliest(scores, k)[0][:, -1:]
    return scores.masked_fill(scores < least, -torch.inf)


def top_p(scores: Scores, p: float) -> Scores:
    """The fewest tokens whose probabilities sum to p (nucleus: Holtzman et al. 2020), and all as probable as the last.

    Few tokens suffice where a model knows something; only rows where they do not are sorted as a whole.
    """
    probabilities = scores.softmax(-1)
    first = probabilities.topk(min(_NUCLEUS, scores.shape[1])).values
    sums = first.cumsum(-1)
    least = first.gather(1, (sums[:, :-1] < p).sum(-1, keepdim=True))
    wide = (sums[:, -1] < p).nonzero()[:, 0]
    if len(wide):
        first = probabilities[wide].sort(descending=True).values
        least[wide] = first.gather(1, (first.cumsum(-1)[:, :-1] < p).sum(-1, keepdim=True))
    return scores.masked_fill(probabilities < least, -torch.inf)


def min_p(scores: Scores, p: float) -> Scores:
    """Only tokens at least p times as probable as the best one (Nguyen et al. 2024)."""
    probabilities = scores.softmax(-1)
    return scores.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -torch.inf)


def likeliest(scores: Scores, k: int) -> tuple[Float[Tensor, "R K"], Int[Tensor, "R K"]]:
    """The k greatest scores of each row, greatest first, and their tokens.

    torch's `topk` looks at all tokens in turn, on a CPU; here they are those of the k parts with the greatest maxima.
    """
    R, V = scores.shape
    k, parts = min(k, V), V // _PART
    if scores.device.type != "cpu" or scores.numel() < _FEW or parts < 2 * k:
        values, tokens = scores.topk(k)
        return values, tokens
    whole, rest = scores[:, : parts * _PART].view(R, parts, _PART), scores[:, parts * _PART :]
    part = whole.amax(-1).topk(k).indices
    among = torch.cat((whole.gather(1, part[:, :, None].expand(R, k, _PART)).flatten(1), rest), 1)
    values, at = among.topk(k)
    in_part = part.gather(1, (at // _PART).clamp(max=k - 1)) * _PART + at % _PART
    return values, torch.where(at < k * _PART, in_part, at + (parts - k) * _PART)


def distribution(scores: Float[Tensor, "R V"], config: Sampling) -> Float[Tensor, "R V"]:
    """The distribution to sample from: temperature, then top-k, top-p and min-p."""
    scores = scores / config.temperature
    if config.top_k:
        scores = top_k(scores, config.top_k)
    if config.top_p < 1:
        scores = top_p(scores, config.top_p)
    if config.min_p:
        scores = min_p(scores, config.min_p)
    return scores.softmax(-1)
