"""The Transformer block, and the stack of them: one code for encoders and decoders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from seqloom.nn.attention import Cache, CrossAttention, Heads, KeyValues, Scope, SelfAttention
from seqloom.nn.dropout import Dropout
from seqloom.nn.feedforward import Activation, FeedForward
from seqloom.nn.masks import causal_mask
from seqloom.nn.memory import Memory
from seqloom.nn.norms import NormKind, make_norm
from seqloom.nn.positions import Place, PositionConfig, Positions, Sinusoidal
from seqloom.nn.stack_config import StackConfig
from seqloom.shapes import Bool, Float, Tensor


@dataclass(frozen=True)
class TransformerConfig(StackConfig):
    """A stack of Transformer blocks.

    Args:
        layers: how many blocks.
        width: D, features of each position between the blocks.
        inner: D of the feed-forward layer inside.
        heads, kv_heads: query heads; key-value heads (0 = as many), fewer is grouped-query attention (Ainslie 2023).
        norm: LayerNorm or RMSNorm.
        norm_position: before each sublayer (and once at the end), or after each residual (Vaswani et al. 2017).
        positions: how a block knows where each token stands.
        bias: whether the linear layers have biases.
        dropout: on the embeddings and on each sublayer's output.
        attention_dropout, activation_dropout: on the attention weights; inside the feed-forward layer.
    """

    kind: ClassVar[str] = "transformer"
    layers: int = 3
    width: int = 256
    inner: int = 1024
    heads: int = 4
    kv_heads: int = 0
    norm: NormKind = "layer"
    norm_position: Literal["before", "after"] = "before"
    activation: Activation = "relu"
    positions: PositionConfig = field(default_factory=Sinusoidal)
    bias: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0

    def __post_init__(self) -> None:
        self.require(("layers", "width", "inner", "heads"), ("dropout", "attention_dropout", "activation_dropout"))
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be split into {self.heads} heads")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")
        if self.positions.kind == "rotary" and self.width // self.heads % 2:
            raise ValueError("rotary positions need an even number of features per head (width / heads)")

    @property
    def sizes(self) -> Heads:
        """The sizes of its attention layers."""
        return Heads(self.width, self.heads, self.kv_heads or self.heads, self.bias, self.attention_dropout)


@dataclass(frozen=True)
class TransformerState:
    """What a Transformer decoder carries from step to step.

    Args:
        length: the positions decoded so far.
        own: each block's keys and values of those positions, R rows.
        memory: each block's keys and values of the memory, B rows; R is a multiple of B, consecutive rows share one.
        memory_mask: True on the real positions of the memory.
    """

    length: int
    own: tuple[Cache, ...]
    memory: tuple[KeyValues, ...] = ()
    memory_mask: Bool[Tensor, "B S"] | None = None

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> TransformerState:
        """The state of the given rows; `sentences` = the rows of the memory they belong to, None = all as before."""
        own = tuple(cache.fork(rows) for cache in self.own)
        if sentences is None:
            return TransformerState(self.length, own, self.memory, self.memory_mask)
        mask = None if self.memory_mask is None else self.memory_mask[sentences]
        return TransformerState(self.length, own, tuple(kv.select(sentences) for kv in self.memory), mask)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if there is a memory, feed-forward; each with residual, norm and dropout."""

    def __init__(self, config: TransformerConfig, memory_width: int | None) -> None:
        super().__init__()
        self.before = config.norm_position == "before"
        self.attention = SelfAttention(config.sizes)
        self.attention_norm = make_norm(config.norm, config.width)
        self.cross: CrossAttention | None = None
        if memory_width is not None:
            self.cross = CrossAttention(config.sizes, memory_width)
            self.cross_norm = make_norm(config.norm, config.width)
        self.feedforward = FeedForward(
            config.width, config.inner, config.activation, config.bias, config.activation_dropout
        )
        self.feedforward_norm = make_norm(config.norm, config.width)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "R T D"],
        scope: Scope,
        rotation: tuple[Tensor, Tensor] | None = None,
        cache: Cache | None = None,
        memory: tuple[KeyValues, Scope] | None = None,
    ) -> Float[Tensor, "R T D"]:
        """One block; `cache` and `memory` are this block's own."""
        h = self.attention_norm(x) if self.before else x
        x = self._join(x, self.attention(h, scope, rotation, cache), self.attention_norm)
        if self.cross is not None and memory is not None:
            h = self.cross_norm(x) if self.before else x
            x = self._join(x, self.cross(h, *memory), self.cross_norm)
        h = self.feedforward_norm(x) if self.before else x
        return self._join(x, self.feedforward(h), self.feedforward_norm)

    def _join(self, residual: Tensor, h: Tensor, norm: nn.Module) -> Tensor:
        total = self.dropout.add(residual, h)
        return total if self.before else norm(total)


class TransformerStack(nn.Module):
    """Positions, blocks and the norm at the end."""

    def __init__(self, config: TransformerConfig, *, causal: bool, memory_width: int | None = None) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.positions = Positions(config.positions, config.width, config.heads, causal=causal)
        self.blocks = nn.ModuleList(TransformerBlock(config, memory_width) for _ in range(config.layers))
        before = config.norm_position == "before"
        self.norm: nn.Module = make_norm(config.norm, config.width) if before else nn.Identity()
        self.dropout = Dropout(config.dropout)

    def read(self, memory: Memory) -> tuple[KeyValues, ...]:
        """Each block's keys and values of the memory."""
        return tuple(block.cross.read(memory.states) for block in self._blocks() if block.cross is not None)

    def forward(
        self, x: Float[Tensor, "R T D"], mask: Bool[Tensor, "R T"] | None, state: TransformerState | None = None
    ) -> Float[Tensor, "R T D"]:
        """The whole stack over T positions that follow those of `state`; its caches take them in.

        `mask` is True on the real positions of `x`; a causal stack needs none where padding is on the right.
        """
        start = 0 if state is None else state.length
        place: Place = self.positions(start, x)
        if place.added is not None:
            x = x + place.added
        x = self.dropout(x)
        visible = None if mask is None else mask[:, None, None, :]
        T = x.shape[1]
        if self.causal and T > 1:
            past = causal_mask(T, start + T, x.device)
            visible = past if visible is None else visible & past
        scope = Scope(visible, place.bias)
        across = Scope(None if state is None or state.memory_mask is None else state.memory_mask[:, None, None, :])
        for i, block in enumerate(self._blocks()):
            cache = state.own[i] if state is not None and state.own else None
            memory = (state.memory[i], across) if state is not None and state.memory else None
            x = block(x, scope, place.rotation, cache, memory)
        out: Tensor = self.norm(x)
        return out

    def _blocks(self) -> list[TransformerBlock]:
        return [block for block in self.blocks if isinstance(block, TransformerBlock)]


def empty_state(stack: TransformerStack, memory: Memory | None, *, keep: bool) -> TransformerState:
    """The state before the first position; `keep` = whether there will be further steps."""
    own = tuple(Cache() for _ in stack.blocks) if keep else ()
    if memory is None:
        return TransformerState(0, own)
    return TransformerState(0, own, stack.read(memory), memory.mask)


def advance(state: TransformerState, positions: int) -> TransformerState:
    """The state after `positions` more."""
    return TransformerState(state.length + positions, state.own, state.memory, state.memory_mask)


__all__ = [
    "TransformerBlock",
    "TransformerConfig",
    "TransformerStack",
    "TransformerState",
    "advance",
    "empty_state",
]
