"""The attention of a language model within texts."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.inspection.attention import Example
from seqloom.tasks.language_model.predictor import Generator

_SHOWN = 40  # tokens of each text


def look(generator: Generator, texts: Sequence[str]) -> list[Example]:
    """The attention within each text; empty for a model without attention."""
    seen = [(text, generator.look(text, tokens=_SHOWN).maps()) for text in texts]
    return [Example(text, "", "", maps) for text, maps in seen if maps]
