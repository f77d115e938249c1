"""The attention of a language model within texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seqloom.inspection.attention import Example
from seqloom.inspection.capture import self_attention
from seqloom.nn.embedders import Inputs
from seqloom.tasks.language_model.predictor import Generator

_SHOWN = 40  # tokens of each text


def look(generator: Generator, texts: Sequence[str]) -> list[Example]:
    """The attention within each text; empty for a model without attention."""
    model, examples = generator.model, list[Example]()
    for text in texts:
        ids = generator.encode(text)[: min(_SHOWN, generator.context or _SHOWN)]
        inputs = Inputs.text(torch.tensor([ids], device=next(model.parameters()).device))
        if maps := self_attention(model, inputs, generator.tokenizer.tokens(ids)):
            examples.append(Example(text, "", "", maps))
    return examples
