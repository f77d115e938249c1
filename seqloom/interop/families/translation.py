"""Families of encoder-decoders: Marian, Pegasus, T5."""

from __future__ import annotations

from typing import Any

from seqloom.config import Tree
from seqloom.files import Json
from seqloom.interop.families.family import ACTIVATIONS, Family, block, half
from seqloom.interop.tables import ConfigMap, Field, Form, Rule, Via

_SIDES = ("encoder", "decoder")


def _both(*keys: str) -> str:
    return " ".join(f"{side}.{key}" for side in _SIDES for key in keys)


def _fixed(**values: Any) -> dict[str, Any]:
    return half("encoder", **values) | half("decoder", **values)


def _shared(prefix: str) -> dict[str, str]:
    """The second names of the one table of embeddings."""
    names = (*(f"{prefix}{side}.embed_tokens.weight" for side in _SIDES), "lm_head.weight")
    return dict.fromkeys(names, f"{prefix}shared.weight")


_MARIAN_FIELDS: tuple[Field | Via, ...] = (
    Field("d_model", _both("width")),
    *(
        Field(f"{side}_{theirs}", f"{side}.{ours}")
        for side in _SIDES
        for theirs, ours in (("layers", "layers"), ("ffn_dim", "inner"), ("attention_heads", "heads"))
    ),
    Field("activation_function", _both("activation"), "gelu", {"swish": "silu", **ACTIVATIONS}),
    Field("scale_embedding", "source.scaled", False),
    Field("dropout", _both("dropout"), 0.1),
    Field("attention_dropout", _both("attention_dropout"), 0.0),
    Field("activation_dropout", _both("activation_dropout"), 0.0),
    # Our sinusoidal positions have no limit; 1024 is written unless a run remembers the limit of its checkpoint.
    Via("max_position_embeddings", lambda config: {}, lambda tree: {"max_position_embeddings": 1024}),
)
_MARIAN_LAYERS = {
    "attention.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "attention.output": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "feedforward.expand": "fc1",
    "feedforward.contract": "fc2",
    "feedforward_norm": "final_layer_norm",
}
_MARIAN_CROSS = {
    "cross.query": "encoder_attn.q_proj",
    "cross.key_value": "encoder_attn.k_proj encoder_attn.v_proj",
    "cross.output": "encoder_attn.out_proj",
    "cross_norm": "encoder_attn_layer_norm",
}


def _marian(name: str, architecture: str, norm_position: str, *rules: Rule, **more: Any) -> Family:
    """Marian; and Pegasus, with its norms before the sublayers and after the last block.

    Args:
        name, architecture: those of the family.
        norm_position: before or after the sublayers.
        rules: the rules for weights that only this family has.
        more: further fields of `Family`.
    """
    return Family(
        name=name,
        kind="encoder-decoder",
        architecture=architecture,
        prefix="model.",
        config=ConfigMap(
            fields=_MARIAN_FIELDS,
            fixed={
                **_fixed(norm_position=norm_position, positions__kind="sinusoidal", positions__interleaved=False),
                "output_bias": True,
                "tie": "all",
            },
            must={
                **dict.fromkeys(("tie_word_embeddings", "share_encoder_decoder_embeddings"), (True,)),
                **dict.fromkeys(("is_encoder_decoder", "static_position_embeddings"), (True,)),
                **dict.fromkeys(("normalize_before", "add_final_layer_norm"), (norm_position == "before",)),
                "normalize_embedding": (False,),
            },
        ),
        rules=(
            Rule("source.weight", "model.shared.weight"),
            Rule("head.bias", "final_logits_bias", ones=1),
            *block("encoder", "model.encoder.layers.{}", _MARIAN_LAYERS),
            *block("decoder", "model.decoder.layers.{}", _MARIAN_LAYERS | _MARIAN_CROSS),
            *rules,
        ),
        copies=_shared("model."),
        harmless=("embed_positions.weight",),
        **more,
    )


MARIAN = _marian("marian", "MarianMTModel", "after")
PEGASUS = _marian(
    "pegasus",
    "PegasusForConditionalGeneration",
    "before",
    *(Rule(f"{side}.stack.norm", f"model.{side}.layer_norm") for side in _SIDES),
    sines=tuple(f"model.{side}.embed_positions.weight" for side in _SIDES),
)


def _gated(form: Form) -> bool:
    return form.config.encoder.activation in ("swiglu", "geglu")


def _t5_half(side: str, last: int) -> tuple[Rule, ...]:
    layer, ours = f"{side}.block.{{}}.layer.", f"{side}.stack.blocks.{{}}"
    attention, cross, dense = f"{layer}0.SelfAttention.", f"{layer}1.EncDecAttention.", f"{layer}{last}.DenseReluDense."

    def root(config: Any) -> float:  # it does not divide scores by sqrt(C), so its queries are multiplied by it here
        return float(getattr(config, side).sizes.features ** 0.5)

    return (
        Rule(f"{side}.stack.positions.table", attention.format(0) + "relative_attention_bias"),
        Rule(f"{side}.stack.norm", f"{side}.final_layer_norm"),
        Rule(f"{ours}.attention.qkv", *(f"{attention}{n}" for n in "qkv"), scales=lambda config: (root(config), 1, 1)),
        Rule(f"{ours}.attention.output", f"{attention}o"),
        Rule(f"{ours}.attention_norm", f"{layer}0.layer_norm"),
        Rule(f"{ours}.cross.query", f"{cross}q", scales=lambda config: (root(config),)),
        Rule(f"{ours}.cross.key_value", f"{cross}k", f"{cross}v"),
        Rule(f"{ours}.cross.output", f"{cross}o"),
        Rule(f"{ours}.cross_norm", f"{layer}1.layer_norm"),
        Rule(f"{ours}.feedforward.expand", f"{dense}wi", when=lambda form: not _gated(form)),
        Rule(f"{ours}.feedforward.expand", f"{dense}wi_0", f"{dense}wi_1", when=_gated),
        Rule(f"{ours}.feedforward.contract", f"{dense}wo"),
        Rule(f"{ours}.feedforward_norm", f"{layer}{last}.layer_norm"),
    )


def _read_t5_output(config: Json) -> Json:
    # read_checkpoint adds "separate" after a look at the weights: the output has a table of its own.
    if config.get("separate"):
        return {"tie": "inputs", "source.scaled": False}
    return {"tie": "all", "source.scaled": config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))}


def _write_t5_output(tree: Tree) -> Json:
    scaled = tree["source"]["scaled"]
    return {"scale_decoder_outputs": scaled, "tie_word_embeddings": scaled, "separate": tree["tie"] == "inputs"}


_T5_ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu", "gated-silu": "swiglu"}
T5 = Family(
    name="t5",
    kind="encoder-decoder",
    architecture="T5ForConditionalGeneration",
    prefix="",
    config=ConfigMap(
        fields=(
            Field("d_model", _both("width")),
            Field("d_kv", _both("head_width"), 64),
            Field("d_ff", _both("inner")),
            Field("num_layers", "encoder.layers"),
            Field("num_decoder_layers", "decoder.layers", lambda config: config["num_layers"]),
            Field("num_heads", _both("heads")),
            Field("relative_attention_num_buckets", _both("positions.buckets"), 32),
            Field("relative_attention_max_distance", _both("positions.distance"), 128),
            Field("dropout_rate", _both("dropout", "attention_dropout", "activation_dropout"), 0.1),
            Field("layer_norm_epsilon", _both("eps"), 1e-6),
            Field("feed_forward_proj", _both("activation"), "relu", _T5_ACTIVATIONS),
            Via("separate scale_decoder_outputs tie_word_embeddings", _read_t5_output, _write_t5_output),
        ),
        fixed=_fixed(norm="rms", bias=False, positions__kind="relative"),
        must={"is_encoder_decoder": (True,)},
    ),
    rules=(
        Rule("source.weight", "shared.weight", scales=lambda c: (c.encoder.width**-0.5 if c.source.scaled else 1,)),
        Rule("head.weight", "lm_head.weight"),
        *_t5_half("encoder", 1),
        *_t5_half("decoder", 2),
    ),
    copies=_shared(""),
    harmless=("EncDecAttention.relative_attention_bias.weight",),
)
