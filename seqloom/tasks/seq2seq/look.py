"""What a model attends to while it translates a text, or writes about an image or a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from seqloom.data.batches.pairs import make_batch
from seqloom.data.batches.windows import Row
from seqloom.inspection.attention import AttentionMap, Example
from seqloom.inspection.capture import look as look_into
from seqloom.inspection.images import words_over_image
from seqloom.inspection.page import Markup
from seqloom.inspection.signals import signal_figure
from seqloom.tasks.encoder.media import ImageMedium, SignalMedium
from seqloom.tasks.encoder.task import after_front
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.text.tokenizer import Tokenizer


def look(translator: Translator, text: str, reference: str = "") -> Example:
    """A text with its translation and all attention weights, from one pass over both."""
    best, maps = _maps(translator, text)
    return Example(text, best, reference, list(maps.values()))


def look_over(translator: Translator, medium: ImageMedium | SignalMedium, source: str, reference: str = "") -> Markup:
    """An image or a signal with what is written about it, and what each token of that attends to."""
    best, maps = _maps(translator, source)
    row, across = medium.row(source), maps.get("cross-attention")
    weights = None if across is None else across.array().mean((0, 1))
    name = Path(row.where).name or best
    lines = {"text": best, "reference": reference}
    if isinstance(medium, SignalMedium):
        strips = [] if across is None or weights is None else [*zip(across.rows, weights, strict=True)]
        return signal_figure(name, " / ".join(filter(None, lines.values())), row.values, strips)
    weights = None if weights is None else weights[:, : medium.positions]  # a text is read behind the image
    return words_over_image(name, lines, row.values, [] if across is None else across.rows, weights)


def _maps(translator: Translator, text: str) -> tuple[str, Mapping[str, AttentionMap]]:
    """The best translation of a text, and the attention weights by kind."""
    best = translator.translate([text])[0][0]
    (source,) = translator.encode([text])
    target = np.append(translator.target.encode([best.text])[0], translator.target.end)
    model = translator.model
    batch = make_batch([source], [target], translator.target.start).to(next(model.parameters()).device)
    with torch.inference_mode(), look_into(model) as seen:
        model(batch.inputs, batch.target_in)
    read, of_source = translator.target.tokens(batch.target_in[0].tolist()), _positions(translator, source)
    sides = {"cross-attention": (translator.target.tokens(target), of_source), "decoder self-attention": (read, read)}
    maps = [
        AttentionMap(title, *sides.get(title, (of_source, of_source)), seen.stacked(names).numpy())
        for title, names in seen.groups().items()
    ]
    return best.text, {each.title: each for each in maps}


def _positions(translator: Translator, source: Row) -> Sequence[str]:
    """The names of the positions of a source: its tokens, or numbers."""
    if isinstance(translator.source, Tokenizer) and isinstance(source, np.ndarray):
        return translator.source.tokens(source)
    return after_front(translator.model, [str(i) for i in range(len(source))])
