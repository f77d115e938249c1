"""What a model attends to while it translates a text, or writes about an image or a signal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqloom.inspection.attention import AttentionMap, Example
from seqloom.inspection.images import words_over_image
from seqloom.inspection.page import Markup
from seqloom.inspection.signals import signal_figure
from seqloom.tasks.encoder.media import ImageMedium
from seqloom.tasks.encoder.signals import SignalMedium
from seqloom.tasks.seq2seq.predictor import Translator


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
    seen = translator.look(text)
    return seen.sides["decoder"].texts[0], {each.title: each for each in seen.maps()}
