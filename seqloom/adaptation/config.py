"""The ways of adapting a model: what is learned when training starts from another run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from seqloom.limits import Bounded, Bounds, Layers, ShareBelowOne


@dataclass(frozen=True)
class Full:
    """All parameters are learned."""

    kind: ClassVar[str] = "full"


@dataclass(frozen=True)
class LastLayers(Bounded):
    """The last layers of each stack are learned, with final norms, pooling and heads; tables of tokens are not.

    Args:
        layers: how many layers of each stack.
    """

    kind: ClassVar[str] = "last-layers"
    layers: Layers = 1


@dataclass(frozen=True)
class BitFit:
    """Biases are learned (Ben Zaken et al. 2022).

    Args:
        norms: whether the gains of the norms are learned, too.
    """

    kind: ClassVar[str] = "bitfit"
    norms: bool = False


@dataclass(frozen=True)
class LoRA(Bounded):
    """A matrix of low rank is learned for each weight matrix W: a layer computes with W + s B A (Hu et al. 2022).

    Where several matrices are stacked in one weight (queries, keys and values; the gates of an LSTM), each has its own.

    Args:
        rank: r, the rows of A and the columns of B.
        alpha: s is alpha / r, or as `scaling` says.
        scaling: "rank" = alpha / r; "root-rank" = alpha / sqrt(r), for high ranks (Kalajdzievski 2023).
        dropout: the dropout of the features that A reads, drawn once per step for the whole batch.
        targets: patterns of layers: "*.qkv", "encoder.stack.blocks.0.*", "feedforward.expand"; each must match a layer
            at the end of its name. Empty = all weight matrices but tables with a row per token, which a pattern like
            "embedder" ("source" in a translator) adds; a table that is also the head's has one adapter for both.
    """

    kind: ClassVar[str] = "lora"
    rank: Annotated[int, Bounds(1, 10_000)] = 8
    alpha: Annotated[float, Bounds(1e-6, 10**6)] = 16.0
    scaling: Literal["rank", "root-rank"] = "rank"
    dropout: ShareBelowOne = 0.0
    targets: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """s."""
        return self.alpha / (self.rank if self.scaling == "rank" else self.rank**0.5)


AdaptConfig = Full | LastLayers | BitFit | LoRA
