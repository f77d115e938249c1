"""The attention of a translation model over some texts."""

from __future__ import annotations

import numpy as np
import torch

from seqloom.data.batches.pairs import make_batch
from seqloom.inspection.attention import Example
from seqloom.inspection.capture import attention_map, captured
from seqloom.models.encoder_decoder import cross_attentions
from seqloom.tasks.seq2seq.predictor import Translator


def look(translator: Translator, text: str, reference: str = "") -> Example:
    """A text with its translation and all attention weights, from one pass over both."""
    best = translator.translate([text])[0][0]
    source = translator.encode([text])[0]
    target = np.append(translator.target.encode([best.text])[0], translator.target.end)
    model = translator.model
    batch = make_batch([source], [target], translator.target.start).to(next(model.parameters()).device)
    with torch.inference_mode(), captured(model) as weights:
        model(batch.inputs, batch.target_in)
    tokens = {
        "source": translator.source.tokens(source),
        "read": translator.target.tokens(batch.target_in[0].tolist()),
        "written": translator.target.tokens(target),
    }
    reading = cross_attentions(model)
    across = [name for name in weights if name in reading]
    encoder = [name for name in weights if name.startswith("encoder.")]
    maps = []
    for title, rows, columns, chosen in (
        ("cross-attention", "written", "source", across),
        ("encoder self-attention", "source", "source", encoder),
        ("decoder self-attention", "read", "read", [n for n in weights if n not in (*across, *encoder)]),
    ):
        if chosen:
            maps.append(attention_map(title, tokens[rows], tokens[columns], [weights[name] for name in chosen]))
    return Example(text, best.text, reference, maps)
