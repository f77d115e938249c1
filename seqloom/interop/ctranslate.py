"""Decoders and encoder-decoders as models of CTranslate2 (OpenNMT), written from our weights directly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqloom.errors import MissingExtra, UsageError
from seqloom.files import writing
from seqloom.interop.families.family import explicit
from seqloom.models.decoder import LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder
from seqloom.nn.positions import Learned, Relative, Rotary, Sinusoidal, sinusoids
from seqloom.nn.transformer import TransformerConfig
from seqloom.text.tokenizer import Tokenizer

_POSITIONS = 4096  # that sines are written for
_NEVER = -1e9


def _ctranslate2() -> Any:
    try:
        import ctranslate2
    except ImportError:
        raise MissingExtra("CTranslate2", "export") from None
    return ctranslate2


def write_ctranslate2(folder: Path, model: nn.Module, pair: tuple[Tokenizer, Tokenizer]) -> None:
    """Writes a model directory for CTranslate2. Raises UsageError for what it cannot express."""
    specs = _ctranslate2().specs
    if not isinstance(model, LanguageModel | EncoderDecoder):
        raise UsageError("CTranslate2 is for models that write; --to onnx is for those that read")
    decoder = specs.transformer_spec.TransformerDecoderSpec
    own = _arguments(model.config.decoder, "decoder", specs)
    source, target = pair
    if isinstance(model, EncoderDecoder):
        halves = _arguments(model.config.encoder, "encoder", specs), own
        encoder = specs.transformer_spec.TransformerEncoderSpec(**halves[0])
        spec = specs.TransformerSpec(encoder, decoder(**own))
        _fill_embedder(encoder.embeddings[0], encoder, model.source)
        _fill_stack(encoder, model.encoder.stack)
        embedder = model.target
        spec.register_source_vocabulary(_words(source))
        spec.register_target_vocabulary(_words(target))
        spec.config.add_source_eos = False
        spec.config.decoder_start_token = _word(target, target.start)
        eps = {explicit(model.config)[half]["eps"] for half in ("encoder", "decoder")}
        if len(eps) > 1:
            raise UsageError("CTranslate2 has one eps for all norms", where="model.encoder.eps, model.decoder.eps")
    else:
        spec = specs.TransformerDecoderModelSpec(decoder(with_encoder_attention=False, **own))
        embedder = model.embedder
        spec.register_vocabulary(_words(target))
        eps = {explicit(model.config)["decoder"]["eps"]}
    _fill_embedder(spec.decoder.embeddings, spec.decoder, embedder)
    _fill_stack(spec.decoder, model.decoder.stack)
    spec.decoder.projection.weight = _array(model.head.weight)
    bias = torch.zeros(target.vocab_size) if model.head.bias is None else model.head.bias.detach().clone()
    if target.pad == target.start and isinstance(model, EncoderDecoder):
        bias[target.pad] = _NEVER
    spec.decoder.projection.bias = _array(bias)
    spec.config.layer_norm_epsilon = eps.pop()
    ends = {"bos": target.start, "eos": target.stop if isinstance(model, LanguageModel) else target.end}
    for name, i in (ends | {"unk": target.unknown}).items():
        setattr(spec.config, f"{name}_token", _word(target, i))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        spec.validate()
        spec.optimize(quantization=None)
        spec.save(str(folder))


def _arguments(config: Any, half: str, specs: Any) -> dict[str, Any]:
    """What CTranslate2 calls the options of a stack."""
    where = f"model.{half}"
    if not isinstance(config, TransformerConfig):
        raise UsageError(f"CTranslate2 has no {config.kind} models", where=where)
    for name, wrong in (("window", config.window), ("embedding_norm", config.embedding_norm)):
        if wrong:
            raise UsageError(f"CTranslate2 cannot say {name} = {wrong!r}", where=where)
    activations = {"relu": "RELU", "gelu": "GELU", "gelu-tanh": "GELUTanh", "silu": "SWISH"}
    gated = {"swiglu": "SWISH", "geglu": "GELUTanh"}
    found: dict[str, Any] = {
        "num_layers": config.layers,
        "num_heads": config.heads,
        "pre_norm": config.norm_position == "before",
        "activation": getattr(specs.Activation, ({**activations, **gated})[config.activation]),
        "ffn_glu": config.activation in gated,
        "rms_norm": config.norm == "rms",
        "qk_norm": config.qk_norm,
    }
    if config.sizes.kv_heads != config.heads:
        found["num_heads_kv"] = config.sizes.kv_heads
    if config.sizes.features * config.heads != config.width:
        found["head_dim"] = config.sizes.features
    match config.positions:
        case Rotary(base=base, stretch=stretch, trained=0):
            kind = specs.attention_spec.RotaryScalingType.Linear if stretch != 1 else None
            found |= {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": base}
            found |= {"rotary_scaling_type": kind, "rotary_scaling_factor": stretch}
        case Relative():
            found["relative_attention_bias"] = True
        case Sinusoidal() | Learned():
            pass
        case other:
            raise UsageError(f"CTranslate2 cannot say positions = {other!r}", where=where)
    return found


def _fill_embedder(table: Any, spec: Any, embedder: Any) -> None:
    if not isinstance(embedder.project, nn.Identity):
        raise UsageError("CTranslate2 has embeddings of the model's width only", where="model.embedding")
    table.weight = _array(embedder.weight)
    spec.scale_embeddings = embedder.scale != 1


def _fill_stack(spec: Any, stack: Any) -> None:
    positions = stack.config.positions
    if isinstance(positions, Learned):
        spec.position_encodings.encodings = _array(stack.positions.table.weight)
    elif isinstance(positions, Sinusoidal):
        waves = sinusoids(torch.arange(_POSITIONS), stack.config.width, positions.interleaved)
        spec.position_encodings.encodings = _array(waves)
    for layer, block in zip(spec.layer, stack.blocks, strict=True):
        attention = layer.self_attention
        _fill_linears(attention.linear, block.attention.qkv, block.attention.output)
        _fill_norm(attention.layer_norm, block.attention_norm)
        if stack.config.qk_norm:
            _fill_norm(attention.q_norm, block.attention.query_norm)
            _fill_norm(attention.k_norm, block.attention.key_norm)
        if isinstance(positions, Relative):
            attention.relative_attention_bias = _array(stack.positions.table.weight)
            attention.relative_attention_max_distance = np.dtype("int32").type(positions.distance)
        if block.cross is not None:
            _fill_linears(layer.attention.linear, block.cross.query, block.cross.key_value, block.cross.output)
            _fill_norm(layer.attention.layer_norm, block.cross_norm)
        _fill_norm(layer.ffn.layer_norm, block.feedforward_norm)
        expand, contract = block.feedforward.expand, block.feedforward.contract
        gated = hasattr(layer.ffn, "linear_0_noact")
        parts = [layer.ffn.linear_0, layer.ffn.linear_0_noact] if gated else [layer.ffn.linear_0]
        for i, part in enumerate(parts):
            part.weight = _array(expand.weight.chunk(len(parts))[i])
            if expand.bias is not None:
                part.bias = _array(expand.bias.chunk(len(parts))[i])
        _fill_linears([layer.ffn.linear_1], contract)
    if stack.config.norm_position == "before":
        _fill_norm(spec.layer_norm, stack.norm)


def _fill_linears(specs: Sequence[Any], *layers: nn.Linear) -> None:
    for spec, layer in zip(specs, layers, strict=True):
        spec.weight = _array(layer.weight)
        if layer.bias is not None:
            spec.bias = _array(layer.bias)


def _fill_norm(spec: Any, norm: Any) -> None:
    spec.gamma = _array(norm.weight)
    if getattr(norm, "bias", None) is not None:
        spec.beta = _array(norm.bias)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().contiguous().numpy().copy()


def _word(tokenizer: Tokenizer, i: int) -> str:
    return str(tokenizer.inner.id_to_token(i) or f"<unused_{i}>")


def _words(tokenizer: Tokenizer) -> list[str]:
    return [_word(tokenizer, i) for i in range(tokenizer.vocab_size)]


def greedy_ctranslate2(
    folder: Path, model: nn.Module, pair: tuple[Tokenizer, Tokenizer], rows: Sequence[Sequence[int]], most: int
) -> list[list[int]]:
    """The most probable continuation of each row, or its translation, of at most `most` tokens."""
    ctranslate2, (source, target) = _ctranslate2(), pair
    options: dict[str, Any] = {"beam_size": 1}
    if isinstance(model, EncoderDecoder):
        given = [[_word(source, i) for i in (*row, source.end)] for row in rows]
        translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)
        found = [r.hypotheses[0] for r in translator.translate_batch(given, max_decoding_length=most, **options)]
        ids = {word: i for i, word in enumerate(_words(target))}
        return [[ids[word] for word in row] for row in found]
    generator = ctranslate2.Generator(str(folder), device="cpu", inter_threads=1, intra_threads=1)
    given = [[_word(target, i) for i in row] for row in rows]
    results = generator.generate_batch(given, max_length=most, include_prompt_in_result=False, **options)
    return [list(r.sequences_ids[0]) for r in results]
