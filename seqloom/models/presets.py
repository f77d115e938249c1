"""Named sizes: plain trees of defaults under a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_args

from seqloom.config import Arguments, Tree, merge
from seqloom.errors import nearest
from seqloom.limits import Bounded, hints_of


def _transformer(layers: int, width: int, inner: int, heads: int, dropout: float, **more: Any) -> Tree:
    stack = {"layers": layers, "width": width, "inner": inner, "heads": heads, "dropout": dropout, **more}
    return {"encoder": stack, "decoder": stack}


def _recurrent(more: Tree, encoder: Tree, decoder: Tree, **both: Any) -> Tree:
    both["kind"] = "recurrent"
    return {"encoder": {**both, **encoder}, "decoder": {**both, **decoder}, **more}


_BACKWARD, _BOTH = ({"direction": direction} for direction in ("backward", "both"))


def _convolutional(layers: int, width: int, dropout: float) -> Tree:
    stack = {"kind": "convolutional", "layers": layers, "width": width, "kernel": 3, "dropout": dropout}
    return {"encoder": stack, "decoder": stack}


# seq2seq-2014: Sutskever et al. 2014, with 160,000 source and 80,000 target tokens there. rnnsearch-50: Bahdanau et al.
# 2015. convs2s: Gehring et al. 2017, as for English to Romanian. Their small sisters are of a size for Multi30k.
# base and big: Vaswani et al. 2017, table 3. tiny: the small one of Wu et al. 2021 for Multi30k.
TRANSLATION: dict[str, Tree] = {
    "tiny": _transformer(4, 128, 256, 4, 0.3),
    "small": _transformer(3, 256, 1024, 4, 0.1),
    "base": _transformer(6, 512, 2048, 8, 0.1, norm_position="after"),
    "big": _transformer(6, 1024, 4096, 16, 0.3, norm_position="after"),
    "seq2seq-2014": _recurrent({"tie": "none"}, _BACKWARD, {}, cell="lstm", layers=4, width=1000, dropout=0.0),
    "rnnsearch-50": _recurrent(
        {"embedding": 620, "tie": "none"}, _BOTH, {"attention": {"inner": 1000}}, cell="gru", width=1000, dropout=0.0
    ),
    "convs2s": _convolutional(20, 512, 0.1),
    "small-lstm": _recurrent({"embedding": 256}, _BACKWARD, {}, cell="lstm", layers=2, width=512, dropout=0.3),
    "small-gru": _recurrent({"embedding": 256}, _BACKWARD, {"context": "repeated"}, cell="gru", width=768, dropout=0.3),
    "small-attention": _recurrent(
        {"embedding": 256}, _BOTH, {"attention": {"score": "additive"}}, cell="gru", width=384, dropout=0.3
    ),
    "small-conv": _convolutional(6, 256, 0.25),
}

_PATCHES: Tree = {"kind": "patches", "patch": 8, "class_token": False, "places": "learned"}
_STEM: Tree = {**_PATCHES, "stem": 2, "places": "encoder"}
_VIT: Tree = {"layers": 4, "width": 128, "inner": 512, "heads": 4, "activation": "gelu", "positions": "none"}
_TELLER: Tree = {"kind": "recurrent", "cell": "lstm", "layers": 1, "width": 256, "attention": {"score": "additive"}}

# For images of about 48 x 48. show-attend-tell: a small CNN and an LSTM with attention, as in Xu et al. 2015.
CAPTIONS: dict[str, Tree] = {
    "vit-transformer": {
        "encoder": _VIT,
        "decoder": {**_VIT, "layers": 2, "positions": "sinusoidal"},
        "source": _PATCHES,
    },
    "vit-lstm": {"encoder": _VIT, "decoder": _TELLER, "source": _PATCHES},
    "show-attend-tell": {"encoder": {"kind": "bag", "width": 128}, "decoder": _TELLER, "source": _STEM},
}


def _gpt2(layers: int, width: int, heads: int) -> Tree:
    stack = {"layers": layers, "width": width, "inner": 4 * width, "heads": heads, "activation": "gelu-tanh"}
    return {"decoder": {**stack, "positions": {"kind": "learned", "length": 1024}}, "embedder": {"scaled": False}}


def _llama(layers: int, width: int, heads: int, kv_heads: int, inner: int) -> Tree:
    sizes = {"layers": layers, "width": width, "inner": inner, "heads": heads, "kv_heads": kv_heads}
    form = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "bias": False, "dropout": 0.0}
    return {"decoder": {**sizes, **form}, "embedder": {"scaled": False}}


def _forecaster(**decoder: Any) -> Tree:
    return {"decoder": {**decoder, "width": 96, "dropout": 0.0}, "embedder": {"kind": "frames"}}


# small-lstm, small-transformer and small-llama have 6.5 million parameters with 8,000 tokens. nano is nanoGPT's
# "baby". gpt2 to gpt2-xl: Radford et al. 2019, with 50,257 tokens there. The llama ones have the form of Touvron et al.
# 2023; llama-nano to llama-360m with grouped queries, in the sizes of nano (with Qwen3's normalized queries and keys),
# SmolLM2-135M and SmolLM2-360M. The signal ones are for frames.
LANGUAGE: dict[str, Tree] = {
    "small-lstm": {
        "decoder": {"kind": "recurrent", "cell": "lstm", "layers": 2, "width": 512, "dropout": 0.2, "weight_drop": 0.2},
        "embedding": 320,
    },
    "small-transformer": {"decoder": {"layers": 4, "width": 320, "inner": 896, "heads": 5, "dropout": 0.1}},
    "small-llama": merge(_llama(4, 320, 5, 0, 608), {"decoder": {"dropout": 0.1}}),
    "nano": merge(
        _gpt2(6, 384, 6), {"decoder": {"activation": "gelu", "bias": False, "dropout": 0.2, "attention_dropout": 0.2}}
    ),
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "llama-nano": merge(_llama(6, 384, 6, 2, 1024), {"decoder": {"qk_norm": True}}),
    "llama-135m": _llama(30, 576, 9, 3, 1536),
    "llama-360m": _llama(32, 960, 15, 5, 2560),
    "signal-lstm": _forecaster(kind="recurrent", cell="lstm", layers=1),
    "signal-transformer": _forecaster(layers=2, inner=192, heads=4, activation="gelu", positions="rotary"),
    "signal-cnn": _forecaster(kind="convolutional", layers=4, kernel=5),
}


def _bert(layers: int, width: int, heads: int) -> Tree:
    stack = {"layers": layers, "width": width, "inner": 4 * width, "heads": heads, "activation": "gelu"}
    form = {"norm_position": "after", "embedding_norm": True, "eps": 1e-12, "attention_dropout": 0.1}
    positions = {"positions": {"kind": "learned", "length": 512}}
    return {"encoder": {**stack, **form, **positions}, "embedder": {"scaled": False}, "pooler": "tanh"}


_LSTM: Tree = {"kind": "recurrent", "cell": "lstm", "layers": 1, "width": 256, "direction": "both", "dropout": 0.3}
_SMALL: Tree = {"layers": 4, "width": 192, "inner": 768, "heads": 4, "activation": "gelu"}


def _vit(layers: int, width: int, heads: int, patch: int = 16, **more: Any) -> Tree:
    stack = {"layers": layers, "width": width, "inner": 4 * width, "heads": heads, "activation": "gelu", **more}
    embedder = {"kind": "patches", "patch": patch, "places": "learned"}
    return {"encoder": {**stack, "positions": "none"}, "embedder": embedder, "segments": 0}


def _frames(*strides: int) -> Tree:
    front = {"strides": list(strides), "kernel": 7}
    return {"embedder": {"kind": "frames"}, "front": front, "pooling": "mean", "segments": 0}


# For signals of some hundred steps, or with model.front.strides = [1, 1] for shorter ones.
_STEPS: Tree = {"source": {"kind": "frames"}, "front": {"strides": [2, 2], "kernel": 7}}
_ATTENDING: Tree = {"layers": 2, "width": 128, "inner": 256, "heads": 4, "activation": "gelu"}
MOVEMENTS: dict[str, Tree] = {
    "signal-lstm": {"encoder": {**_LSTM, "width": 96}, "decoder": {**_TELLER, "width": 192}, **_STEPS},
    "signal-transformer": {"encoder": {**_ATTENDING, "positions": "rotary"}, "decoder": _ATTENDING, **_STEPS},
}

# bert-base, bert-large: Devlin et al. 2019; bert-tiny to bert-medium: Turc et al. 2019. minilm: Wang et al. 2020, with
# 6 layers. small-bert has today's form, small-megatron that of Shoeybi et al. 2019, which Hugging Face's formats have.
# vit-base, vit-large: Dosovitskiy et al. 2021; vit-tiny, vit-small: Touvron et al. 2021. small-vit and small-cnn are
# for images of about 32 x 32. signal-cnn is fully convolutional: Wang et al. 2017.
READING: dict[str, Tree] = {
    "bert-tiny": _bert(2, 128, 2),
    "bert-mini": _bert(4, 256, 4),
    "bert-small": _bert(4, 512, 8),
    "bert-medium": _bert(8, 512, 8),
    "bert-base": _bert(12, 768, 12),
    "bert-large": _bert(24, 1024, 16),
    "minilm": merge(_bert(6, 384, 12), {"pooling": "mean", "pooler": "none"}),
    "small-bert": {"encoder": {**_SMALL, "positions": "rotary"}, "embedder": {"scaled": False}},
    "small-megatron": {
        "encoder": {**_SMALL, "positions": {"kind": "learned", "length": 512}},
        "embedder": {"scaled": False},
        "pooler": "tanh",
    },
    "small-lstm": {"encoder": _LSTM, "pooling": "summary"},
    "lstm-attention": {"encoder": _LSTM, "pooling": "attention"},
    "bag": {"encoder": {"kind": "bag", "width": 256}, "pooling": "mean", "segments": 0},
    "vit-tiny": _vit(12, 192, 3),
    "vit-small": _vit(12, 384, 6),
    "vit-base": _vit(12, 768, 12),
    "vit-large": _vit(24, 1024, 16),
    "small-vit": _vit(6, 128, 4, patch=4),
    "small-cnn": {
        "encoder": {"kind": "bag", "width": 128, "dropout": 0.0},
        "embedder": {"kind": "patches", "patch": 4, "stem": 2, "class_token": False},
        "pooling": "mean",
        "segments": 0,
    },
    "signal-transformer": {
        "encoder": {"layers": 3, "width": 96, "inner": 192, "heads": 4, "activation": "gelu", "positions": "rotary"},
        **_frames(2, 2),
    },
    "signal-cnn": {"encoder": {"kind": "bag", "width": 96, "dropout": 0.0}, **_frames(1, 1, 1, 1)},
    "signal-lstm": {"encoder": {**_LSTM, "width": 96}, **_frames()},
}


@dataclass(frozen=True)
class Preset(Bounded):
    """The base of configs with named sizes.

    Args:
        preset: a named model, whose values are the defaults of the other keys.
    """

    presets: ClassVar[Mapping[str, Tree]] = {}
    preset: str = ""

    @classmethod
    def expand(cls, tree: Mapping[str, Any]) -> Tree:
        """The tree merged over the preset that it names. Raises ValueError for an unknown one."""
        name = tree.get("preset", "")
        name = name[0] if isinstance(name, Arguments) and name else name
        if not name:
            return dict(tree)
        if not isinstance(name, str) or name not in cls.presets:
            raise ValueError(f"unknown preset {name!r}: {nearest(str(name), cls.presets)}")
        return merge(cls.presets[name], tree)


def for_modality(cls: type[Any], tree: Mapping[str, Any], presets: Mapping[str, str]) -> Tree:
    """The tree with the preset of a model for the modality of its data, where it names no model."""
    model = tree.get("model", {})
    preset = presets.get(getattr(source_of(cls, tree), "modality", "text"))
    new = isinstance(model, Mapping) and not (model.get("preset") or model.get("kind"))
    return {**tree, "model": {"preset": preset, **model}} if preset and new else dict(tree)


def source_of(cls: type[Any], tree: Mapping[str, Any]) -> type[Any] | None:
    """The class of the data in the tree of a config of this class; None for no kind that it knows."""
    data, hint = tree.get("data", {}), hints_of(cast(Any, cls)).get("data")
    kind = data.get("kind", "") if isinstance(data, Mapping) else data
    kind = kind[0] if isinstance(kind, Arguments) and kind else kind
    if isinstance(hint, type):  # there is one kind
        return hint
    kinds: dict[Any, type[Any]] = {getattr(c, "kind", ""): c for c in get_args(hint) if isinstance(c, type)}
    return kinds.get(kind) if isinstance(kind, str) else None
