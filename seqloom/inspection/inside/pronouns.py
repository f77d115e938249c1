"""Which noun a pronoun attends to, by layer and head (Clark et al. 2019), and how often that is the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from seqloom.data.rows import Pronoun
from seqloom.errors import UsageError
from seqloom.inspection.inside.inspected import Inspected
from seqloom.shapes import Float, Tensor


@dataclass(frozen=True)
class Linked:
    """How often a head links a pronoun to its noun.

    Args:
        pronouns: how many were read.
        share: (layers heads), the share that attends more to the right noun than to any other.
        nearest: the share whose noun is the nearest one before the pronoun, which is no understanding.
    """

    pronouns: int
    share: np.ndarray
    nearest: float

    @property
    def best(self) -> tuple[int, int]:
        """Layer and head with the largest share; among as many as there are, some are good by chance."""
        layer, head = np.unravel_index(int(self.share.argmax()), self.share.shape)
        return int(layer), int(head)


def noun_weights(inspected: Inspected, row: Pronoun) -> Float[Tensor, "L H K"]:
    """How much the tokens of the pronoun attend, on average, to the token of each of K nouns that gets the most.

    Raises UsageError where one of them was not read.
    """
    groups = [title for title in inspected.seen.groups() if title != "cross-attention"]
    if not groups:
        raise UsageError("nothing attends within the text", cure="look at a Transformer")
    side = inspected.sides[groups[0].removesuffix(" self-attention")]
    own, *nouns = (side.within(*span) for span in (row.pronoun, *row.nouns))
    if not own or not all(nouns):
        raise UsageError("the pronoun or a noun was not read", where=row.where, cure="shorten the text")
    weights = inspected.seen.stacked(inspected.seen.groups()[groups[0]])[:, :, own].mean(2)
    return torch.stack([weights[..., noun].amax(-1) for noun in nouns], -1)


def link_pronouns(look: Callable[[str], Inspected], rows: Iterable[Pronoun]) -> Linked:
    """Links the pronouns of texts that a predictor looks at: `link_pronouns(predictor.look, read_pronouns(path))`.

    Raises UsageError where no text could be read.
    """
    right, near = [], []
    for row in rows:
        try:
            weights = noun_weights(look(row.text), row)
        except UsageError as error:
            if error.where != row.where:
                raise
            continue
        right.append((weights.argmax(-1) == row.answer).numpy())
        before = [end if end <= row.pronoun[0] else -1 for _, end in row.nouns]
        near.append(int(np.argmax(before)) == row.answer)
    if not right:
        raise UsageError("none of the texts could be read to its pronoun", cure="shorten them")
    return Linked(len(right), np.mean(right, 0), float(np.mean(near)))
