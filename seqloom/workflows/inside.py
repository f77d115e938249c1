"""What a predictor does with one input, as the page and its file on disk show it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from seqloom.errors import UsageError
from seqloom.inspection.charts import heat_map
from seqloom.inspection.inside.attribution import integrated_gradients, why
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.switching import heads_set
from seqloom.inspection.inside.walk import switched_off
from seqloom.media.images import png_uri
from seqloom.run import Run
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator

Json = dict[str, Any]
MOST = 256 * 2**20
"""The most bytes that are kept of the layers."""
_KEPT, _WRITTEN, _TOLERANCE = 2, 40, 0.05
_NOTHING = "Nothing attends in this model. What it computes is shown layer by layer."


@lru_cache(maxsize=_KEPT)
def looked_at(use: Any, source: str, second: str = "", target: str = "") -> Inspected:
    """An input and what a predictor does with it, kept for what is asked next.

    Args:
        use: the predictor.
        source: a text, or the data: address of an image.
        second: the text beside it, where the model reads two.
        target: what is read as the translation; "" = the model's own.

    Raises UsageError for a predictor that cannot be looked at.
    """
    if not hasattr(use, "look"):
        raise UsageError("this model has no layers to look at", cure="look at its embeddings")
    more = {"target": target or None} if isinstance(use, Translator) else {}
    found: Inspected = use.look((source, second) if second else source, most=MOST, **more)
    return found


def inside(use: Any, source: str, second: str = "", target: str = "") -> Json:
    """All but the weights: see Inspected.data; with what was written, and the picture that was read."""
    inspected = looked_at(use, source, second, target)
    found = inspected.data(5)
    decoder = inspected.sides.get("decoder")
    found["written"] = decoder.texts[0] if isinstance(use, Translator) and decoder and decoder.texts else ""
    found["picture"] = picture_of(use, source)
    for each in found["attention"]:
        each["frame"] = heat_map(each["title"], each["rows"], each["columns"], None)
    found["reason"] = "" if found["attention"] else _NOTHING
    return found


def sample_of(run: Run) -> dict[str, str]:
    """An input to begin with, from the samples of a training: texts and the data: address of an image, if any."""
    row = next((row for row in reversed(run.rows("samples.jsonl"))), {})
    keys = {"text": ("source", "text", "prompt", "question"), "second": ("second", "passage"), "image": ("image",)}
    found = {name: next((str(row[key]) for key in of if key in row), "") for name, of in keys.items()}
    if found["text"].startswith("data:image/"):
        found = {"image": found["text"], "text": "", "second": ""}
    return found


def picture_of(use: Any, source: str) -> str:
    """The data: address of the image that a model reads; "" = it reads none."""
    medium: Any = use.source if isinstance(use, Translator) else getattr(getattr(use, "reader", None), "medium", None)
    if not source.startswith("data:image/") or medium is None:
        return ""
    return png_uri(medium.row(source).values)


def without_head(use: Any, source: str, layer: str, head: int, **beside: str) -> Json:
    """What changes when a head is switched off: the outputs at each position, and the text that is written."""
    inspected = looked_at(use, source, beside.get("second", ""), beside.get("target", ""))
    found = switched_off(inspected, layer, head)
    off = heads_set(inspected.model, layer, {head: 0.0})
    before = _written(use, source)
    with off:
        return {**found, "texts": [before, _written.__wrapped__(use, source)]}


@lru_cache(maxsize=_KEPT)
def _written(use: Any, source: str) -> str:
    if isinstance(use, Translator):
        return use([source])[0]
    if isinstance(use, Generator):
        return str(use(source, max_length=_WRITTEN, kind="greedy"))
    return ""


def attributions(
    inspected: Inspected, position: int = -1, output: int | None = None, instead: int | None = None
) -> Json:
    """What each position of the input counts for an output, or for its lead over another: integrated gradients."""
    found = integrated_gradients(inspected, why(inspected, position, output, instead), tolerance=_TOLERANCE)
    return {
        "sides": {side: [round(x, 5) for x in values.tolist()] for side, values in found.values.items()},
        "change": found.change,
        "error": found.error,
    }
