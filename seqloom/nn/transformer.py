"""The Transformer block and the stack of blocks, for encoders and decoders alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from seqloom.limits import Bounds, HeadCount, Layers, LengthOrZero, Share, ShareBelowOne, Width, WidthOrZero
from seqloom.nn.attention import Cache, CrossAttention, Heads, KeyValues, Scope, SelfAttention, memories_together
from seqloom.nn.dropout import Dropout, keep_mask
from seqloom.nn.feedforward import Activation, FeedForward
from seqloom.nn.masks import causal_mask
from seqloom.nn.memory import Memory
from seqloom.nn.norms import NormKind, RMSNorm, make_norm
from seqloom.nn.observe import Stream, note
from seqloom.nn.positions import Place, PositionConfig, Positions, Rotation, Sinusoidal, places_in
from seqloom.nn.state import StackConfig, State, padding_together, places_after, together
from seqloom.shapes import Bool, Int, Mask, Tensor, Vectors


@dataclass(frozen=True)
class TransformerConfig(StackConfig):
    """A stack of Transformer blocks.

    Args:
        layers: the number of blocks.
        width: D, the features of each position between the blocks.
        inner: F, the inner width of the feed-forward layers.
        heads, kv_heads: query heads; key-value heads (0 = as many; fewer = grouped-query attention, Ainslie et al.
            2023).
        head_width: features of a head; 0 = width / heads.
        window: positions that each one sees to one side, itself included (Beltagy et al. 2020); 0 = all.
        qk_norm: whether an RMSNorm normalizes each head's queries and keys (Henry et al. 2020).
        norm: LayerNorm or RMSNorm.
        eps: the epsilon of the norms; 0 = 1e-5 for LayerNorm, 1e-6 for RMSNorm.
        embedding_norm: whether a norm follows the embeddings with their positions (BERT: Devlin et al. 2019).
        norm_position: before each sublayer (and once at the end), or after each residual (Vaswani et al. 2017).
        activation: the activation of the feed-forward layers; swiglu and geglu are gated (Shazeer 2020).
        positions: how the positions of tokens are represented.
        bias, qkv_bias: whether linear layers have biases; the same for the query, key and value layers ("as-bias" = as
            all others).
        dropout: the dropout of the embeddings and of each sublayer's output.
        attention_dropout, activation_dropout: the dropout of the attention weights; inside the feed-forward layers.
        drop_path: the share of the examples for which a sublayer of the last block is left out; it rises evenly from
            block to block (stochastic depth: Huang et al. 2016).
    """

    kind: ClassVar[str] = "transformer"
    layers: Layers = 3
    width: Width = 256
    inner: Annotated[int, Bounds(1, 10**6)] = 1024
    heads: HeadCount = 4
    kv_heads: Annotated[int, Bounds(0, 10_000)] = 0
    head_width: WidthOrZero = 0
    window: LengthOrZero = 0
    qk_norm: bool = False
    norm: NormKind = "layer"
    eps: Share = 0.0
    embedding_norm: bool = False
    norm_position: Literal["before", "after"] = "before"
    activation: Activation = "relu"
    positions: PositionConfig = field(default_factory=Sinusoidal)
    bias: bool = True
    qkv_bias: Literal["as-bias", "yes", "no"] = "as-bias"
    dropout: ShareBelowOne = 0.1
    attention_dropout: ShareBelowOne = 0.0
    activation_dropout: ShareBelowOne = 0.0
    drop_path: ShareBelowOne = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads and not self.head_width:
            raise ValueError(f"width {self.width} cannot be split into {self.heads} heads")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")
        if self.positions.kind == "rotary" and self.sizes.features % 2:
            raise ValueError("rotary positions need an even number of features per head")

    @property
    def sizes(self) -> Heads:
        """The sizes of its attention layers."""
        kv_heads, features = self.kv_heads or self.heads, self.head_width or self.width // self.heads
        qkv_bias = self.bias if self.qkv_bias == "as-bias" else self.qkv_bias == "yes"
        return Heads(self.width, self.heads, kv_heads, features, self.bias, qkv_bias, self.attention_dropout)

    def make_norm(self) -> nn.Module:
        """A norm of the config's kind and width."""
        return make_norm(self.norm, self.width, self.eps)


@dataclass(frozen=True)
class TransformerState(State):
    """What a Transformer decoder carries from step to step.

    Args:
        caches: each block's keys and values of the decoded positions, R rows.
        memory: each block's keys and values of the memory, B rows; R is a multiple of B, consecutive rows share one.
        memory_mask: True on the real positions of the memory.
        padding: the number of padding positions at the start of each row; None = no padding.
        documents: the document of each position now read; none sees another document. None = one document per row.
    """

    keeps_positions: ClassVar[bool] = True
    of_rows: ClassVar[tuple[str, ...]] = ("caches", "padding")
    of_sentences: ClassVar[tuple[str, ...]] = ("memory", "memory_mask")

    caches: tuple[Cache, ...]
    memory: tuple[KeyValues, ...] = ()
    memory_mask: Bool[Tensor, "B S"] | None = None
    padding: Int[Tensor, " R"] | None = None
    documents: Int[Tensor, "R T"] | None = None

    def back(self, positions: int) -> TransformerState:
        """The state `positions` steps earlier."""
        length = self.length - positions
        return replace(self, length=length, caches=tuple(cache.cut(length) for cache in self.caches))

    def padded(self, padding: Int[Tensor, " R"] | None) -> TransformerState:
        """The state that ignores the first `padding` positions of each row; None = no padding."""
        return replace(self, padding=padding)

    def apart(self, documents: Int[Tensor, "R T"] | None) -> TransformerState:
        """The state whose next positions see only their own document."""
        return replace(self, documents=documents)

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> TransformerState:
        """See State; positions at which no row has anything are left out."""
        state: Any = super().select(rows, sentences)
        selected: TransformerState = state if rows is None else state._trimmed()
        return selected

    def joined(self, *others: Any) -> TransformerState:
        """See State: the last positions of all rows come together, and padding stands before shorter ones."""
        parts = [part._trimmed() for part in (self, *others)]
        length = max(part.length for part in parts)
        memory, mask = self.memory, self.memory_mask
        if memory:
            memory, mask = memories_together([(part.memory, part.memory_mask) for part in parts])
        caches: Any = together([part.caches for part in parts])
        padding = padding_together(parts, [part.caches[0].keys for part in parts])
        return TransformerState(length, caches, memory, mask, padding)

    def _trimmed(self) -> TransformerState:
        if self.padding is None or not (least := int(self.padding.min())):
            return self
        caches, padding = tuple(cache.without_first(least) for cache in self.caches), self.padding - least
        return replace(self, length=self.length - least, caches=caches, padding=padding)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if there is a memory, and feed-forward, each with residual, norm and dropout.

    Args:
        config: of the stack.
        memory_width: features of a state of the memory; None = there is none.
        drop_path: the share of the examples for which a sublayer is left out while training.
    """

    def __init__(self, config: TransformerConfig, memory_width: int | None, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.before = config.norm_position == "before"
        features, eps = config.sizes.features, config.eps or 1e-6
        norms = (RMSNorm(features, eps), RMSNorm(features, eps)) if config.qk_norm else None
        self.attention = SelfAttention(config.sizes, norms)
        self.attention_norm = config.make_norm()
        self.cross: CrossAttention | None = None
        if memory_width is not None:
            self.cross = CrossAttention(config.sizes, memory_width)
            self.cross_norm = config.make_norm()
        self.feedforward = FeedForward(
            config.width, config.inner, config.activation, config.bias, config.activation_dropout
        )
        self.feedforward_norm = config.make_norm()
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Vectors,
        scope: Scope,
        rotation: Rotation | None = None,
        cache: Cache | None = None,
        memory: tuple[KeyValues, Scope] | None = None,
    ) -> Vectors:
        """One block; `cache` and `memory` are this block's own."""
        h = self.attention_norm(x) if self.before else x
        x = self._join(x, self.attention(h, scope, rotation, cache), self.attention_norm)
        if self.cross is not None and memory is not None:
            h = self.cross_norm(x) if self.before else x
            x = self._join(x, self.cross(h, *memory), self.cross_norm)
        h = self.feedforward_norm(x) if self.before else x
        return self._join(x, self.feedforward(h), self.feedforward_norm)

    def _join(self, residual: Tensor, h: Tensor, norm: nn.Module) -> Tensor:
        if self.training and self.drop_path > 0:
            h = h * keep_mask(h.new_empty(len(h), 1, 1), self.drop_path)
        total = self.dropout.add(residual, h)
        return total if self.before else norm(total)


class TransformerStack(nn.Module):
    """Positions, blocks and the final norm."""

    def __init__(self, config: TransformerConfig, *, causal: bool, memory_width: int | None = None) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.positions = Positions(config.positions, config.width, config.heads, config.sizes.features, causal=causal)
        self.embedding_norm: nn.Module = config.make_norm() if config.embedding_norm else nn.Identity()
        shares = [config.drop_path * (i + 1) / config.layers for i in range(config.layers)]
        self.blocks = nn.ModuleList(TransformerBlock(config, memory_width, share) for share in shares)
        self.norm: nn.Module = config.make_norm() if config.norm_position == "before" else nn.Identity()
        self.dropout = Dropout(config.dropout)

    def start(self, memory: Memory | None, *, keep: bool) -> TransformerState:
        """The state before the first position. `keep`: whether later steps need the keys and values of this one."""
        caches = tuple(Cache() for _ in self.blocks) if keep else ()
        if memory is None:
            return TransformerState(0, caches)
        read = tuple(block.cross.read(memory.states) for block in self._blocks() if block.cross is not None)
        return TransformerState(0, caches, read, memory.mask)

    def forward(self, x: Vectors, mask: Mask | None, state: TransformerState | None = None) -> Vectors:
        """Runs the stack over T positions that follow those of `state`, and adds them to its caches.

        `mask` is True on the real positions of `x`; a causal stack needs none where padding is on the right.
        """
        start = 0 if state is None else state.length
        place: Place = self.positions(start, x, None if state is None else _places(state, x))
        if place.added is not None:
            x = x + place.added
        x = self.dropout(self.embedding_norm(x))
        scope = self._scope(x, start, mask, state, place.bias)
        note(self, Stream, x)
        across = Scope(None if state is None or state.memory_mask is None else state.memory_mask[:, None, None, :])
        for i, block in enumerate(self._blocks()):
            cache = state.caches[i] if state is not None and state.caches else None
            memory = (state.memory[i], across) if state is not None and state.memory else None
            x = block(x, scope, place.rotation, cache, memory)
            note(block, Stream, x)
        return self.norm(x)  # type: ignore[no-any-return]

    def _scope(
        self, x: Tensor, start: int, mask: Tensor | None, state: TransformerState | None, bias: Tensor | None
    ) -> Scope:
        T, window = x.shape[1], self.config.window
        masks = [] if mask is None else [mask[:, None, None, :]]
        if self.causal and (T > 1 or 0 < window < start + T):
            masks.append(causal_mask(T, start + T, x.device, window))
        elif window and not self.causal:
            masks.append(causal_mask(T, T, x.device, window) | causal_mask(T, T, x.device, window).t())
        if state is not None and state.padding is not None:
            keys = torch.arange(start + T, device=x.device)
            masks.append((keys >= state.padding[:, None])[:, None, None, :])
        if state is not None and state.documents is not None:
            masks.append((state.documents[:, :, None] == state.documents[:, None, :])[:, None])
        visible = reduce(torch.logical_and, masks) if masks else None
        causal = self.causal and T > 1 and len(masks) == 1 and not (start or window)
        return Scope(visible, bias, causal)

    def _blocks(self) -> list[TransformerBlock]:
        return [block for block in self.blocks if isinstance(block, TransformerBlock)]


def _places(state: TransformerState, x: Tensor) -> Int[Tensor, "R T"] | None:
    """The position of each token in its document, where not all rows start at position 0."""
    if state.documents is not None:
        return places_in(state.documents, state.length)
    return places_after(state, x.shape[1])
