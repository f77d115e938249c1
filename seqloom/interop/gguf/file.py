"""llama.cpp's format GGUF, read: its metadata, and its tensors under the names that Hugging Face's Llama has."""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqloom.errors import RunError, optional

GGUF = "model.gguf"
"""The name of the file in a directory that has a GGUF file instead of safetensors."""
MAGIC = b"GGUF"
ROPE = "rope_freqs.weight"
"""The tensor with the factor by which each wavelength of the positions is lengthened (Llama 3.1)."""
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
"""The types of tensors that are read."""
PERMUTED = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
"""The weights whose rows the architecture llama has in another order, and the numbers of their heads."""
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES, _MOST_DIMENSIONS = 1 << 17, 4
_LAYERS = {
    "attn_norm": "input_layernorm",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn_output": "self_attn.o_proj",
    **{f"attn_{part}_norm": f"self_attn.{part}_norm" for part in "qk"},
    "ffn_norm": "post_attention_layernorm",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}
NAMES = {f"blk.{{}}.{theirs}": f"model.layers.{{}}.{ours}" for theirs, ours in _LAYERS.items()}
NAMES |= {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""The names of tensors, without their ends, and those in Hugging Face's Llama; {} stands for the index of a block."""


def library() -> Any:
    """The package gguf. Raises MissingExtra."""
    return optional("gguf", "GGUF", "gguf")


def renamed(name: str, names: Mapping[str, str]) -> str:
    """The name of a tensor by a table like `NAMES`, or its inverse; an unknown name stays."""
    stem, _, end = name.rpartition(".")
    blocks = re.findall(r"\.(\d+)\.", stem)
    new = names.get(re.sub(r"\.\d+\.", ".{}.", stem))
    return name if new is None else f"{new.format(*blocks)}.{end}"


def permuted(weight: Tensor, heads: int, *, back: bool = False) -> Tensor:
    """The rows of queries or keys as llama.cpp rotates them: neighbours instead of halves of a head; or `back`."""
    shape = (heads, -1, 2) if back else (heads, 2, weight.shape[0] // heads // 2)
    return weight.reshape(*shape, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies: its type, its shape, and its first byte."""

    kind: str
    shape: tuple[int, ...]
    offset: int

    def get_shape(self) -> tuple[int, ...]:
        return self.shape


class GGUFFile:
    """A GGUF file, with the methods of an open safetensors file. Raises RunError for one that is malformed."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            empty = not path.stat().st_size
            self._data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        if (magic := self._take(4)) != MAGIC:
            raise RunError(f"is not a GGUF file: it begins with {magic!r}")
        if (version := self._number("I")) not in (2, 3):
            raise RunError(f"is GGUF of the version {version}, not 2 or 3", cure="convert it again with llama.cpp")
        counts = self._number("Q"), self._number("Q")
        if max(counts) > _MOST_ENTRIES:
            raise RunError(f"declares {counts[0]:,} tensors and {counts[1]:,} fields: it is damaged")
        self.metadata: dict[str, Any] = {}
        for _ in range(counts[1]):
            key = self._text()
            self.metadata[key] = self._value(self._number("I"))
        self.entries: dict[str, _Entry] = {}
        """The tensors by name, not read yet."""
        self._read_entries(counts[0])

    def keys(self) -> Iterable[str]:
        """The names of the tensors that are weights."""
        return self.entries.keys() - {ROPE}

    def get_slice(self, name: str) -> _Entry:
        """A tensor, not read yet."""
        return self.entries[name]

    def get_tensor(self, name: str) -> Tensor:
        """A tensor in float32, with the rows of queries and keys in Hugging Face's order."""
        gguf, entry = library(), self.entries[name]
        kind = gguf.GGMLQuantizationType[entry.kind]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        shape = (*entry.shape[:-1], entry.shape[-1] // block * size)
        data = np.frombuffer(self._data, np.uint8, math.prod(shape), entry.offset).reshape(shape)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(data, kind)
        tensor = torch.from_numpy(np.require(values, np.float32, "W"))
        heads = PERMUTED.get(name.split(".")[-2])
        if heads is None or self.metadata["general.architecture"] != "llama":
            return tensor
        count = self.metadata["llama.attention.head_count"]
        if heads == "num_key_value_heads":
            count = self.metadata.get("llama.attention.head_count_kv", count)
        return permuted(tensor, count, back=True)

    def _read_entries(self, count: int) -> None:
        """The types, shapes and places of the tensors, all of which must lie in the file."""
        gguf, entries = library(), []
        names = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
        for _ in range(count):
            name, dimensions = self._text(), self._number("I")
            if dimensions > _MOST_DIMENSIONS:
                raise RunError(f"{name} has {dimensions:,} dimensions: the file is damaged")
            shape = tuple(reversed(struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions))))
            number = self._number("I")
            if (kind := names.get(number, str(number))) not in TYPES:
                raise RunError(f"{name} is of the type {kind}", cure=f"supported: {', '.join(TYPES)}")
            entries.append((renamed(name, NAMES), kind, shape, self._number("Q")))
        align = self.metadata.get("general.alignment", 32)
        if not isinstance(align, int) or align < 1:
            raise RunError(f"general.alignment = {align!r} is not supported")
        start = -(-self._at // align) * align
        for name, kind, shape, offset in entries:
            block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
            if not shape or shape[-1] % block or name in self.entries:
                raise RunError(f"{name} is twice there, or no tensor of the type {kind}: {shape}")
            self._at = start + offset
            self._skip(math.prod(shape) // block * size)
            self.entries[name] = _Entry(kind, shape, start + offset)

    def _take(self, count: int) -> bytes:
        """The next bytes."""
        self._skip(count)
        return self._data[self._at - count : self._at]

    def _skip(self, count: int) -> None:
        if self._at + count > len(self._data):
            raise RunError("is cut off, or damaged", cure="download or copy it again")
        self._at += count

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]

    def _text(self) -> str:
        return self._take(self._number("Q")).decode()

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._number(_code(kind))
        kind, count = self._number("I"), self._number("Q")
        if kind != _STRING:
            code = _code(kind)
            return list(struct.unpack(f"<{count}{code}", self._take(count * struct.calcsize(f"<{code}"))))
        self._skip(8 * count)  # they are at least as long as this
        self._at -= 8 * count
        return [self._text() for _ in range(count)]


def _code(kind: int) -> str:
    """The type of a number, as `struct` names it."""
    if kind not in _SCALARS:
        raise RunError(f"has a field of the unknown type {kind}: it is damaged")
    return _SCALARS[kind]
