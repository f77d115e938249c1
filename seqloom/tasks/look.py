"""The report of a run: curves, scores, samples and the attention of a few sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from seqloom.data.batch import pad
from seqloom.inspection.capture import captured
from seqloom.inspection.page import Markup
from seqloom.inspection.report import AttentionMap, Example, ReportData, render
from seqloom.models.encoder_decoder import cross_attentions, parameter_count
from seqloom.run import Json, Run, write_text
from seqloom.tasks import part_for
from seqloom.tasks.language_model import load_generator
from seqloom.tasks.translate import load_translator
from seqloom.tasks.translator import Translator
from seqloom.training.log import Reporter

_LOOKED_AT = 40  # words of a text


def write_report(run: Run, reporter: Reporter, texts: Sequence[str] = ()) -> Path:
    """Writes report.html of a run; `texts` are what attention is shown for, by default samples of its validation."""
    samples = run.rows("samples.jsonl")
    seen: Seen = part_for(run, "look")(run, texts, samples, reporter)
    data = ReportData(
        name=run.name,
        config=(run.path / "config.toml").read_text(encoding="utf-8"),
        info=run.info(),
        metrics=run.rows("metrics.jsonl"),
        samples=samples,
        evaluations={
            p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted((run.path / "eval").glob("*.json"))
        },
        examples=seen.examples,
        parameters=seen.parameters,
        unit=part_for(run, "config").unit,
        sections=seen.sections,
    )
    path = run.path / "report.html"
    write_text(path, render(data))
    reporter.say(f"{path} written")
    return path


class Seen(NamedTuple):
    """What a task shows of a run, beside what all have.

    Args:
        examples: texts with attention.
        parameters: of the model.
        sections: more of the report, by title.
    """

    examples: list[Example]
    parameters: int
    sections: Mapping[str, Markup] = MappingProxyType({})


def look_at_translations(run: Run, texts: Sequence[str], samples: Sequence[Json], reporter: Reporter) -> Seen:
    """The attention of a translator over texts, or else over some samples; and how many parameters it has."""
    references = {row["source"]: row["reference"] for row in samples}
    chosen = list(texts) or list(dict.fromkeys(row["source"] for row in samples))[:3]
    translator = load_translator(run.path, precision="fp32", long_input="cut", say=reporter.warn)
    found = [look(translator, text, references.get(text, "")) for text in chosen]
    return Seen(found, parameter_count(translator.model))


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
