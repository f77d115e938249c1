"""From inputs to one memory: the embedder of each kind, and the memories of several modalities joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from seqloom.errors import ConfigError
from seqloom.nn.embedders import (
    EmbedderConfig,
    FrameConfig,
    FrameEmbedder,
    PatchConfig,
    PatchEmbedder,
    TokenEmbedder,
    small_parameter,
)
from seqloom.nn.linear import Linear
from seqloom.nn.memory import Memory

C = TypeVar("C", bound=Any)


def make_embedder(
    config: EmbedderConfig | PatchConfig | FrameConfig, width: int, vocab_size: int, embedding: int
) -> TokenEmbedder | PatchEmbedder | FrameEmbedder:
    """The embedder a config describes, for a model of width D; see TokenEmbedder for the other two."""
    if isinstance(config, PatchConfig):
        return PatchEmbedder(config, width)
    if isinstance(config, FrameConfig):
        return FrameEmbedder(config, width)
    return TokenEmbedder(vocab_size, width, embedding, config=config)


def sized(config: C, key: str, sizes: Mapping[str, int]) -> C:
    """The config of a model with the sizes of the data where its embedder, under `key`, leaves them open (0).

    Raises ConfigError where it states another size.
    """
    embedder: Any = getattr(config, key)
    left = {name: size for name, size in sizes.items() if hasattr(embedder, name)}
    for name, size in left.items():
        if (stated := getattr(embedder, name)) not in (0, size):
            problem, where = f"is {stated:,}, that of the data {size:,}", f"model.{key}.{name}"
            raise ConfigError(
                problem,
                where=where,
                cure=f"leave it out; or data.{name} = {stated}, where data have this key, brings them to it",
            )
    try:
        changed: Any = {key: replace(embedder, **left)}
        return replace(config, **changed)
    except ValueError as error:
        raise ConfigError(str(error), where=f"model.{key}", cure="choose sizes that fit the data") from None


def check_reads(config: Any, key: str, modality: str) -> None:
    """Raises ValueError for a model whose embedder, under `key`, is for another modality than the data."""
    embedder = getattr(config, key)
    if embedder.modality != modality:
        problem = f"model.{key}.kind = {embedder.kind!r} reads {embedder.modality}s, and the data are {modality}s"
        raise ValueError(f"{problem}: leave out [model.{key}], or the preset that has it")


class Join(nn.Module):
    """The memories of some modalities as one, position after position; its summary is the mean of theirs.

    Args:
        widths: by modality, the features of its memory's states and of its summary; what is not `width` wide is
            projected.
        width: D, of the states and the summary of the joint memory.

    A learned vector for each modality is added to its states.
    """

    def __init__(self, widths: Mapping[str, tuple[int, int]], width: int) -> None:
        super().__init__()

        def projections(part: int) -> nn.ModuleDict:
            sizes = {name: each[part] for name, each in widths.items()}
            same = {name: nn.Identity() for name, size in sizes.items() if size == width}
            return nn.ModuleDict({name: same.get(name) or Linear(size, width) for name, size in sizes.items()})

        self.states, self.summaries = projections(0), projections(1)
        self.kinds = nn.ParameterDict({name: small_parameter(width) for name in widths})

    def forward(self, memories: Mapping[str, Memory]) -> Memory:
        """The joint memory of some of the modalities, at least one."""
        first, *others = [
            Memory(self.states[name](m.states) + self.kinds[name], m.mask, self.summaries[name](m.summary))
            for name, m in memories.items()
        ]
        return first.concat(*others) if others else first
