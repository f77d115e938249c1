"""Sizes with a name, as plain trees that a config is laid over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.config import Tree, Words, merge
from seqloom.errors import nearest


def _transformer(layers: int, width: int, inner: int, heads: int, dropout: float, **more: Any) -> Tree:
    stack = {"layers": layers, "width": width, "inner": inner, "heads": heads, "dropout": dropout, **more}
    return {"encoder": stack, "decoder": stack}


# base and big: Vaswani et al. 2017, table 3. tiny: the small one of Wu et al. 2021 for Multi30k.
TRANSLATION: dict[str, Tree] = {
    "tiny": _transformer(4, 128, 256, 4, 0.3),
    "small": _transformer(3, 256, 1024, 4, 0.1),
    "base": _transformer(6, 512, 2048, 8, 0.1, norm_position="after"),
    "big": _transformer(6, 1024, 4096, 16, 0.3, norm_position="after"),
}


def under(presets: Mapping[str, Tree], tree: Mapping[str, Any]) -> Tree:
    """`tree` laid over the preset it names under the key `preset`. Raises ValueError for an unknown one."""
    name = tree.get("preset", "")
    name = name[0] if isinstance(name, Words) and name else name
    if not name:
        return dict(tree)
    if name not in presets:
        raise ValueError(f"unknown preset {name!r}: {nearest(str(name), presets)}")
    return merge(presets[name], tree)
