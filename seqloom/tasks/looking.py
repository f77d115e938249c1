"""What the inputs of a predictor look like position by position, for what looks inside its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from seqloom.data.batches.batch import ReadingBatch
from seqloom.data.batches.windows import Item, Row, Window, collate
from seqloom.inspection.inside.inspected import Inspected, Positions, inspect
from seqloom.models.assemblies import TextReader
from seqloom.models.encoder import EncoderOnly
from seqloom.nn.memory import Memory, mean_summary
from seqloom.objectives.reading import batch_scores, memory_scores
from seqloom.text.tokenizer import Tokenizer


def token_positions(
    tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray, texts: Sequence[str], encoder: Tokenizer | None = None
) -> Positions:
    """The positions of the tokens of some texts, one after another, perhaps cut, with special ones around them.

    `encoder`: the tokenizer that encoded them, where it is not that which names the tokens.
    """
    row, places, at = [int(i) for i in ids], [(-1, 0, 0)] * len(ids), 0
    if tokenizer.special is None or not tokenizer.special.kmers:
        for number, text in enumerate(texts):
            begin = 0
            for line in text.split("\n") if tokenizer.line_end is not None else [text]:
                ((own, spans),) = (encoder or tokenizer).encode_places([line])
                first, length = _longest(row, own.tolist(), at)
                for i, (low, high) in enumerate(spans[:length].tolist(), first):
                    places[i] = (number, begin + low, begin + high)
                at, begin = first + length, begin + len(line) + 1
    return Positions(tokenizer.tokens(row), row, [*texts], places)


def _longest(row: Sequence[int], part: Sequence[int], at: int) -> tuple[int, int]:
    """Where the most tokens of the beginning of a part are in a row from `at` on, first, and how many."""
    lengths = {first: _shared(row[first:], part) for first in range(at, len(row))}
    first = max(lengths, key=lambda i: (lengths[i], -i), default=at)
    return (first, lengths[first]) if lengths.get(first) else (at, 0)


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def window_positions(
    model: nn.Module, tokenizer: Tokenizer | None, row: Row, texts: Sequence[str]
) -> dict[str, Positions]:
    """The sides that a row is read by: "encoder", and "text encoder" and "memory" where a text stands beside it."""
    window = row if isinstance(row, Window) else Window(row)
    if window.modality == "text" and tokenizer is not None:
        read = token_positions(tokenizer, window.values, texts)
        return {"encoder": read if (left := after_front(model, read.names)) is read.names else Positions(left)}
    numbered = Positions(after_front(model, [str(i) for i in range(window.positions or len(window.values))]))
    if window.beside is None or tokenizer is None:
        return {"encoder": numbered}
    text = token_positions(tokenizer, window.beside.values, texts[-1:])
    return {"encoder": numbered, "text encoder": text, "memory": Positions([*numbered.names, *text.names])}


def after_front(model: nn.Module, names: Sequence[str]) -> Sequence[str]:
    """The names of the positions that the encoder of a model reads, each that of the first one it was made of."""
    front: Any = getattr(model, "front", None)
    return names if front is None else names[:: front.config.stride]


def look_at_window(
    model: TextReader,
    head: str,
    window: Window,
    texts: Sequence[str],
    tokenizer: Tokenizer | None,
    labels: Sequence[str],
    most: int,
) -> Inspected:
    """A window read by a model with a head.

    Args:
        model, head: the model, and which of its heads.
        window: what is read.
        texts: the texts it is from.
        tokenizer: of the texts; None = there are none.
        labels: of the outputs; () = the tokens of the vocabulary, or the positions of a span.
        most: see Inside.
    """
    sides, device = window_positions(model, tokenizer, window, texts), next(model.parameters()).device

    def shaped(scores: Tensor) -> Tensor:
        return scores.transpose(1, 2) if head == "span" else scores[:, None] if scores.ndim == 2 else scores

    def batch(rows: int) -> ReadingBatch:
        return collate([Item((window,))] * rows).to(device)

    def run(rows: int) -> Tensor:
        return shaped(batch_scores(model, head, batch(rows)))

    def final(states: Tensor) -> Tensor:
        summary = mean_summary(states, None) if isinstance(model, EncoderOnly) else states[:, -1]
        return shaped(memory_scores(model, head, Memory(states, None, summary), batch(len(states))))

    def output(i: int) -> str:
        if labels:
            return labels[i]
        return sides["encoder"].names[i] if head == "span" or tokenizer is None else tokenizer.tokens([i])[0]

    if not isinstance(model, EncoderOnly):  # it reads by a decoder: a language model, or the queries of a task
        queries = getattr(model, "queries", 0)
        asking = Positions([f"query {i + 1}" for i in range(queries)])
        sides = {**sides, "decoder": asking} if queries else {"decoder": sides["encoder"]}
    embedders = {("encoder" if "encoder" in sides else "decoder"): model.embedder}
    return inspect(model, run, sides=sides, final=final, embedders=embedders, output=output, most=most)
