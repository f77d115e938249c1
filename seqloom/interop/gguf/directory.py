"""llama.cpp's format GGUF as Hugging Face's directory, and back: both share the description of a family."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from seqloom.errors import ConfigError, RunError, SeqloomError, UsageError
from seqloom.files import Json, write_json, write_text
from seqloom.interop.families import FAMILIES
from seqloom.interop.families.language import ROPES
from seqloom.interop.gguf.file import GGUF, MAGIC, NAMES, PERMUTED, ROPE, GGUFFile, library, permuted, renamed
from seqloom.interop.gguf.tokenizer import read_tokenizer, write_tokenizer
from seqloom.interop.huggingface import find
from seqloom.interop.weights import Weights, interpreting, read_json, some
from seqloom.nn.positions import Rotary, rotary_rates

Precision = Literal["fp32", "bf16", "fp16", "q8_0"]
ARCHITECTURES = ("llama", "qwen2", "qwen3")
_TYPES = {"fp32": ("F32", 0), "fp16": ("F16", 1), "bf16": ("BF16", 32), "q8_0": ("Q8_0", 7)}
"""The type of the matrices, and llama.cpp's number of a file of that type."""
_FIELDS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "num_key_value_heads": "attention.head_count_kv",
    "rope_theta": "rope.freq_base",
    "head_dim": "attention.key_length",
}
_REQUIRED = [*_FIELDS.values()][:6]
_SAME_WIDTH = ("attention.value_length", "rope.dimension_count")
_SCALING = ("rope.scaling.type", "rope.scaling.factor")
_THEIRS = {ours: theirs for theirs, ours in NAMES.items()}
_HARMLESS = {"vocab_size", "rope.scaling.original_context_length", "rope.scaling.finetuned"}


@contextlib.contextmanager
def directory(name: str) -> Iterator[Path]:
    """The directory of a checkpoint: the one named, a download, or one made of a GGUF file while the context lasts.

    Raises what `find` does, and RunError or ConfigError for a GGUF file that is malformed or not supported.
    """
    path = Path(name)
    if path.suffix == ".gguf" and not path.exists():
        raise RunError("no such file", where=name)
    if not path.is_file() or (path.suffix != ".gguf" and not _is_gguf(path)):
        yield find(name)
        return
    with tempfile.TemporaryDirectory(prefix="seqloom-") as made:
        try:
            with interpreting(path):
                _unpack(path, Path(made))
            yield Path(made)
        except SeqloomError as error:
            if not error.where.startswith(made):
                raise
            raise type(error)(error.problem, where=name, cure=error.cure) from None


def _is_gguf(path: Path) -> bool:
    with interpreting(path), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _unpack(path: Path, folder: Path) -> None:
    file = GGUFFile(path)
    write_json(folder / "config.json", _config(file))
    tokenizer, settings, ends = read_tokenizer(file.metadata)
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    write_json(folder / "tokenizer_config.json", settings)
    if ends:
        write_json(folder / "generation_config.json", {"eos_token_id": ends})
    (folder / GGUF).symlink_to(path.resolve())


def _config(file: GGUFFile) -> Json:
    """The config.json of the metadata."""
    name, names = str(file.metadata.get("general.architecture")), {*file.keys()}
    if name not in ARCHITECTURES:
        raise RunError(f"unknown architecture {name!r}", cure=f"supported: {', '.join(ARCHITECTURES)}")
    if file.metadata.get("split.count", 1) > 1:
        raise RunError("is one of several parts", cure="merge them first: llama-gguf-split --merge")
    values = {k.removeprefix(f"{name}."): v for k, v in file.metadata.items() if k.startswith(f"{name}.")}
    if missing := [f"{name}.{key}" for key in _REQUIRED if key not in values]:
        raise RunError(f"has no {some(missing)}")
    known = {*_FIELDS.values(), *_SAME_WIDTH, *_SCALING, *_HARMLESS}
    if other := [f"{name}.{key} = {str(value)[:40]}" for key, value in values.items() if key not in known and value]:
        raise ConfigError(f"not supported: {some(other)}", cure="use a model without it")
    numbers = {theirs: values[key] for theirs, key in _FIELDS.items() if key in values}
    config = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in numbers.items()}  # 1e-5 is no float32
    width = config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    for key in _SAME_WIDTH:
        if values.get(key, width) != width:
            raise ConfigError(f"{name}.{key} = {values[key]} with heads of {width} features is not supported")
    embedding = "model.embed_tokens.weight"
    tied, ids = "lm_head.weight" not in names, len(file.metadata.get("tokenizer.ggml.tokens", ()))
    config |= {"model_type": name, "architectures": [FAMILIES[name].architecture], "tie_word_embeddings": tied}
    config |= {"vocab_size": file.get_slice(embedding).get_shape()[0] if embedding in names else ids}
    kind = values.get("rope.scaling.type", "none")
    if kind != "none":
        config["rope_scaling"] = {"rope_type": kind, "factor": values.get("rope.scaling.factor", 1.0)}
    if ROPE in file.entries:
        config["rope_scaling"] = _scaling(file.get_tensor(ROPE).double(), config.get("rope_theta", 10_000.0))
    return config


def _scaling(factors: Tensor, base: float) -> Json:
    """The rotary positions of Llama 3.1 from the factor of each wavelength. Raises ConfigError for other factors."""
    stretch, low, high, width = float(factors.max()), 1.0, 4.0, 2 * len(factors)
    rates = rotary_rates(Rotary(base=base), width)
    between = (factors > 1 + 1e-6) & (factors < stretch * (1 - 1e-6))
    trained = 8192  # that of Llama 3; a wavelength between the two limits determines it
    if bool(between.any()):
        kept = (1 / factors[between] - 1 / stretch) / (1 - 1 / stretch)
        trained = round(float(((low + kept * (high - low)) * 2 * math.pi / rates[between]).mean()))
    rope = Rotary(base, stretch, trained, low, high)
    if not torch.allclose(rates / factors, rotary_rates(rope, width), rtol=1e-4):
        raise ConfigError(f"the factors of its rotary positions ({ROPE}) are not those of Llama 3")
    return {"rope_type": "llama3", **{theirs: getattr(rope, ours) for ours, theirs in ROPES["llama3"].items()}}


LLAMA = "train one of the form of Llama, like the preset small-llama"
"""The cure for a model that GGUF does not hold."""


def write_gguf(folder: Path, out: Path, precision: Precision) -> list[str]:
    """Writes a directory as a GGUF file, matrices in this precision; returns warnings.

    Raises UsageError for a model or a tokenizer that llama.cpp cannot express.
    """
    gguf, config = library(), read_json(folder / "config.json")
    family = str(config["model_type"])
    name = "llama" if family == "mistral" else family
    if name not in ARCHITECTURES or config.get("sliding_window") or config["hidden_act"] != "silu":
        form = config.get("hidden_act", "an encoder-decoder")
        what = "window" if config.get("sliding_window") else f"form of {family} ({form})"
        problem = f"a model of the {what} cannot be written as GGUF"
        raise UsageError(problem, cure=LLAMA)
    writer = gguf.GGUFWriter(folder / GGUF, name)
    kind, number = _TYPES[precision]
    writer.add_file_type(number)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    values: dict[str, Any] = {key: config[theirs] for theirs, key in _FIELDS.items()}
    values |= {"vocab_size": config["vocab_size"], **dict.fromkeys(_SAME_WIDTH, config["head_dim"])}
    for key, value in values.items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{name}.{key}", value)
    _write_rope(writer, config)
    warnings = write_tokenizer(writer, folder, config["vocab_size"])
    weights = Weights(folder)
    for weight in weights.shapes():
        tensor = weights(weight)
        if name == "llama" and (heads := PERMUTED.get(weight.split(".")[-2])):
            tensor = permuted(tensor, config[heads])
        # Vectors stay exact, as in llama.cpp; rows that are no whole number of blocks get the next finer type.
        of_tensor = "F32" if tensor.dim() < 2 else "F16" if kind == "Q8_0" and tensor.shape[-1] % 32 else kind
        if of_tensor == "F16" and tensor.abs().max() > np.finfo(np.float16).max:
            raise UsageError(f"{weight} has values beyond float16", cure="use --precision bf16")
        dtype = gguf.GGMLQuantizationType[of_tensor]
        data = gguf.quants.quantize(tensor.contiguous().numpy(), dtype)
        writer.add_tensor(renamed(weight, _THEIRS), data, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / GGUF).replace(out)
    return warnings


def _write_rope(writer: Any, config: Json) -> None:
    rope = config["rope_parameters"]
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(library().RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope["rope_type"] == "llama3":
        scaled = Rotary(rope["rope_theta"], **{ours: rope[theirs] for ours, theirs in ROPES["llama3"].items()})
        plain, stretched = (rotary_rates(r, config["head_dim"]) for r in (Rotary(scaled.base), scaled))
        factors = plain / stretched
        writer.add_tensor(ROPE, factors.float().numpy())
