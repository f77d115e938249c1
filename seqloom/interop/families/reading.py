"""Families of encoders: BERT and its relatives, ViT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.config import Tree
from seqloom.errors import ConfigError
from seqloom.interop.families.family import ACTIVATIONS, Family, HeadName, block, half
from seqloom.interop.fields import ConfigMap, Field, Json, Via, at
from seqloom.interop.rules import Rule


def _reading(stack: dict[str, str], **form: Any) -> tuple[Field, ...]:
    return tuple(Field(theirs, f"encoder.{ours}", form.get(ours)) for theirs, ours in stack.items())


_BERT_SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "intermediate_size": "inner",
    "num_attention_heads": "heads",
    "layer_norm_eps": "eps",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
_BERT_FORM = half("encoder", norm_position="after", embedding_norm=True, positions__kind="learned") | {
    "embedder.scaled": False,
    "pooling": "first",
}
_EXACT = {"gelu": "gelu"}


_BERT_LAYERS = {
    "attention.qkv": "attention.self.query attention.self.key attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feedforward.expand": "intermediate.dense",
    "feedforward.contract": "output.dense",
    "feedforward_norm": "output.LayerNorm",
}


def _bert_fields(offset: int) -> tuple[Field | Via, ...]:
    return (
        *_reading(_BERT_SIZES, eps=1e-12, dropout=0.1, attention_dropout=0.1),
        Field("hidden_act", "encoder.activation", "gelu", _EXACT),
        Via(
            "type_vocab_size",
            lambda config: {"segments": config.get("type_vocab_size") or 2},
            lambda tree: {"type_vocab_size": tree.get("segments")},
        ),
        Via(
            "max_position_embeddings",
            lambda config: half("encoder", positions__length=config["max_position_embeddings"] - offset),
            lambda tree: {"max_position_embeddings": (at(tree, "encoder.positions.length") or 0) + offset},
        ),
    )


def _bert(
    name: str,
    title: str,
    rules: tuple[Rule, ...],
    *,
    root: str,
    offset: int = 0,
    form: Mapping[str, Any] = _BERT_FORM,
    layers: Mapping[str, str] = _BERT_LAYERS,
    **more: Any,
) -> Family:
    """BERT; RoBERTa, whose positions start at `offset` 2; Megatron's BERT, with its norms before the sublayers."""
    return Family(
        name=name,
        kind="encoder-only",
        architecture=f"{title}Model",
        prefix=f"{root}.",
        config=ConfigMap(
            fields=_bert_fields(offset),
            fixed=form,
            must={
                "position_embedding_type": ("absolute",),
                "is_decoder": (False,),
                "add_cross_attention": (False,),
                "tie_word_embeddings": (True,),
            },
        ),
        rules=(
            Rule("embedder.weight", f"{root}.embeddings.word_embeddings.weight"),
            Rule("segments", f"{root}.embeddings.token_type_embeddings.weight"),
            Rule("encoder.stack.positions.table", f"{root}.embeddings.position_embeddings", skipped=offset),
            *block("encoder", f"{root}.encoder.layer.{{}}", layers),
            *rules,
            Rule("heads.tags.linear", "classifier"),
            Rule("heads.span.linear", "qa_outputs"),
        ),
        harmless=("embeddings.position_ids", "embeddings.token_type_ids"),
        **more,
    )


def _heads(title: str, masked: str, label: str, **more: HeadName) -> dict[str, HeadName]:
    return {
        "masked": HeadName(masked, f"{title}ForMaskedLM"),
        "label": HeadName(label, f"{title}ForSequenceClassification"),
        "tags": HeadName("classifier.weight", f"{title}ForTokenClassification"),
        "span": HeadName("qa_outputs.weight", f"{title}ForQuestionAnswering"),
        **more,
    }


def _of_bert(name: str, title: str, *norms: Rule, **more: Any) -> Family:
    """BERT, and families with the same heads; `norms` are the norms outside the blocks."""
    rules = (
        *norms,
        Rule("pooling.layer", "bert.pooler.dense"),
        Rule("heads.masked.project.0", "cls.predictions.transform.dense"),
        Rule("heads.masked.project.1", "cls.predictions.transform.LayerNorm"),
        Rule("heads.masked.bias", "cls.predictions.bias"),
        Rule("heads.next.linear", "cls.seq_relationship"),
        Rule("heads.label.linear", "classifier"),
    )
    following = HeadName("cls.seq_relationship.weight", f"{title}ForNextSentencePrediction")
    return _bert(
        name,
        title,
        rules,
        root="bert",
        copies={
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        heads=_heads(title, "cls.predictions.transform.dense.weight", "classifier.weight", next=following),
        poolers={"bert.pooler.dense.weight": "tanh"},
        **more,
    )


BERT = _of_bert("bert", "Bert", Rule("encoder.stack.embedding_norm", "bert.embeddings.LayerNorm"))
MEGATRON_BERT = _of_bert(
    "megatron-bert",
    "MegatronBert",
    Rule("encoder.stack.norm", "bert.encoder.ln"),
    form=_BERT_FORM | half("encoder", norm_position="before", embedding_norm=False),
    layers=_BERT_LAYERS | {"attention_norm": "attention.ln", "feedforward_norm": "ln"},
)

ROBERTA = _bert(
    "roberta",
    "Roberta",
    (
        Rule("encoder.stack.embedding_norm", "roberta.embeddings.LayerNorm"),
        Rule("pooling.layer", "roberta.pooler.dense", when=lambda form: "label" not in form.heads),
        Rule("pooling.layer", "classifier.dense", when=lambda form: "label" in form.heads),
        Rule("heads.masked.project.0", "lm_head.dense"),
        Rule("heads.masked.project.1", "lm_head.layer_norm"),
        Rule("heads.masked.bias", "lm_head.bias"),
        Rule("heads.label.linear", "classifier.out_proj"),
    ),
    root="roberta",
    offset=2,
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    heads=_heads("Roberta", "lm_head.dense.weight", "classifier.out_proj.weight"),
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
DISTILBERT = Family(
    name="distilbert",
    kind="encoder-only",
    architecture="DistilBertModel",
    prefix="distilbert.",
    config=ConfigMap(
        fields=(
            *_reading(_DISTILBERT_SIZES, dropout=0.1, attention_dropout=0.1),
            Field("activation", "encoder.activation", "gelu", _EXACT),
        ),
        fixed={**_BERT_FORM, "encoder.eps": 1e-12, "segments": 0},
        must={"tie_word_embeddings": (True,)},
    ),
    rules=(
        Rule("embedder.weight", "distilbert.embeddings.word_embeddings.weight"),
        Rule("encoder.stack.positions.table", "distilbert.embeddings.position_embeddings"),
        Rule("encoder.stack.embedding_norm", "distilbert.embeddings.LayerNorm"),
        *block("encoder", "distilbert.transformer.layer.{}", _DISTILBERT_LAYERS),
        Rule("pooling.layer", "pre_classifier"),
        Rule("heads.masked.project.0", "vocab_transform"),
        Rule("heads.masked.project.1", "vocab_layer_norm"),
        Rule("heads.masked.bias", "vocab_projector.bias"),
        Rule("heads.label.linear", "classifier"),
        Rule("heads.tags.linear", "classifier"),
        Rule("heads.span.linear", "qa_outputs"),
    ),
    copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    harmless=("embeddings.position_ids",),
    heads=_heads("DistilBert", "vocab_transform.weight", "classifier.weight"),
    poolers={"pre_classifier.weight": "relu"},
)


def _read_patches(config: Json) -> Json:
    sizes = {}
    for key, default in (("image_size", 224), ("patch_size", 16)):
        size = config.get(key) or default
        sides = {*size} if isinstance(size, list) else {size}
        if len(sides) > 1:
            raise ConfigError(f"{key} = {size} is not supported: only squares are")
        sizes[key] = sides.pop()
    size, patch = sizes["image_size"], sizes["patch_size"]
    channels = config.get("num_channels") or 3
    return {"embedder": {"kind": "patches", "size": size, "patch": patch, "channels": channels, "places": "learned"}}


def _write_patches(tree: Tree) -> Json:
    patches = tree["embedder"]
    keys = {"image_size": "size", "patch_size": "patch", "num_channels": "channels"}
    return {theirs: patches.get(ours) for theirs, ours in keys.items()}


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
            *_reading(_BERT_SIZES, eps=1e-12, dropout=0.0, attention_dropout=0.0),
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
