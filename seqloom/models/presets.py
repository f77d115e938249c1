"""Sizes with a name, as plain trees that a config is laid over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.config import Tree, Words, merge
from seqloom.errors import nearest


def _transformer(layers: int, width: int, inner: int, heads: int, dropout: float, **more: Any) -> Tree:
    stack = {"layers": layers, "width": width, "inner": inner, "heads": heads, "dropout": dropout, **more}
    return {"encoder": stack, "decoder": stack}


def _recurrent(encoder: Tree, decoder: Tree, **both: Any) -> Tree:
    return {"encoder": {"kind": "recurrent", **both, **encoder}, "decoder": {"kind": "recurrent", **both, **decoder}}


def _convolutional(layers: int, width: int, dropout: float) -> Tree:
    stack = {"kind": "convolutional", "layers": layers, "width": width, "kernel": 3, "dropout": dropout}
    return {"encoder": stack, "decoder": stack}


# seq2seq-2014: Sutskever et al. 2014, with 160,000 source and 80,000 target words there. rnnsearch-50: Bahdanau et al.
# 2015. convs2s: Gehring et al. 2017, as for English to Romanian. Their small sisters are of a size for Multi30k.
# base and big: Vaswani et al. 2017, table 3. tiny: the small one of Wu et al. 2021 for Multi30k.
TRANSLATION: dict[str, Tree] = {
    "tiny": _transformer(4, 128, 256, 4, 0.3),
    "small": _transformer(3, 256, 1024, 4, 0.1),
    "base": _transformer(6, 512, 2048, 8, 0.1, norm_position="after"),
    "big": _transformer(6, 1024, 4096, 16, 0.3, norm_position="after"),
    "seq2seq-2014": {
        **_recurrent({"direction": "backward"}, {}, cell="lstm", layers=4, width=1000, dropout=0.0),
        "tie": "none",
    },
    "rnnsearch-50": {
        **_recurrent({"direction": "both"}, {"attention": {"inner": 1000}}, cell="gru", width=1000, dropout=0.0),
        "embedding": 620,
        "tie": "none",
    },
    "convs2s": _convolutional(20, 512, 0.1),
    "small-lstm": {
        **_recurrent({"direction": "backward"}, {}, cell="lstm", layers=2, width=512, dropout=0.3),
        "embedding": 256,
    },
    "small-gru": {
        **_recurrent({"direction": "backward"}, {"context": "repeated"}, cell="gru", width=768, dropout=0.3),
        "embedding": 256,
    },
    "small-attention": {
        **_recurrent({"direction": "both"}, {"attention": {"score": "additive"}}, cell="gru", width=384, dropout=0.3),
        "embedding": 256,
    },
    "small-conv": _convolutional(6, 256, 0.25),
}

# Two of one size, 6.5 million numbers over 8,000 words.
LANGUAGE: dict[str, Tree] = {
    "small-lstm": {
        "decoder": {"kind": "recurrent", "cell": "lstm", "layers": 2, "width": 512, "dropout": 0.2, "weight_drop": 0.2},
        "embedding": 320,
    },
    "small-transformer": {"decoder": {"layers": 4, "width": 320, "inner": 896, "heads": 5, "dropout": 0.1}},
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
