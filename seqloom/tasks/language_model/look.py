"""The attention of a language model within texts."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.inspection.attention import Example
from seqloom.tasks.language_model.predictor import Generator

_SHOWN = 40  # tokens of each text


def look(generator: Generator, texts: Sequence[str]) -> list[Example]:
    """The attention within each text; empty for a model without attention."""
    shown = min(_SHOWN, generator.context or _SHOWN)
    seen = [(text, generator.look(text, tokens=shown).maps()) for text in texts]
    return [Example(text, "", "", maps) for text, maps in seen if maps]
