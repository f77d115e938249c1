"""The attention of a language model within some texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seqloom.inspection.capture import captured
from seqloom.inspection.report import AttentionMap, Example
from seqloom.tasks.language_model.predictor import Generator

_LOOKED_AT = 40  # tokens of a text


def look(generator: Generator, texts: Sequence[str]) -> list[Example]:
    """The attention of a language model within texts; none where nothing attends."""
    model, tokenizer, found = generator.model, generator.tokenizer, list[Example]()
    for text in texts:
        ids = generator.encode(text)[: min(_LOOKED_AT, generator.context or _LOOKED_AT)]
        with torch.inference_mode(), captured(model) as weights:
            model(torch.tensor([ids], device=next(model.parameters()).device))
        if weights:
            tokens, layers = tokenizer.tokens(ids), torch.stack([torch.cat(w, 2)[0] for w in weights.values()])
            found.append(Example(text, "", "", [AttentionMap("self-attention", tokens, tokens, layers.numpy())]))
    return found
