"""Attention weights as pictures in the report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqloom.inspection.charts import heat_map
from seqloom.inspection.page import Markup, data_block, details, element, table, texts


@dataclass(frozen=True)
class AttentionMap:
    """Attention weights of one kind.

    Args:
        title: what attends to what: "encoder self-attention", "cross-attention".
        rows, columns: the T tokens that attend, and the S attended to.
        weights: (layers heads T S), from 0 to 1.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    weights: ArrayLike

    def array(self) -> NDArray[np.float32]:
        """The weights within [0, 1], NaN as 0. Raises ValueError if they do not fit the tokens."""
        weights = np.asarray(self.weights, dtype=np.float32)
        if weights.ndim != 4 or weights.shape[2:] != (len(self.rows), len(self.columns)):
            shape = f"(layers, heads, {len(self.rows)}, {len(self.columns)})"
            raise ValueError(f"{self.title}: weights of shape {weights.shape} instead of {shape}")
        return np.clip(np.nan_to_num(weights), 0, 1)


@dataclass(frozen=True)
class Example:
    """A translation, or a text alone, with its attention maps; the reference may be empty."""

    source: str
    translation: str
    reference: str
    maps: Sequence[AttentionMap]


def example_part(index: int, example: Example) -> Markup:
    """The texts, the maps, and the weights for the script; without it, the first cross-attention map is shown."""
    maps = [m for m in example.maps if m.rows and m.columns and m.array().size]
    shown = next((i for i, m in enumerate(maps) if "cross" in m.title.lower()), 0)
    name = "source" if example.translation else "text"
    lines = {name: example.source, "reference": example.reference, "translation": example.translation}
    return element(
        "article",
        element("h3", f"Example {index}"),
        texts({name: text for name, text in lines.items() if text}),
        element("div", *(_figure(m, i != shown) for i, m in enumerate(maps)), class_="maps") if maps else None,
        data_block([_packed(m.array()) for m in maps]) if maps else None,
    )


def _packed(weights: NDArray[np.float32]) -> dict[str, object]:
    quantized = base64.b64encode(np.rint(255 * weights).astype(np.uint8).tobytes()).decode()
    return {"layers": len(weights), "heads": weights.shape[1], "weights": quantized}


def _figure(map: AttentionMap, hidden: bool) -> Markup:
    weights = map.array()
    mean = weights[-1].mean(0)
    what = f"layer {len(weights)}, mean over heads"
    best = enumerate(mean.argmax(1).tolist())
    strongest = [(map.rows[i], map.columns[j], f"{mean[i, j]:.2f}") for i, j in best]
    picture = heat_map(f"{map.title}, {what}", map.rows, map.columns, None if hidden else mean)
    return element(
        "figure",
        element("figcaption", element("b", map.title), ": ", element("span", f"{what}, strongest {mean.max():.2f}")),
        element("div", picture, class_="scroll"),
        element("output"),
        details(f"Where each row attends most ({what})", table(["row", "column", "weight"], strongest), class_="data"),
        hidden="" if hidden else None,
    )
