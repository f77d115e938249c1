"""What the report shows of encoder models: attention within texts, confusion and calibration of labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seqloom.data.batches.windows import Item, Window, collate
from seqloom.inspection.capture import captured
from seqloom.inspection.charts import Curve, Steps, line_chart
from seqloom.inspection.page import Markup, element, join, table
from seqloom.inspection.report import AttentionMap, Example
from seqloom.models.encoder import EncoderOnly
from seqloom.run import Json, Run
from seqloom.text.tokenizer import Tokenizer

_LOOKED_AT = 40  # tokens of a text
_LABELS = 30


def label_sections(run: Run) -> dict[str, Markup]:
    """Confusion and calibration of each evaluation of a run that has them."""
    parts = [
        part for name, scores in run.evaluations().items() if "confusion" in scores for part in _labels(name, scores)
    ]
    return {"Labels": join(parts)} if parts else {}


def attention(model: EncoderOnly, tokenizer: Tokenizer, windows: Sequence[Window]) -> list[Example]:
    """What each word of some windows attends to; none where nothing attends."""
    found = []
    for window in windows:
        ids = window.ids[:_LOOKED_AT]
        batch = collate([Item((Window(ids, window.second),))]).to(next(model.parameters()).device)
        with torch.inference_mode(), captured(model) as weights:
            model(batch.ids, batch.mask, batch.segments)
        if weights:
            tokens, layers = tokenizer.tokens(ids), torch.stack([torch.cat(w, 2)[0] for w in weights.values()])
            seen = AttentionMap("self-attention", tokens, tokens, layers.numpy())
            found.append(Example(" ".join(tokens), "", "", [seen]))
    return found


def _labels(name: str, scores: Json) -> list[Markup]:
    labels, rows = scores["labels"][:_LABELS], scores["confusion"][:_LABELS]
    cells = [[label, *row[:_LABELS]] for label, row in zip(labels, rows, strict=True)]
    confusion = element(
        "figure",
        element("figcaption", element("h3", f"Confusion: {name}"), element("p", "A row for each true label.")),
        table(["true \\ predicted", *labels], cells),
    )
    bins = scores["reliability"]
    points = [(row["confidence"], row["accuracy"]) for row in bins]
    summary = ", ".join(
        f"{row['examples']} of {row['confidence']:.0f} %: {row['accuracy']:.0f} % right" for row in bins
    )
    note = f"Accuracy by confidence, in percent; mean difference {scores['calibration_error']:.1f} points."
    even = Curve("as confident as right", [(0.0, 0.0), (100.0, 100.0)], "train")
    axis = Steps(100.0, lambda x: f"confidence {x:.0f} %")
    calibration = element(
        "figure",
        element("figcaption", element("h3", f"Calibration: {name}"), element("p", note)),
        line_chart("Calibration", summary, [even, Curve("accuracy", points, "valid")], axis, 230, 0.0),
        element("output"),
    )
    return [confusion, calibration]
