"""Hugging Face's directory format, read and written: config.json, and safetensors in one file or several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from seqloom.errors import ConfigError, RunError, UsageError, nearest, optional
from seqloom.files import Json, write_json, writing
from seqloom.interop.families import FAMILIES
from seqloom.interop.families.family import Family, biases
from seqloom.interop.peft.read import merge_adapter
from seqloom.interop.side_files import SideFiles, read_side_files
from seqloom.interop.tables import Form, bind, read_weights, write_weights
from seqloom.interop.weights import INDEX, MERGE, Weights, faults, interpreting, misfits, read_json, some
from seqloom.models.assemblies import Model, ModelConfig, make_model, unallocated
from seqloom.nn.embedders import PatchConfig

SHARD = 5 * 10**9
"""The most bytes of a file of weights."""
_HUB_NAME = r"\w[\w.-]*(/\w[\w.-]*)?"
_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Published:
    """A checkpoint that has been read, except for its weights.

    Args:
        family: its family.
        config: its config.json.
        model: our model, without weights.
        form: our config, and the number of labels of each head.
        weights: reads the weights one by one, under our names.
        side: what the files beside the weights state.
        unused: the names of weights that the model does not use.
        stripped: the prefixes of wrappers that the names of the weights had.
    """

    family: Family
    config: Json
    model: Model
    form: Form
    weights: Callable[[], Iterable[tuple[str, Tensor]]]
    side: SideFiles
    unused: list[str] = field(default_factory=list)
    stripped: list[str] = field(default_factory=list)


def find(name: str) -> Path:
    """The directory of a checkpoint: the one named, or a download from the Hugging Face hub.

    What looks like a path (./x, a/b/c, or a/b where a directory a exists) is never looked up on the hub.
    Raises RunError if there is no such checkpoint, MissingExtra if huggingface_hub is needed and not installed.
    """
    path = Path(name)
    if path.exists():
        if not path.is_dir():
            problem = "is a file; a checkpoint is a directory with config.json and *.safetensors, or a GGUF file"
            raise RunError(problem, where=name)
        return path
    if path.suffix in (".safetensors", ".gguf"):
        raise RunError("no such file", where=name, cure="check its path")
    if not re.fullmatch(_HUB_NAME, name) or ("/" in name and path.parent.is_dir()):
        cure = "name a directory with config.json, or a model on the Hugging Face hub, like openai-community/gpt2"
        raise RunError("no such directory", where=name, cure=cure)
    hub = optional("huggingface_hub", f"looking up {name!r} on the Hugging Face hub", "hf")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the library's own errors and those of the network
        raise _hub_error(name, error) from None


def _hub_error(name: str, error: BaseException) -> RunError:
    while error.__cause__ is not None:  # the innermost is the network's own, like "Name or service not known"
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        lacking = "access to this" if status == 403 else "such"
        problem = f"no such directory, and no {lacking} model on the Hugging Face hub"
        cure = "check the spelling; for a gated model ask for access on its page, then log in: hf auth login"
        return RunError(problem, where=name, cure=cure)
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    cure = "check the network, or download the model elsewhere and name its directory: "
    cure += f"hf download {name} --local-dir DIR"
    problem = f"no such directory, and the download from the Hugging Face hub failed: {cause}"
    return RunError(problem, where=name, cure=cure)


def read_checkpoint(folder: Path, adapter: Path | None = None) -> Published:
    """Reads a directory, with the adapter of another one merged into its weights.

    Raises RunError or ConfigError if the model would not compute the same here.
    """
    path = folder / "config.json"
    config = read_json(path)
    if not config:
        raise RunError("is not a checkpoint: it has no config.json", where=str(folder))
    kind = str(config.get("model_type", ""))
    if kind not in FAMILIES:
        raise RunError(f"unknown architecture {kind!r}", where=str(path), cure=nearest(kind, FAMILIES))
    family, weights = FAMILIES[kind], Weights(folder)
    roots = {part.partition(".")[0] for rule in family.rules for part in rule.theirs} | {"lm_head"}
    roots -= {family.prefix[:-1]}
    weights.rename(family.prefix, roots)
    ignored = merge_adapter(weights, adapter, family, roots, config) if adapter is not None else []
    shapes = weights.shapes()
    with interpreting(path):
        if kind == "t5" and "lm_head.weight" in shapes:
            tied = "shared.weight" in shapes and torch.equal(weights("lm_head.weight"), weights("shared.weight"))
            config["separate"] = not tied
        model_config = family.model_config(config)
        side = read_side_files(folder, config, family.config.used)
        model_config, heads = _with_heads(side, family, config, shapes, model_config)
        _check_sizes(model_config, config, shapes)
        with unallocated():
            model = make_model(model_config, config.get("vocab_size", 0), heads)
        form, ours = Form(model_config, heads), dict(model.named_parameters())
        bound = bind(family.rules, form, ours)
        expected = {name: tuple(part.shape) for name, part in write_weights(bound, form, ours.__getitem__)}
        _refuse_untying(family, weights, expected, adapter)
        weights.without_copies(family.copies, expected)
        unused = _check(family, weights.shapes(), expected)
        _check_tables(family, config, weights)
    side.warnings.extend(ignored)
    return Published(
        family, config, model, form, lambda: read_weights(bound, form, weights.checked), side, unused, weights.stripped
    )


def _check_sizes(model_config: ModelConfig, config: Json, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ConfigError for sizes that no file of weights has, before anything of that size is made."""
    size, images = config.get("vocab_size", 0), isinstance(getattr(model_config, "embedder", None), PatchConfig)
    if not isinstance(size, int) or isinstance(size, bool) or not (size == 0 if images else 0 < size < 1 << 31):
        raise ConfigError(f"vocab_size = {size!r} is not the size of a vocabulary")
    if not isinstance(positions := config.get("max_position_embeddings", 1), int | None) or positions == 0:
        raise ConfigError(f"max_position_embeddings = {positions!r} is not a number of positions")
    for name in ("encoder", "decoder"):
        if (layers := getattr(getattr(model_config, name, None), "layers", 0)) > len(shapes):
            raise ConfigError(f"has {layers:,} layers in its {name}, but only {len(shapes):,} weights")


def _with_heads(
    side: SideFiles, family: Family, config: Json, shapes: Mapping[str, tuple[int, ...]], model_config: ModelConfig
) -> tuple[ModelConfig, dict[str, int]]:
    """The model's config with its pooling, and the number of labels of each head; both only for encoders."""
    if family.kind != "encoder-only":
        return model_config, {}
    architecture = str((config.get("architectures") or [""])[0])
    heads: dict[str, int] = {}
    for name, head in family.heads.items():
        ambiguous = [other.architecture for other in family.heads.values() if other.marker == head.marker]
        chosen = architecture if architecture in ambiguous else ambiguous[0]
        if head.marker in shapes and head.architecture == chosen:
            heads[name] = shapes[head.marker][0]
    if side.pooling is not None and "label" not in heads:
        return replace(model_config, pooling=side.pooling, pooler="none"), heads  # type: ignore[arg-type]
    poolers = [kind for marker, kind in family.poolers.items() if marker in shapes]
    if "label" in heads and family.name != "vit":
        poolers = [*family.poolers.values()]
    return replace(model_config, pooler=poolers[0] if poolers else "none"), heads  # type: ignore[arg-type]


def _check(family: Family, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The names of unused weights. Raises RunError that lists the missing, the extra, and those of a wrong shape."""
    rest = [name for name in shapes if name not in expected]
    unused = [name for name in rest if name.endswith((".pooler.dense.weight", ".pooler.dense.bias"))]
    extra = [name for name in rest if name not in unused and not name.endswith(family.harmless or ("\0",))]
    missing = expected.keys() - shapes.keys()
    if wrong := faults(missing=missing, extra=extra, wrong=misfits(shapes, expected)):
        problem = f"its weights do not match its config.json; {wrong}"
        raise RunError(problem, cure=f"use a complete checkpoint of {family.architecture} or the same with a head")
    return unused


def _refuse_untying(family: Family, weights: Weights, expected: Mapping[str, Any], adapter: Path | None) -> None:
    tied = {name for pair in family.copies.items() if pair[0] not in expected for name in pair} & weights.changed
    if tied:
        problem = f"changes {some(tied)}, which the model uses at another place, too"
        raise RunError(problem, where=str(adapter), cure=MERGE)


def _check_tables(family: Family, config: Json, weights: Weights) -> None:
    """Raises RunError if a stored table differs from the one computed here, which would replace it."""
    shapes = weights.shapes()
    if family.sines and config["max_position_embeddings"] > 1 << 20:
        raise ConfigError(f"max_position_embeddings = {config['max_position_embeddings']} is too large")
    for name in (name for name in family.sines if name in shapes):
        fits = shapes[name] == (config["max_position_embeddings"], config["d_model"])  # else none of its size is made
        if not fits or (weights(name) - family.tables(config)[name]).abs().max() > 1e-2:  # bfloat16
            raise RunError(f"{name} does not hold sines", cure="use a checkpoint whose positions were not trained")


def express(
    config: ModelConfig, heads: Mapping[str, int], first: str = "", tokenizer: Tokenizer | None = None
) -> tuple[Family, Json, ModelConfig]:
    """The family that can express a config, its config.json, and our config as read back from that.

    If several can, that is `first`, or one that adds no biases. Raises UsageError that names what the nearest family
    cannot express.
    """
    tried = []
    for family in FAMILIES.values():
        theirs, again, lost = family.written(config)
        lost += [f"head {name!r}" for name in heads if name not in family.heads]
        without = () if heads.keys() & {"label", "next"} and family.name != "vit" else ("none",)
        if getattr(config, "pooler", "none") not in (*without, *family.poolers.values()):
            lost.append(f"pooler = {config.pooler!r}")  # type: ignore[union-attr]
        if heads.keys() & {"label", "next"} and getattr(config, "pooling", "first") != "first":
            lost.append(f"pooling = {config.pooling!r}")  # type: ignore[union-attr]
        if tokenizer is not None and not family.reads(tokenizer):
            lost.append("this tokenizer")
        rank = family.kind != config.kind, len(lost), family.name != first, biases(again)
        tried.append((rank, family, theirs, again, lost))
    _, family, theirs, again, lost = min(tried, key=itemgetter(0))
    if lost:
        problem = f"Hugging Face's formats cannot express this model; the nearest, {family.name}, lacks {some(lost)}"
        presets = "small, small-llama, small-megatron, gpt2, llama-135m, bert-base, vit-tiny"
        raise UsageError(problem, cure=f"train one that they can express, like the presets {presets}")
    return family, theirs, again


def write_checkpoint(
    folder: Path,
    model: Model,
    heads: Mapping[str, int],
    *,
    tokenizer: Tokenizer | None,
    vocab_size: int,
    dtype: torch.dtype,
    more: Json,
    first: str = "",
) -> Family:
    """Writes config.json and the weights. Raises UsageError if no family can express the model.

    Args:
        folder: the directory to write.
        model: the model.
        heads: the number of labels of each head.
        tokenizer: the tokenizer with which transformers will read texts; None = none.
        vocab_size: the size of the vocabulary; 0 = the model reads no text.
        dtype: the type of the weights.
        more: further keys of config.json.
        first: the family to prefer if several can express the model.
    """
    family, config, model_config = express(model.config, heads, first, tokenizer)
    parameters = dict(model.named_parameters())
    form = Form(model_config, dict(heads))
    with unallocated():
        whole = dict(make_model(model_config, vocab_size, heads).named_parameters())
    bound = bind(family.rules, form, whole)

    def tensor(name: str) -> Tensor:  # a bias that the model lacks is zero
        return parameters[name].detach().cpu() if name in parameters else torch.zeros(whole[name].shape)

    architecture, bare = _architecture(family, heads)
    prefix = family.prefix if bare else ""
    separate = config.pop("separate", False)
    weights = {n.removeprefix(prefix): t.to(dtype) for n, t in write_weights(bound, form, tensor)}
    config |= {"architectures": [architecture], "dtype": str(dtype).removeprefix("torch."), **more}
    weights |= {name: table.to(dtype) for name, table in family.tables(config).items()}
    for labels in (n for name, n in heads.items() if name in ("label", "tags")):
        config.setdefault("id2label", {str(i): f"LABEL_{i}" for i in range(labels)})
    config |= {"vocab_size": vocab_size} if vocab_size else {}
    config |= {"tie_word_embeddings": False} if separate else {}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", config)
        _save(folder, weights, SHARD)
    return family


def _architecture(family: Family, heads: Mapping[str, int]) -> tuple[str, bool]:
    """The name of the class of transformers, and whether it is the one without a head."""
    if family.kind != "encoder-only" or not heads:
        return family.architecture, family.kind == "encoder-only"
    if {*heads} == {"masked", "next"}:
        return family.architecture.replace("Model", "ForPreTraining"), False
    return family.heads[next(iter(heads))].architecture, False


def _save(folder: Path, weights: dict[str, Tensor], shard: int) -> None:
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in weights.items():
        if parts[-1] and size + tensor.nbytes > shard:
            parts, size = [*parts, {}], 0
        parts[-1][name] = tensor.contiguous()
        size += tensor.nbytes
    for old in (*folder.glob("model*.safetensors"), folder / INDEX):
        old.unlink(missing_ok=True)
    names = [f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors" for i in range(len(parts))]
    names = names if len(parts) > 1 else ["model.safetensors"]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    if len(parts) > 1:
        at = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        total = sum(t.nbytes for t in weights.values())
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": at})
