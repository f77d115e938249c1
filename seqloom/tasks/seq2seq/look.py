"""The attention of a translation model over some texts."""

from __future__ import annotations

import numpy as np
import torch

from seqloom.data.batches.batch import pad
from seqloom.inspection.capture import captured
from seqloom.inspection.report import AttentionMap, Example
from seqloom.models.encoder_decoder import cross_attentions
from seqloom.tasks.seq2seq.predictor import Translator


def look(translator: Translator, text: str, reference: str = "") -> Example:
    """A text with its translation and all attention weights, from one pass over both."""
    best = translator.translate([text])[0][0]
    source = translator.encode([text])[0]
    target = np.append(translator.target.encode([best.text])[0], translator.target.end)
    target_in = np.concatenate(([translator.target.start], target[:-1]))
    model = translator.model
    device = next(model.parameters()).device
    with torch.inference_mode(), captured(model) as weights:
        model(pad([source])[0].to(device), None, pad([target_in])[0].to(device))
    tokens = {
        "source": translator.source.tokens(source),
        "read": translator.target.tokens(target_in),
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
        if chosen:  # a recurrent decoder attends step by step
            layers = torch.stack([torch.cat(weights[name], 2)[0] for name in chosen])
            maps.append(AttentionMap(title, tokens[rows], tokens[columns], layers.numpy()))
    return Example(text, best.text, reference, maps)
