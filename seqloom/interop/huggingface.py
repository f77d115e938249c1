"""Hugging Face's directory format: config.json, safetensors in one file or several, from and to a model here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seqloom.errors import ConfigError, MissingExtra, RunError, UsageError, nearest
from seqloom.files import write_json, writing
from seqloom.interop.families import FAMILIES
from seqloom.interop.families.family import Family
from seqloom.interop.fields import Json
from seqloom.interop.rules import Bound, Form, bind, expected, given, taken
from seqloom.models.assemblies import Model, ModelConfig, make_model

_INDEX = "model.safetensors.index.json"
_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt"]


@dataclass(frozen=True)
class Published:
    """A checkpoint that has been read, but for its weights.

    Args:
        family: its family.
        config: its config.json.
        model: our model, its weights still to be filled in.
        form: our config, and the labels of each head.
        weights: theirs by our name, one by one.
        unused: names of weights that it does without.
    """

    family: Family
    config: Json
    model: Model
    form: Form
    weights: Callable[[], Iterable[tuple[str, Tensor]]]
    unused: list[str] = field(default_factory=list)


def find(name: str) -> Path:
    """The directory of a checkpoint: itself, or what the hub has under that name.

    Raises RunError where there is none, MissingExtra where huggingface_hub is needed and not installed.
    """
    path = Path(name)
    if path.exists():
        if not path.is_dir():
            raise RunError("is a file; a checkpoint is a directory with config.json and *.safetensors", where=name)
        return path
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        cure = "give a directory with config.json, or a name on the Hugging Face hub, like openai-community/gpt2"
        raise RunError("no such directory", where=name, cure=cure)
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra(f"looking up {name!r} on the Hugging Face hub", "hf") from None
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the library's own errors and those of the network
        problem = (
            f"no such directory, and not found on the Hugging Face hub ({str(error).strip().partition(chr(10))[0]})"
        )
        raise RunError(problem, where=name, cure="check the name, and the network") from None


def read_json(path: Path) -> Json:
    """A JSON object; {} where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"cannot be read: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise RunError("is not a JSON object", where=str(path))
    return found


class _Weights:
    """The tensors of a directory, read one at a time."""

    def __init__(self, folder: Path) -> None:
        index = read_json(folder / _INDEX).get("weight_map", {})
        files = sorted({folder / str(name) for name in index.values()}) or [folder / "model.safetensors"]
        if not index and not files[0].is_file():
            _refuse_pickles(folder)
        self._at: dict[str, Any] = {}
        for path in files:
            try:
                handle = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise RunError(f"cannot be read: {error}", where=str(path)) from None
            self._at |= {name: (handle, name) for name in list(handle.keys())}  # type: ignore[no-untyped-call]
        if gone := sorted(index.keys() - self._at.keys()):
            raise RunError(f"missing weights: {_some(gone)}", where=str(folder / _INDEX))

    def rename(self, prefix: str, roots: set[str]) -> None:
        """Gives all names the form of those of the whole model."""
        bare = not any(name.startswith(prefix) for name in self._at)
        for name in list(self._at):
            new = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
            new = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", new)
            if bare and name.partition(".")[0] not in roots:
                new = prefix + new
            self._at[new] = self._at.pop(name)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(file.get_slice(key).get_shape()) for name, (file, key) in self._at.items()}

    def __call__(self, name: str) -> Tensor:
        file, key = self._at[name]
        tensor: Tensor = file.get_tensor(key)
        return tensor

    def without_copies(self, copies: Mapping[str, str], wanted: Mapping[str, Any]) -> None:
        """Drops names for a weight that is there under another one. Raises RunError where the two differ."""
        for copy, name in copies.items():
            if copy not in self._at or copy in wanted:
                continue
            if name in self._at and not torch.equal(self(copy), self(name)):
                cure = "its config.json declares them to be one: set tie_word_embeddings = false there if they are not"
                raise RunError(f"{copy} and {name} differ", cure=cure)
            held = self._at.pop(copy)
            self._at.setdefault(name, held)


def _refuse_pickles(folder: Path) -> None:
    pickles = [p.name for end in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack") for p in folder.glob(end)]
    if not pickles:
        raise RunError("has no model.safetensors", where=str(folder))
    code = f"from transformers import AutoModel as M; M.from_pretrained({str(folder)!r}).save_pretrained('converted')"
    raise RunError(
        f"its weights are a pickle ({', '.join(sorted(pickles)[:3])}), which could run any program, and are not read",
        where=str(folder),
        cure="if you trust it, convert it to safetensors (with the AutoModelFor... class of its task): "
        f'python -c "{code}"',
    )


def read_checkpoint(folder: Path) -> Published:
    """What a directory describes. Raises RunError or ConfigError for whatever would not be the same model here."""
    path = folder / "config.json"
    config = read_json(path)
    if not config:
        raise RunError("is not a checkpoint: it has no config.json", where=str(folder))
    kind = str(config.get("model_type", ""))
    if kind not in FAMILIES:
        raise RunError(f"unknown architecture {kind!r}", where=str(path), cure=nearest(kind, FAMILIES))
    family, weights = FAMILIES[kind], _Weights(folder)
    roots = {part.partition(".")[0] for rule in family.rules for part in rule.theirs} | {"lm_head"}
    weights.rename(family.prefix, roots - {family.prefix[:-1]})
    shapes = weights.shapes()
    try:
        if kind == "t5" and "lm_head.weight" in shapes:
            config["separate"] = "shared.weight" not in shapes or not _same(weights, "lm_head.weight", "shared.weight")
        own = family.model_config(config)
        own, heads = _reading(folder, family, config, shapes, own)
        model = _empty(own, int(config.get("vocab_size", 0)), heads)
        form = Form(own, heads)
        bound = bind(family.rules, form, _shapes_of(model))
        wanted = expected(bound, form, _shapes_of(model))
        weights.without_copies(family.copies, wanted)
        unused = _check(family, weights.shapes(), wanted)
        _check_tables(family.tables(config), weights)
    except (ConfigError, RunError) as error:
        raise type(error)(error.problem, where=error.where or str(path), cure=error.cure) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"cannot be understood: {error!r}", where=str(path)) from None
    return Published(family, config, model, form, lambda: taken(bound, form, weights), unused)


def _same(weights: _Weights, one: str, other: str) -> bool:
    return torch.equal(weights(one), weights(other))


def _reading(
    folder: Path, family: Family, config: Json, shapes: Mapping[str, tuple[int, ...]], own: ModelConfig
) -> tuple[ModelConfig, dict[str, int]]:
    """The config with the pooling, and the heads, of a model that reads."""
    if family.kind != "encoder-only":
        return own, {}
    architecture = str((config.get("architectures") or [""])[0])
    heads: dict[str, int] = {}
    for name, head in family.heads.items():
        ambiguous = [other.architecture for other in family.heads.values() if other.marker == head.marker]
        chosen = architecture if architecture in ambiguous else ambiguous[0]
        if head.marker in shapes and head.architecture == chosen:
            heads[name] = shapes[head.marker][0]
    pooling = read_json(folder / "1_Pooling" / "config.json")
    if pooling.get("pooling_mode_mean_tokens"):
        return replace(own, pooling="mean", pooler="none"), heads  # type: ignore[arg-type]
    found = [kind for marker, kind in family.poolers.items() if marker in shapes]
    if "label" in heads and family.name != "vit":
        found = [*family.poolers.values()]
    return replace(own, pooler=found[0] if found else "none"), heads  # type: ignore[arg-type]


def _empty(config: ModelConfig, vocab_size: int, heads: Mapping[str, int]) -> Model:
    with torch.device("meta"):
        return make_model(config, vocab_size, heads)


def _shapes_of(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def _check(family: Family, shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The names of weights without use. Raises RunError, and lists those that are missing, extra or wrong."""
    left = [name for name in shapes if name not in wanted]
    unused = [name for name in left if name.endswith((".pooler.dense.weight", ".pooler.dense.bias"))]
    extra = [name for name in left if name not in unused and not name.endswith(family.harmless or ("\0",))]
    missing = [name for name in wanted if name not in shapes]
    wrong = [f"{n} is {shapes[n]} instead of {w}" for n, w in wanted.items() if n in shapes and shapes[n] != w]
    faults = [
        f"{what}: {_some(names)}" for what, names in (("missing", missing), ("extra", extra), ("wrong", wrong)) if names
    ]
    if faults:
        problem = f"its weights are not those that its config.json describes; {'; '.join(faults)}"
        raise RunError(problem, cure=f"only whole checkpoints of {family.architecture} and its kin can be read")
    return unused


def _check_tables(tables: Mapping[str, Tensor], weights: _Weights) -> None:
    """Raises RunError where a table that is computed here holds something else, which would be lost."""
    shapes = weights.shapes()
    for name, table in tables.items():
        if name in shapes and (shapes[name] != table.shape or (weights(name) - table).abs().max() > 1e-2):  # bfloat16's
            raise RunError(f"{name} has not the sines of its positions", cure="only fixed positions can be read")


def _some(names: Iterable[str], most: int = 8) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + f" and {len(listed) - most} more" * (len(listed) > most)


def express(config: ModelConfig, heads: Mapping[str, int], first: str = "") -> tuple[Family, Json, ModelConfig]:
    """The family that can say a config, its config.json, and our config as read from that.

    `first`: the family to take if several can. Raises UsageError, and names what the nearest family cannot say.
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
        tried.append((len(lost), family, theirs, again, lost))
    _, family, theirs, again, lost = min(tried, key=lambda t: (t[1].kind != config.kind, t[0], t[1].name != first))
    if lost:
        problem = f"cannot be expressed in Hugging Face's formats; {family.name} comes nearest, but not {_some(lost)}"
        raise UsageError(
            problem,
            cure="presets small, small-llama, small-megatron, gpt2, llama-135m, bert-base, vit-tiny and the like can",
        )
    return family, theirs, again


def write_checkpoint(
    folder: Path,
    model: Model,
    heads: Mapping[str, int],
    *,
    vocab_size: int,
    dtype: torch.dtype,
    shard: int,
    more: Json,
    first: str = "",
) -> Family:
    """Writes config.json and the weights. Raises UsageError where no family can say the model.

    Args:
        folder: to write into.
        model: the model.
        heads: the labels of each of its heads.
        vocab_size: V.
        dtype: of the weights.
        shard: the most bytes of a file.
        more: further keys of config.json.
        first: the family to take if several can.
    """
    family, config, again = express(model.config, heads, first)
    own = dict(model.named_parameters())
    form = Form(again, dict(heads))
    shapes = _shapes_of(_empty(again, vocab_size, heads))
    bound: Bound = bind(family.rules, form, shapes)

    def tensor(name: str) -> Tensor:  # a bias that we do without is zero
        return own[name].detach().cpu() if name in own else torch.zeros(shapes[name])

    architecture, bare = _architecture(family, heads)
    prefix = family.prefix if bare else ""
    separate = config.pop("separate", False)
    weights = {n.removeprefix(prefix): t.to(dtype) for n, t in given(bound, form, tensor)}
    dtypes = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
    config |= {"architectures": [architecture], "dtype": dtypes[dtype], **more}
    weights |= {name: table.to(dtype) for name, table in family.tables(config).items()}
    for labels in (n for name, n in heads.items() if name in ("label", "tags")):
        config.setdefault("id2label", {str(i): f"LABEL_{i}" for i in range(labels)})
    if vocab_size:
        config["vocab_size"] = vocab_size
    if separate:
        config["tie_word_embeddings"] = False
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", config)
        _save(folder, weights, shard)
    return family


def _architecture(family: Family, heads: Mapping[str, int]) -> tuple[str, bool]:
    """The name of the class, and whether it is the bare model."""
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
    for old in (*folder.glob("model*.safetensors"), folder / _INDEX):
        old.unlink(missing_ok=True)
    names = [f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors" for i in range(len(parts))]
    names = names if len(parts) > 1 else ["model.safetensors"]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    if len(parts) > 1:
        at = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        total = sum(t.nbytes for t in weights.values())
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": at})
