"""Families of language models: GPT-2, Llama and its relatives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

from seqloom.config import Tree
from seqloom.errors import ConfigError
from seqloom.files import Json
from seqloom.interop.families.family import ACTIVATIONS, Family, block, half
from seqloom.interop.gguf.tokenizer import pre_of
from seqloom.interop.tables import ConfigMap, Field, Rule, Via

_GPT2_MATRICES = {
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feedforward.expand": "mlp.c_fc",
    "feedforward.contract": "mlp.c_proj",
}
GPT2 = Family(
    name="gpt2",
    kind="decoder-only",
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    config=ConfigMap(
        fields=(
            Field("n_layer", "decoder.layers"),
            Field("n_embd", "decoder.width"),
            Field("n_inner", "decoder.inner", lambda config: 4 * config["n_embd"]),
            Field("n_head", "decoder.heads"),
            Field("n_positions n_ctx", "decoder.positions.length"),
            Field("activation_function", "decoder.activation", "gelu_new", ACTIVATIONS),
            Field("layer_norm_epsilon", "decoder.eps", 1e-5),
            Field("resid_pdrop embd_pdrop", "decoder.dropout", 0.1),
            Field("attn_pdrop", "decoder.attention_dropout", 0.1),
            Field("tie_word_embeddings", "tie", True),
        ),
        fixed=half("decoder", positions__kind="learned") | {"embedder.scaled": False},
        must={
            "scale_attn_weights": (True,),
            **dict.fromkeys(("scale_attn_by_inverse_layer_idx", "add_cross_attention"), (False,)),
        },
    ),
    rules=(
        Rule("embedder.weight", "transformer.wte.weight"),
        Rule("decoder.stack.positions.table", "transformer.wpe"),
        Rule("decoder.stack.norm", "transformer.ln_f"),
        Rule("head.weight", "lm_head.weight"),
        *block("decoder", "transformer.h.{}", {"attention_norm": "ln_1", "feedforward_norm": "ln_2"}),
        *block("decoder", "transformer.h.{}", _GPT2_MATRICES, transposed=True),
    ),
    copies={"lm_head.weight": "transformer.wte.weight"},
    harmless=(".attn.bias", ".attn.masked_bias"),
)


_LINEAR = {"stretch": "factor"}
_LLAMA3 = {"trained": "original_max_position_embeddings", "low": "low_freq_factor", "high": "high_freq_factor"}
ROPES: dict[str, dict[str, str]] = {"default": {}, "linear": _LINEAR, "llama3": _LINEAR | _LLAMA3}
"""Our keys and theirs of each type of rotary positions, besides the base."""


def _read_rope(config: Json) -> Json:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPES or rope.get("partial_rotary_factor", 1) != 1:
        cure = f"supported: {', '.join(map(repr, ROPES))}"
        raise ConfigError(f"rotary positions of the type {kind!r} are not supported", cure=cure)
    base = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    more = {ours: rope[theirs] for ours, theirs in ROPES[kind].items()}
    return half("decoder", positions={"kind": "rotary", "base": base, **more})


def _write_rope(tree: Tree) -> Json:
    positions = tree["decoder"].get("positions", {})
    if positions.get("kind") != "rotary":
        return {}
    kind = "llama3" if positions["trained"] else "linear" if positions["stretch"] != 1 else "default"
    rope: Json = {"rope_type": kind, "rope_theta": positions["base"]}
    rope |= {theirs: positions[ours] for ours, theirs in ROPES[kind].items()}
    older: Json = {"rope_scaling": rope} if kind != "default" else {}  # before version 5 of transformers
    return {"rope_theta": positions["base"], "rope_parameters": rope, **older}


def _read_window(config: Json) -> Json:
    layers = {*(config.get("layer_types") or ())}
    if len(layers) > 1:
        raise ConfigError("layers with different windows are not supported: layer_types", cure="use another checkpoint")
    everywhere = config["model_type"] == "mistral" and not layers
    if not layers and not everywhere and config.get("use_sliding_window"):
        raise ConfigError("use_sliding_window without layer_types is not supported", cure="use another checkpoint")
    slides = everywhere or layers == {"sliding_attention"}
    return {"decoder.window": (config.get("sliding_window") or 0) if slides else 0}


def _write_window(tree: Tree) -> Json:
    return {"sliding_window": tree["decoder"].get("window") or None}


def _biases(name: str) -> Via:
    """Whether linear layers have biases, in a family that may have them in all layers or in none; else in none."""
    keys = "attention_bias", "mlp_bias"

    def read(config: Json) -> Json:
        values = [bool(config.get(key)) for key in keys]
        if any(values) and not (name == "llama" and all(values)):
            raise ConfigError(f"{keys[values.index(True)]} = True is not supported", cure="use another checkpoint")
        return half("decoder", bias=values[0])

    def write(tree: Tree) -> Json:
        decoder = tree["decoder"]
        return dict.fromkeys(keys, name == "llama" and (decoder["bias"] or decoder["qkv_bias"] == "yes"))

    return Via(" ".join(keys), read, write)


def _is_of_qwen(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer cuts texts as Qwen's: transformers reads qwen2 like that, whatever tokenizer.json states."""
    tree = json.loads(tokenizer.to_str())
    decodes = (tree["decoder"] or {}).get("type") == "ByteLevel"
    return pre_of(tree) == "qwen2" and tree["normalizer"] == {"type": "NFC"} and decodes


_LLAMA_LAYERS = {
    "attention.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention_norm": "input_layernorm",
    "feedforward.expand": "mlp.gate_proj mlp.up_proj",
    "feedforward.contract": "mlp.down_proj",
    "feedforward_norm": "post_attention_layernorm",
}


def _llama(
    name: str, architecture: str, reads: Callable[[Tokenizer], bool] = lambda tokenizer: True, **form: Any
) -> Family:
    """A family of the form of Llama; see Family for `reads`. `form` holds the keys of our decoder that differ."""
    return Family(
        name=name,
        kind="decoder-only",
        architecture=architecture,
        prefix="model.",
        config=ConfigMap(
            fields=(
                Field("num_hidden_layers", "decoder.layers"),
                Field("hidden_size", "decoder.width"),
                Field("intermediate_size", "decoder.inner"),
                Field("num_attention_heads", "decoder.heads"),
                Field("num_key_value_heads", "decoder.kv_heads", lambda config: config["num_attention_heads"]),
                Field("head_dim", "decoder.head_width", _head_width),
                Field("rms_norm_eps", "decoder.eps", 1e-6),
                Field("hidden_act", "decoder.activation", "silu", {"silu": "swiglu", "gelu_pytorch_tanh": "geglu"}),
                Field("attention_dropout", "decoder.attention_dropout", 0.0),
                Field("tie_word_embeddings", "tie", False),
                Via("rope_parameters rope_scaling rope_theta", _read_rope, _write_rope),
                Via("sliding_window use_sliding_window layer_types", _read_window, _write_window),
                _biases(name),
            ),
            fixed=half("decoder", norm="rms", dropout=0.0, **form) | {"embedder.scaled": False},
        ),
        rules=(
            Rule("embedder.weight", "model.embed_tokens.weight"),
            Rule("decoder.stack.norm", "model.norm"),
            Rule("head.weight", "lm_head.weight"),
            *block("decoder", "model.layers.{}", _LLAMA_LAYERS),
        ),
        copies={"lm_head.weight": "model.embed_tokens.weight"},
        harmless=("rotary_emb.inv_freq",),
        reads=reads,
    )


def _head_width(config: Json) -> int:
    return 128 if config["model_type"] == "qwen3" else int(config["hidden_size"] // config["num_attention_heads"])


LLAMAS = (
    _llama("llama", "LlamaForCausalLM"),
    _llama("mistral", "MistralForCausalLM"),
    _llama("qwen2", "Qwen2ForCausalLM", _is_of_qwen, qkv_bias="yes"),
    _llama("qwen3", "Qwen3ForCausalLM", qk_norm=True),
)
