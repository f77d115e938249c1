"""Attention through several layers as one map, and as an alignment of words."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from seqloom.errors import UsageError
from seqloom.inspection.inside.inspected import Inspected

Links = AbstractSet[tuple[int, ...]]
"""(source word, target word), perhaps behind the number of their pair."""


def rollout(weights: np.ndarray) -> np.ndarray:
    """How much of each position reaches each other one through all layers (T T), from weights (layers heads T T).

    The heads of a layer are averaged, and half of a position stays where it is (Abnar and Zuidema 2020).
    """
    total = np.eye(weights.shape[-1])
    for layer in weights.mean(1):
        total = (layer + np.eye(len(layer))) / 2 @ total
    return total


def word_links(weights: np.ndarray, target: Sequence[Sequence[int]], source: Sequence[Sequence[int]]) -> Links:
    """For each word of a target that has tokens, the word of the source that it attends to most.

    Args:
        weights: (T S), of the position that predicts each token.
        target, source: the positions of the tokens of each word.

    The weights on the tokens of a word are added, and averaged over those that attend (Garg et al. 2019).
    """
    links = set[tuple[int, int]]()
    for i, rows in enumerate(target):
        if len(rows):
            received = [weights[np.ix_(rows, columns)].sum() if len(columns) else -1.0 for columns in source]
            links.add((int(np.argmax(received)), i))
    return links


def align(translation: Inspected, layers: Sequence[int] = (), heads: Sequence[int] = ()) -> Links:
    """The links (source word, target word) of a translation, from the attention of some layers and heads, or all.

    Raises UsageError for a model in which nothing attends to the source.
    """
    names = layers_across(translation)
    weights = translation.seen.stacked([names[i] for i in layers] or names).numpy()
    mean = weights[:, [*heads] or slice(None)].mean((0, 1))
    # A position predicts the token that the next one reads.
    target = [[i - 1 for i in tokens] for _, tokens in translation.sides["decoder"].words()]
    return word_links(mean, target, [tokens for _, tokens in translation.sides["encoder"].words()])


def layers_across(translation: Inspected) -> list[str]:
    """The layers in which the target attends to the source. Raises UsageError where there are none."""
    if not (names := translation.seen.groups().get("cross-attention")):
        problem = "nothing in this model attends from the target to the source"
        raise UsageError(problem, cure="choose a model whose decoder attends")
    return names


def alignment_error(links: Links, sure: Links, possible: Links = frozenset()) -> float:
    """The alignment error rate, from 0 to 1, less is better (Och and Ney 2003): 1 - (|A S| + |A P|) / (|A| + |S|).

    Every sure link is also a possible one.
    """
    if not links and not sure:
        return 0.0
    return 1 - (len(links & sure) + len(links & (sure | possible))) / (len(links) + len(sure))
