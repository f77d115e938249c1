"""The report of a run: curves, scores, samples and the attention of a few sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from seqloom.data.batch import pad
from seqloom.inspection.capture import captured
from seqloom.inspection.report import AttentionMap, Example, ReportData, render
from seqloom.models.encoder_decoder import cross_attentions, parameter_count
from seqloom.run import Run, write_text
from seqloom.tasks.translate import load_translator
from seqloom.tasks.translator import Translator
from seqloom.training.log import Reporter


def write_report(run: Run, reporter: Reporter, texts: Sequence[str] = ()) -> Path:
    """Writes report.html of a run; `texts` are what attention is shown for, by default samples of its validation."""
    samples = run.rows("samples.jsonl")
    references = {row["source"]: row["reference"] for row in samples}
    chosen = list(texts) or list(dict.fromkeys(row["source"] for row in samples))[:3]
    translator = load_translator(run.path, precision="fp32", long_input="cut", say=reporter.warn)
    data = ReportData(
        name=run.name,
        config=(run.path / "config.toml").read_text(encoding="utf-8"),
        info=run.info(),
        metrics=run.rows("metrics.jsonl"),
        samples=samples,
        evaluations={
            p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted((run.path / "eval").glob("*.json"))
        },
        examples=[look(translator, text, references.get(text, "")) for text in chosen],
        parameters=parameter_count(translator.model),
    )
    path = run.path / "report.html"
    write_text(path, render(data))
    reporter.say(f"{path} written")
    return path


def look(translator: Translator, text: str, reference: str = "") -> Example:
    """A text with its translation and all attention weights, read off one pass over both."""
    best = translator.translate([text])[0][0]
    source = translator.encode([text])[0]
    target = np.append(translator.target.encode([best.text])[0], translator.target.end)
    target_in = np.concatenate(([translator.target.start], target[:-1]))
    model = translator.model
    device = next(model.parameters()).device
    with torch.inference_mode(), captured(model) as weights:
        model(pad([source])[0].to(device), None, pad([target_in])[0].to(device))
    words = {
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
            maps.append(AttentionMap(title, words[rows], words[columns], layers.numpy()))
    return Example(text, best.text, reference, maps)
