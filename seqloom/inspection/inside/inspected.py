"""One input of a model in use, with what the model made of it: what every view of it, on a page or in a report, reads.

The predictors of all tasks give it: `seqloom.load(RUN).look("a text")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from seqloom.inspection.attention import AttentionMap
from seqloom.inspection.capture import MOST, Inside, look
from seqloom.shapes import Float, Int, Tensor

Run = Callable[[int], Tensor]
_SELF = " self-attention"


@dataclass(frozen=True)
class Positions:
    """What one half of a model reads.

    Args:
        names: a readable token, or the number of a patch or a time step.
        ids: of tokens; () = there are none.
        texts: the texts that the tokens are from.
        places: for each token the number of its text, and the characters at which it begins and ends there; (-1, 0, 0)
            for one of no text, as special ones are. () = unknown.
    """

    names: Sequence[str]
    ids: Sequence[int] = ()
    texts: Sequence[str] = ()
    places: Sequence[tuple[int, int, int]] = ()

    def within(self, begin: int, end: int, text: int = 0) -> list[int]:
        """The positions of the tokens between two characters of a text."""
        return [i for i, (of, first, last) in enumerate(self.places) if of == text and first < end and last > begin]

    def words(self, text: int = 0) -> list[tuple[str, list[int]]]:
        """The words of a text, which stand between blanks, with the positions of their tokens."""
        whole, at, words = self.texts[text], 0, list[tuple[str, list[int]]]()
        for word in whole.split():
            at = whole.index(word, at)
            words.append((word, self.within(at, at + len(word), text)))
            at += len(word)
        return words


@dataclass(frozen=True)
class Inspected:
    """One input, and what a model did with it.

    Args:
        model: the model, in evaluation mode.
        sides: what is read, by half: "encoder", "decoder", and "memory" where a decoder attends to more than one
            encoder's states, each under "text encoder", ...
        run: (rows) -> the scores (rows N V) of the input, so many times over: of the next token at each of N positions,
            of the labels (N = 1), of the first and the last position of a span (N = 2, V = T).
        final: the scores (B N V) of the states (B T D) of the last stack, after its norm.
        embedders: what embeds each side.
        output: the name of each of the V outputs.
        asked: the output that each of the N positions is asked about: the token that is read next, or the predicted
            label.
        seen: what the layers computed with.
        scores: of the outputs.
    """

    model: nn.Module
    sides: Mapping[str, Positions]
    run: Run
    final: Callable[[Tensor], Tensor]
    embedders: Mapping[str, nn.Module]
    output: Callable[[int], str]
    asked: Int[Tensor, " N"]
    seen: Inside = field(repr=False)
    scores: Float[Tensor, "N V"] = field(repr=False)

    @cached_property
    def log_p(self) -> Float[Tensor, "N V"]:
        """The log-probability of each output."""
        return self.scores.log_softmax(-1)

    def axes(self, title: str) -> tuple[Sequence[str], Sequence[str]]:
        """The names of the rows and the columns of attention; those across are named after what is predicted there."""
        if title != "cross-attention":
            names = self.sides[title.removesuffix(_SELF)].names
            return names, names
        rows = self.sides["decoder"].names
        if len(rows) == len(self.asked):
            rows = [self.output(int(i)) for i in self.asked]
        return rows, self.sides.get("memory", self.sides["encoder"]).names

    def within(self, side: str) -> np.ndarray | None:
        """The self-attention of a side (layers heads T T); None = nothing attends there."""
        layers = self.seen.groups().get(side + _SELF)
        return None if layers is None else self.seen.stacked(layers).numpy()

    def maps(self) -> list[AttentionMap]:
        """All attention weights, as the report shows them."""
        groups = self.seen.groups().items()
        return [AttentionMap(title, *self.axes(title), self.seen.stacked(names).numpy()) for title, names in groups]

    def data(self, best: int = 5) -> dict[str, Any]:
        """All but the arrays, as JSON has it: positions, the best outputs of each, and which layers can be looked at.

        `seen.weights(layer, head)` gives the weights of each layer that is named.
        """
        p, of = self.log_p.exp().topk(min(best, self.log_p.shape[-1]))
        asked = self.log_p.gather(1, self.asked[:, None])[:, 0].exp().tolist()
        attention = [
            {"title": title, "layers": names, "heads": self.heads(names[0])}
            | dict(zip(("rows", "columns"), map(list, self.axes(title)), strict=True))
            for title, names in self.seen.groups().items()
        ]
        return {
            "sides": {name: {k: list(v) for k, v in vars(side).items()} for name, side in self.sides.items()},
            "predictions": [
                {
                    "asked": self.output(int(i)),
                    "p": q,
                    "best": [{"output": self.output(j), "p": x} for j, x in zip(js, xs, strict=True)],
                }
                for i, q, js, xs in zip(self.asked, asked, of.tolist(), p.tolist(), strict=True)
            ],
            "attention": attention,
            "streams": [*self.seen.streams],
            "recurrent": [*self.seen.passes],
        }

    def heads(self, layer: str) -> int:
        """The number of heads of an attention layer."""
        return self.seen.attention[layer][0].queries.shape[1]


def inspect(model: nn.Module, run: Run, *, asked: Sequence[int] = (), most: int = MOST, **parts: Any) -> Inspected:
    """Runs a model on one input and keeps what its layers compute with.

    Args:
        model, run: see Inspected.
        asked: see Inspected; for the positions that are left open, it is the best output.
        most: the most bytes that are kept.
        parts: the other fields of Inspected.
    """
    model.eval()
    with torch.inference_mode(), look(model, most=most) as seen:
        scores = run(1)[0].float().cpu()
    answers = torch.cat((torch.tensor([*asked], dtype=torch.long), scores.argmax(-1)[len(asked) :]))
    return Inspected(model, run=run, asked=answers, seen=seen, scores=scores, **parts)
