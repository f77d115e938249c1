"""A language model to look at: its attention within some texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seqloom.inspection.capture import captured
from seqloom.inspection.report import AttentionMap, Example
from seqloom.models.weights import parameter_count
from seqloom.run import Json, Run
from seqloom.tasks.language_model.task import load_generator
from seqloom.tasks.task import Seen
from seqloom.training.log import Reporter

_LOOKED_AT = 40  # words of a text


def look_at_texts(run: Run, texts: Sequence[str], samples: Sequence[Json], reporter: Reporter) -> Seen:
    """The attention of a language model within texts, or else within its last samples; none where nothing attends."""
    generator = load_generator(run.path, precision="fp32", say=reporter.warn)
    model, tokenizer, found = generator.model, generator.tokenizer, list[Example]()
    for text in list(texts) or [row["text"] for row in samples[-2:]]:
        ids = generator.encode(text)[: min(_LOOKED_AT, generator.context or _LOOKED_AT)]
        with torch.inference_mode(), captured(model) as weights:
            model(torch.tensor([ids], device=next(model.parameters()).device))
        if weights:
            words, layers = tokenizer.tokens(ids), torch.stack([torch.cat(w, 2)[0] for w in weights.values()])
            found.append(Example(text, "", "", [AttentionMap("self-attention", words, words, layers.numpy())]))
    return Seen(found, parameter_count(model))
