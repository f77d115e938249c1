"""Attention laid over images: the weights of each layer, and rolled out through all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seqloom.inspection.inside.flow import rollout
from seqloom.inspection.page import Markup, element, figure, join, texts
from seqloom.media.images import png_uri

_SIDE = 150  # pixels of a picture


def overlay(pixels: np.ndarray, weights: np.ndarray, title: str) -> Markup:
    """An image (N H W) under its weights (h w): what has the largest one is clear, what has none is dark."""
    rows, columns = weights.shape
    dark = 0.85 * (1 - weights / max(weights.max(), 1e-12))
    cells = [
        element("rect", x=x, y=y, width=1, height=1, fill_opacity=f"{dark[y, x]:.2f}")
        for y in range(rows)
        for x in range(columns)
    ]
    size: dict[str, object] = {"width": columns, "height": rows}
    image = element("image", href=png_uri(pixels), image_rendering="pixelated", preserveAspectRatio="none", **size)
    box = {"viewBox": f"0 0 {columns} {rows}", "width": _SIDE, "height": _SIDE}
    picture = element("svg", element("title", title), image, *cells, role="img", **box)
    return element("figure", element("figcaption", title), picture)


def words_over_image(
    name: str, lines: Mapping[str, str], pixels: np.ndarray, words: Sequence[str], weights: np.ndarray | None
) -> Markup:
    """An image with what is written about it.

    Args:
        name: of the image.
        lines: texts by what they are.
        pixels: (N H W).
        words: the T tokens that attend to the image.
        weights: (T S), where the last of S are the patches of a square; None = nothing attends.
    """
    pictures = [overlay(pixels, np.ones((1, 1)), "the image")]
    if weights is not None:
        side = int(weights.shape[-1] ** 0.5)
        over = weights[:, weights.shape[-1] - side**2 :].reshape(-1, side, side)
        pictures += [overlay(pixels, each, word) for word, each in zip(words, over, strict=True)]
    note = None if weights is None else "What each token attends to, the mean of all layers and heads."
    shown = texts({key: text for key, text in lines.items() if text})
    return figure(name, note, shown, element("div", join(pictures), class_="overlays"))


def image_attention(name: str, pixels: np.ndarray, weights: np.ndarray) -> Markup:
    """What an image is read by: attention over its patches.

    Args:
        name: of the image.
        pixels: (N H W).
        weights: (layers heads T T), where T are the patches of a square, perhaps after a class token.
    """
    side = int(weights.shape[-1] ** 0.5)
    first = weights.shape[-1] - side**2

    def over_patches(each: np.ndarray) -> np.ndarray:
        row: np.ndarray = each[0] if first else each.mean(0)
        return row[first:].reshape(side, side)

    pictures: Sequence[Markup] = [
        overlay(pixels, np.ones((1, 1)), "the image"),
        *(overlay(pixels, over_patches(layer), f"layer {i}") for i, layer in enumerate(weights.mean(1), 1)),
        overlay(pixels, over_patches(rollout(weights)), "rollout"),
    ]
    reader = "the class token" if first else "all patches, on average,"
    note = f"What {reader} attends to in each layer, the mean of its heads; and rolled out through all layers."
    return figure(name, note, element("div", join(pictures), class_="overlays"))
