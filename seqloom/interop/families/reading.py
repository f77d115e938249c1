"""Families of encoders: BERT and its relatives, ViT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.config import Tree
from seqloom.errors import ConfigError
from seqloom.files import Json
from seqloom.interop.families.family import ACTIVATIONS, Family, HeadName, block, half
from seqloom.interop.tables import ConfigMap, Field, Rule, Via


def _stack(stack: dict[str, str], **defaults: Any) -> tuple[Field, ...]:
    return tuple(Field(theirs, f"encoder.{ours}", defaults.get(ours)) for theirs, ours in stack.items())


_BERT_SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "intermediate_size": "inner",
    "num_attention_heads": "heads",
    "layer_norm_eps": "eps",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
_BERT_FORM = half("encoder", norm_position="after", embedding_norm=True, positions__kind="learned")
_BERT_FORM |= {"embedder.scaled": False, "pooling": "first"}
_EXACT = {"gelu": "gelu"}
_BERT_LAYERS = {
    "attention.qkv": "attention.self.query attention.self.key attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feedforward.expand": "intermediate.dense",
    "feedforward.contract": "output.dense",
    "feedforward_norm": "output.LayerNorm",
}


def _bert_config(offset: int = 0, **form: Any) -> ConfigMap:
    """The config of BERT; of RoBERTa, whose positions start at `offset`; of Megatron's BERT, whose form differs."""
    return ConfigMap(
        fields=(
            *_stack(_BERT_SIZES, eps=1e-12, dropout=0.1, attention_dropout=0.1),
            Field("hidden_act", "encoder.activation", "gelu", _EXACT),
            Field("type_vocab_size", "segments", 2),
            Field("max_position_embeddings", "encoder.positions.length", offset=offset),
        ),
        fixed=_BERT_FORM | half("encoder", **form),
        must={
            "position_embedding_type": ("absolute",),
            **dict.fromkeys(("is_decoder", "add_cross_attention"), (False,)),
            "tie_word_embeddings": (True,),
        },
    )


def _reader(
    name: str,
    title: str,
    config: ConfigMap,
    rules: tuple[Rule, ...],
    masked: tuple[str, str, str],
    label: str,
    *,
    offset: int = 0,
    heads: Mapping[str, HeadName] | None = None,
    **more: Any,
) -> Family:
    """A family of encoders of texts.

    Args:
        name: that of the family; without a part before a hyphen, the start of the names of all weights.
        title: the start of the names of its classes.
        config: the keys of the two configs.
        rules: the rules for weights that only this family has.
        masked: the layer and the norm of the head for masked words, and its projection.
        label: the layer of the head for labels.
        offset: where positions start.
        heads: further heads.
        more: further fields of `Family`.
    """
    root = name.rpartition("-")[2]
    words, (dense, norm, output) = f"{root}.embeddings.word_embeddings.weight", masked
    bias = f"{output}.bias".replace("decoder.", "")
    return Family(
        name=name,
        kind="encoder-only",
        architecture=f"{title}Model",
        prefix=f"{root}.",
        config=config,
        rules=(
            Rule("embedder.weight", words),
            Rule("segments", f"{root}.embeddings.token_type_embeddings.weight"),
            Rule("encoder.stack.positions.table", f"{root}.embeddings.position_embeddings", skipped=offset),
            Rule("encoder.stack.embedding_norm", f"{root}.embeddings.LayerNorm"),
            *rules,
            Rule("heads.masked.project.0", dense),
            Rule("heads.masked.project.1", norm),
            Rule("heads.masked.bias", bias),
            Rule("heads.label.linear", label),
            Rule("heads.tags.linear", "classifier"),
            Rule("heads.span.linear", "qa_outputs"),
        ),
        copies={f"{output}.weight": words, f"{output}.bias": bias},
        harmless=("embeddings.position_ids", "embeddings.token_type_ids"),
        heads={
            "masked": HeadName(f"{dense}.weight", f"{title}ForMaskedLM"),
            "label": HeadName(f"{label}.weight", f"{title}ForSequenceClassification"),
            "tags": HeadName("classifier.weight", f"{title}ForTokenClassification"),
            "span": HeadName("qa_outputs.weight", f"{title}ForQuestionAnswering"),
            **(heads or {}),
        },
        **more,
    )


def _bert(name: str, title: str, config: ConfigMap, layers: Mapping[str, str]) -> Family:
    """BERT, and Megatron's, with its norms before the sublayers and after the last block."""
    transform = "cls.predictions.transform"
    return _reader(
        name,
        title,
        config,
        (
            *block("encoder", "bert.encoder.layer.{}", layers),
            Rule("encoder.stack.norm", "bert.encoder.ln"),
            Rule("pooling.layer", "bert.pooler.dense"),
            Rule("heads.next.linear", "cls.seq_relationship"),
        ),
        (f"{transform}.dense", f"{transform}.LayerNorm", "cls.predictions.decoder"),
        "classifier",
        heads={"next": HeadName("cls.seq_relationship.weight", f"{title}ForNextSentencePrediction")},
        poolers={"bert.pooler.dense.weight": "tanh"},
    )


BERT = _bert("bert", "Bert", _bert_config(), _BERT_LAYERS)
MEGATRON_BERT = _bert(
    "megatron-bert",
    "MegatronBert",
    _bert_config(norm_position="before", embedding_norm=False),
    _BERT_LAYERS | {"attention_norm": "attention.ln", "feedforward_norm": "ln"},
)
ROBERTA = _reader(
    "roberta",
    "Roberta",
    _bert_config(2),
    (
        *block("encoder", "roberta.encoder.layer.{}", _BERT_LAYERS),
        Rule("pooling.layer", "roberta.pooler.dense", when=lambda form: "label" not in form.heads),
        Rule("pooling.layer", "classifier.dense", when=lambda form: "label" in form.heads),
    ),
    ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    "classifier.out_proj",
    offset=2,
    poolers={"classifier.dense.weight": "tanh", "roberta.pooler.dense.weight": "tanh"},
)
_DISTILBERT_SIZES = {
    "n_layers": "layers",
    "dim": "width",
    "hidden_dim": "inner",
    "n_heads": "heads",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "max_position_embeddings": "positions.length",
}
_DISTILBERT_LAYERS = {
    "attention.qkv": "attention.q_lin attention.k_lin attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feedforward.expand": "ffn.lin1",
    "feedforward.contract": "ffn.lin2",
    "feedforward_norm": "output_layer_norm",
}
DISTILBERT = _reader(
    "distilbert",
    "DistilBert",
    ConfigMap(
        fields=(
            *_stack(_DISTILBERT_SIZES, dropout=0.1, attention_dropout=0.1),
            Field("activation", "encoder.activation", "gelu", _EXACT),
        ),
        fixed={**_BERT_FORM, "encoder.eps": 1e-12, "segments": 0},
        must={"tie_word_embeddings": (True,)},
    ),
    (*block("encoder", "distilbert.transformer.layer.{}", _DISTILBERT_LAYERS), Rule("pooling.layer", "pre_classifier")),
    ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    "classifier",
    poolers={"pre_classifier.weight": "relu"},
)


_PATCHES = {"image_size": ("size", 224), "patch_size": ("patch", 16), "num_channels": ("channels", 3)}


def _read_patches(config: Json) -> Json:
    sizes = {}
    for key, (ours, default) in _PATCHES.items():
        size = config.get(key) or default
        sides = {*size} if isinstance(size, list) else {size}
        if len(sides) > 1:
            raise ConfigError(f"{key} = {size} is not supported: only squares are")
        sizes[ours] = sides.pop()
    return {"embedder": {"kind": "patches", **sizes, "places": "learned"}}


def _write_patches(tree: Tree) -> Json:
    return {theirs: tree["embedder"].get(ours) for theirs, (ours, _) in _PATCHES.items()}


_VIT_LAYERS = {
    "attention.qkv": "attention.attention.query attention.attention.key attention.attention.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "layernorm_before",
    "feedforward.expand": "intermediate.dense",
    "feedforward.contract": "output.dense",
    "feedforward_norm": "layernorm_after",
}
VIT = Family(
    name="vit",
    kind="encoder-only",
    architecture="ViTModel",
    prefix="vit.",
    config=ConfigMap(
        fields=(
            *_stack(_BERT_SIZES, eps=1e-12, dropout=0.0, attention_dropout=0.0),
            Field("hidden_act", "encoder.activation", "gelu", ACTIVATIONS),
            Field("qkv_bias", "encoder.qkv_bias", True, {True: "yes", False: "no"}),
            Via("image_size patch_size num_channels", _read_patches, _write_patches),
        ),
        fixed={"segments": 0, "pooling": "first", "encoder.positions.kind": "none"},
        must={"pooler_act": ("tanh",)},
    ),
    rules=(
        Rule("embedder.first", "vit.embeddings.cls_token", ones=2),
        Rule("embedder.project", "vit.embeddings.patch_embeddings.projection"),
        Rule("embedder.places", "vit.embeddings.position_embeddings", ones=1),
        Rule("encoder.stack.norm", "vit.layernorm"),
        *block("encoder", "vit.encoder.layer.{}", _VIT_LAYERS),
        Rule("pooling.layer", "vit.pooler.dense"),
        Rule("heads.label.linear", "classifier"),
    ),
    heads={"label": HeadName("classifier.weight", "ViTForImageClassification")},
    poolers={"vit.pooler.dense.weight": "tanh"},
)
