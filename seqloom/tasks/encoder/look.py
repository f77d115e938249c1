"""The attention of a model that reads whole texts."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.data.batches.windows import Item, Window, collate
from seqloom.inspection.attention import Example
from seqloom.inspection.capture import self_attention
from seqloom.models.assemblies import TextReader
from seqloom.text.tokenizer import Tokenizer

_SHOWN = 40  # tokens of a text


def attention(model: TextReader, tokenizer: Tokenizer, windows: Sequence[Window]) -> list[Example]:
    """What each token of some windows attends to; none where nothing attends."""
    examples = []
    for window in windows:
        ids = window.ids[:_SHOWN]
        batch = collate([Item((Window(ids, window.second),))]).to(next(model.parameters()).device)
        tokens = tokenizer.tokens(ids)
        if maps := self_attention(model, batch.inputs, tokens):
            examples.append(Example(" ".join(tokens), "", "", maps))
    return examples
