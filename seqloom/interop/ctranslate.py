"""Decoders and encoder-decoders in the format of CTranslate2 (OpenNMT), written directly from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqloom.errors import UsageError, optional
from seqloom.files import writing
from seqloom.interop.families.family import explicit
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.positions import Learned, Relative, Rotary, Sinusoidal, sinusoids
from seqloom.nn.transformer import TransformerConfig
from seqloom.text.tokenizer import Tokenizer

POSITIONS = 4096
"""The rows of a table of sines, and so the longest text."""
_NEVER = -1e9  # the logit of a token that must not be generated


def write_ctranslate2(folder: Path, model: nn.Module, pair: tuple[Tokenizer, Tokenizer]) -> None:
    """Writes a model directory for CTranslate2. Raises UsageError if it cannot express the model."""
    specs = optional("ctranslate2", "CTranslate2", "export").specs
    if not isinstance(model, LanguageModel | EncoderDecoder):
        raise UsageError("CTranslate2 is for models that generate text", cure="for an encoder model use --to onnx")
    decoder = specs.transformer_spec.TransformerDecoderSpec
    options = _stack_options(model.config.decoder, "decoder", specs)
    source, target = pair
    if isinstance(model, EncoderDecoder):
        encoder_options = _stack_options(model.config.encoder, "encoder", specs)
        encoder = specs.transformer_spec.TransformerEncoderSpec(**encoder_options)
        spec = specs.TransformerSpec(encoder, decoder(**options))
        _fill_embedder(encoder.embeddings[0], encoder, model.source)
        _fill_stack(encoder, model.encoder.stack)
        embedder = model.target
        spec.register_source_vocabulary(token_names(source))
        spec.register_target_vocabulary(token_names(target))
        spec.config.add_source_eos = False
        spec.config.decoder_start_token = _token(target, target.start)
    else:
        spec = specs.TransformerDecoderModelSpec(decoder(with_encoder_attention=False, **options))
        embedder = model.embedder
        spec.register_vocabulary(token_names(target))
    tree = explicit(model.config)
    eps = {tree[half]["eps"] for half in ("encoder", "decoder") if half in tree}
    if len(eps) > 1:
        raise UsageError("CTranslate2 has one eps for all norms", where="model.encoder.eps, model.decoder.eps")
    _fill_embedder(spec.decoder.embeddings, spec.decoder, embedder)
    _fill_stack(spec.decoder, model.decoder.stack)
    spec.decoder.projection.weight = _array(model.head.weight)
    bias = torch.zeros(target.vocab_size) if model.head.bias is None else model.head.bias.detach().clone()
    if isinstance(model, EncoderDecoder):
        bias[list(target.suppressed)] = _NEVER
    spec.decoder.projection.bias = _array(bias)
    spec.config.layer_norm_epsilon = eps.pop()
    ends = {"bos": target.start, "eos": target.stop if isinstance(model, LanguageModel) else target.end}
    for name, i in (ends | {"unk": target.unknown}).items():
        setattr(spec.config, f"{name}_token", _token(target, i))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        spec.validate()
        spec.optimize(quantization=None)
        spec.save(str(folder))


def _stack_options(config: Any, half: str, specs: Any) -> dict[str, Any]:
    """The options of a stack, as CTranslate2 names them."""
    where = f"model.{half}"
    if not isinstance(config, TransformerConfig):
        raise UsageError(f"CTranslate2 has no {config.kind} models", where=where)
    for name, value in (("window", config.window), ("embedding_norm", config.embedding_norm)):
        if value:
            raise UsageError(f"CTranslate2 does not support {name} = {value!r}", where=where)
    activations = {"relu": "RELU", "gelu": "GELU", "gelu-tanh": "GELUTanh", "silu": "SWISH"}
    gated = {"swiglu": "SWISH", "geglu": "GELUTanh"}
    options: dict[str, Any] = {
        "num_layers": config.layers,
        "num_heads": config.heads,
        "pre_norm": config.norm_position == "before",
        "activation": getattr(specs.Activation, ({**activations, **gated})[config.activation]),
        "ffn_glu": config.activation in gated,
        "rms_norm": config.norm == "rms",
        "qk_norm": config.qk_norm,
    }
    if config.sizes.kv_heads != config.heads:
        options["num_heads_kv"] = config.sizes.kv_heads
    if config.sizes.features * config.heads != config.width:
        options["head_dim"] = config.sizes.features
    match config.positions:
        case Rotary(base=base, stretch=stretch, trained=0):
            kind = specs.attention_spec.RotaryScalingType.Linear if stretch != 1 else None
            options |= {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": base}
            options |= {"rotary_scaling_type": kind, "rotary_scaling_factor": stretch}
        case Relative():
            options["relative_attention_bias"] = True
        case Sinusoidal() | Learned():
            pass
        case positions:
            raise UsageError(f"CTranslate2 does not support positions = {positions!r}", where=where)
    return options


def _fill_embedder(table: Any, spec: Any, embedder: Any) -> None:
    if not isinstance(embedder.project, nn.Identity):
        raise UsageError("CTranslate2 supports only embeddings of the model's width", where="model.embedding")
    table.weight = _array(embedder.weight)
    spec.scale_embeddings = embedder.scale != 1


def _fill_stack(spec: Any, stack: Any) -> None:
    positions = stack.config.positions
    if isinstance(positions, Learned):
        spec.position_encodings.encodings = _array(stack.positions.table.weight)
    elif isinstance(positions, Sinusoidal):
        waves = sinusoids(torch.arange(POSITIONS), stack.config.width, positions.interleaved)
        spec.position_encodings.encodings = _array(waves)
    for layer, block in zip(spec.layer, stack.blocks, strict=True):
        attention = layer.self_attention
        _fill_linear(block.attention.qkv, attention.linear[0])
        _fill_linear(block.attention.output, attention.linear[1])
        _fill_norm(attention.layer_norm, block.attention_norm)
        if stack.config.qk_norm:
            _fill_norm(attention.q_norm, block.attention.query_norm)
            _fill_norm(attention.k_norm, block.attention.key_norm)
        if isinstance(positions, Relative):
            attention.relative_attention_bias = _array(stack.positions.table.weight)
            attention.relative_attention_max_distance = np.dtype("int32").type(positions.distance)
        if block.cross is not None:
            for name, part in zip(("query", "key_value", "output"), layer.attention.linear, strict=True):
                _fill_linear(getattr(block.cross, name), part)
            _fill_norm(layer.attention.layer_norm, block.cross_norm)
        _fill_norm(layer.ffn.layer_norm, block.feedforward_norm)
        gate = [layer.ffn.linear_0_noact] if hasattr(layer.ffn, "linear_0_noact") else []
        _fill_linear(block.feedforward.expand, layer.ffn.linear_0, *gate)
        _fill_linear(block.feedforward.contract, layer.ffn.linear_1)
    if stack.config.norm_position == "before":
        _fill_norm(spec.layer_norm, stack.norm)


def _fill_linear(layer: nn.Linear, *specs: Any) -> None:
    for i, spec in enumerate(specs):
        spec.weight = _array(layer.weight.chunk(len(specs))[i])
        if layer.bias is not None:
            spec.bias = _array(layer.bias.chunk(len(specs))[i])


def _fill_norm(spec: Any, norm: Any) -> None:
    spec.gamma = _array(norm.weight)
    if getattr(norm, "bias", None) is not None:
        spec.beta = _array(norm.bias)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().contiguous().numpy().copy()


def _token(tokenizer: Tokenizer, i: int) -> str:
    return str(tokenizer.inner.id_to_token(i) or f"<unused_{i}>")


def token_names(tokenizer: Tokenizer) -> list[str]:
    """CTranslate2's name of each id."""
    return [_token(tokenizer, i) for i in range(tokenizer.vocab_size)]
