"""What a predictor does with one input, as the page and its file on disk show it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from seqloom.errors import SeqloomError, UsageError
from seqloom.inspection.charts import heat_map
from seqloom.inspection.inside.attribution import integrated_gradients, why
from seqloom.inspection.inside.inspected import Inspected
from seqloom.inspection.inside.switching import heads_set
from seqloom.inspection.inside.walk import switched_off
from seqloom.inspection.signals import signal_figure
from seqloom.run import Run
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.seq2seq.predictor import Translator

Json = dict[str, Any]
MOST = 256 * 2**20
"""The most bytes that are kept of the layers."""
_KEPT, _WRITTEN, _TOLERANCE = 2, 40, 0.05
LONGEST = 512
"""The most positions whose attention is drawn as a matrix."""
_LONG = f"The input has {{:,}} positions, more than the {LONGEST} that are drawn. Shorten it."
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
    found |= shown(use, source)
    if (longest := max(map(len, (side.names for side in inspected.sides.values())))) > LONGEST:
        found["attention"] = []
    for each in found["attention"]:
        each["frame"] = heat_map(each["title"], each["rows"], each["columns"], None)
    found["reason"] = "" if found["attention"] else _NOTHING if longest <= LONGEST else _LONG.format(longest)
    return found


def sample_of(run: Run, use: Any, task: str = "") -> dict[str, str]:
    """An input to begin with, from the samples of a training, of several tasks those of one: texts, or that of a medium
    as its `address`, if any, and the text beside it.
    """
    rows = reversed(run.rows("samples.jsonl"))
    row: Json = next((row for row in rows if row.get("task", task) == task), {})
    keys = {"text": ("source", "text", "prompt", "question"), "second": ("second", "passage")}
    found = {name: next((str(row[key]) for key in of if key in row), "") for name, of in keys.items()}
    if (medium := medium_of(use)) is None:
        return found
    (kind,) = medium.inputs
    place = str(row.get(kind) or found["text"]).partition(", step ")[0]  # a forecast names the step it begins at
    try:
        address, _, text = medium.address(medium.row(place)).partition("\t")
        return {"text": text, "second": "", kind: address}
    except SeqloomError:  # its file is elsewhere
        return {"text": "", "second": ""}


def medium_of(use: Any) -> Any:
    """What reads the images or signals of a predictor; None = it reads texts."""
    medium: Any = getattr(use, "medium", None)
    return None if medium is None or medium.inputs[0] == "text" else medium


def shown(use: Any, source: str) -> dict[str, str]:
    """The data: address of the image that a model reads, or the chart of the signal; "" = it reads none."""
    medium = medium_of(use)
    row, kind = (None, "") if medium is None else (medium.row(source), medium.inputs[0])
    return {
        "picture": medium.address(row).partition("\t")[0] if kind == "image" else "",
        "chart": signal_figure("The signal", "", row.values) if row is not None and kind == "signal" else "",
    }


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
        "sides": {
            side: [round(x, 5) for x in _by_name(inspected, side, values).tolist()]
            for side, values in found.values.items()
        },
        "change": found.change,
        "error": found.error,
    }


def _by_name(inspected: Inspected, side: str, values: Tensor) -> Tensor:
    """The values of the positions of a side: the sums of those of which a front makes one."""
    names, front = len(inspected.sides[side].names), getattr(inspected.model, "front", None)
    if front is None or len(values) <= names:
        return values
    size = front.config.stride
    return nn.functional.pad(values, (0, size * names - len(values))).reshape(names, size).sum(1)
