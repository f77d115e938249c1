"""Changes to the scores of the next token, before one is chosen. Each takes and gives scores (R V)."""

from __future__ import annotations

import torch

from seqloom.shapes import Float, Int, Tensor

Scores = Float[Tensor, "R V"]
History = Int[Tensor, "R T"]


def repetition_penalty(scores: Scores, history: History, penalty: float) -> Scores:
    """Words already used: positive scores are divided by `penalty`, negative multiplied (Keskar et al. 2019)."""
    used = scores.gather(1, history)
    return scores.scatter(1, history, torch.where(used > 0, used / penalty, used * penalty))


def no_repeat_ngram(scores: Scores, history: History, size: int) -> Scores:
    """Forbids each word that would complete a `size`-gram which the row has already (Paulus et al. 2018)."""
    T = history.shape[1]
    if size > T:
        return scores
    grams = history.unfold(1, size, 1)  # R T-size+1 size
    last = history[:, T - size + 1 :]
    repeats = (grams[:, :, :-1] == last[:, None, :]).all(-1)
    row, position = repeats.nonzero(as_tuple=True)
    scores = scores.clone()
    scores[row, grams[row, position, -1]] = -torch.inf
    return scores


def without(scores: Scores, word: int) -> Scores:
    """Forbids a word, except where nothing else is possible."""
    forbidden = scores.clone()
    forbidden[:, word] = -torch.inf
    return torch.where(forbidden.isneginf().all(-1, keepdim=True), scores, forbidden)


def top_k(scores: Scores, k: int) -> Scores:
    """Only the k best words of each row."""
    least = scores.topk(min(k, scores.shape[1])).values[:, -1:]
    return scores.masked_fill(scores < least, -torch.inf)


def top_p(scores: Scores, p: float) -> Scores:
    """The fewest words whose probabilities reach p (nucleus: Holtzman et al. 2020); always at least one."""
    ordered, order = scores.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return scores.masked_fill((before >= p).scatter(1, order, before >= p), -torch.inf)


def min_p(scores: Scores, p: float) -> Scores:
    """Only words at least p times as probable as the best one (Nguyen et al. 2024)."""
    probabilities = scores.softmax(-1)
    return scores.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -torch.inf)
