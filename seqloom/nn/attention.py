"""Scaled dot-product multi-head attention, with the weights and their application as two separate steps.

    weights = softmax(Q K^T / sqrt(C) + bias)        (Vaswani et al. 2017, eq. 1)
    output  = weights V

`attend` computes the two steps as plain products or by torch's fused kernel, whichever is faster for the shape, type
and device. An observer is given what the weights can be computed from (`Attended`), and the output takes its usual
path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import Linear
from seqloom.nn.masks import additive
from seqloom.nn.observe import note
from seqloom.nn.positions import Rotation, rotate
from seqloom.shapes import Bool, Float, Tensor, Vectors

Queries = Float[Tensor, "B H T C"]


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of S positions, for each key-value head."""

    keys: Float[Tensor, "B G S C"]
    values: Float[Tensor, "B G S M"]

    def select(self, rows: Tensor) -> KeyValues:
        """The keys and values of the given rows, in their order."""
        return KeyValues(self.keys.index_select(0, rows), self.values.index_select(0, rows))

    def first(self, positions: int) -> KeyValues:
        """Those of the first positions."""
        return KeyValues(self.keys[:, :, :positions], self.values[:, :, :positions])


MemoryPart = tuple[Sequence[KeyValues], Bool[Tensor, "_ _"] | None]
"""The keys and values of a memory for several layers, and the mask of its real positions."""


def memories_together(parts: Sequence[MemoryPart]) -> tuple[tuple[KeyValues, ...], Bool[Tensor, "_ _"] | None]:
    """The rows of several memories, as wide as the longest text among them."""
    shapes = [kvs[0].keys.shape for kvs, _ in parts]
    plain = all(mask is None for _, mask in parts) and len({shape[2] for shape in shapes}) == 1
    masks, trimmed = [], []
    for (kvs, mask), (B, _, S, _) in zip(parts, shapes, strict=True):
        if mask is None:
            mask = torch.ones(B, S, dtype=torch.bool, device=kvs[0].keys.device)
        real = S if plain else int(mask.any(0).nonzero().max()) + 1
        masks.append(mask[:, :real])
        trimmed.append([kv.first(real) for kv in kvs])
    width = max(mask.shape[1] for mask in masks)

    def rows(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(t, (0, 0, 0, width - t.shape[2])) for t in tensors])

    layers = [
        KeyValues(rows([kv.keys for kv in kvs]), rows([kv.values for kv in kvs])) for kvs in zip(*trimmed, strict=True)
    ]
    mask = None if plain else torch.cat([F.pad(mask, (0, width - mask.shape[1])) for mask in masks])
    return tuple(layers), mask


@dataclass(frozen=True)
class Scope:
    """The keys each query may attend to (mask None = all of them), and a bias on the scores (None = no bias).

    `causal` means that the mask only hides later keys, which fused kernels can do without a mask.
    """

    mask: Bool[Tensor, ...] | None = None
    bias: Float[Tensor, "H T S"] | None = None
    causal: bool = False
    _hidden: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def hidden(self, dtype: torch.dtype) -> Float[Tensor, ...]:
        """What the mask, if there is one, adds to scores; the layers of a stack share it."""
        assert self.mask is not None
        if dtype not in self._hidden:
            self._hidden[dtype] = additive(self.mask, dtype)
        return self._hidden[dtype]


def attention_weights(q: Queries, k: Float[Tensor, "B G S C"], scope: Scope) -> Float[Tensor, "B H T S"]:
    """softmax over the keys of q k^T / sqrt(C) + bias; 0 where the mask is False. G divides H."""
    B, H, T, C = q.shape
    G, S = k.shape[1], k.shape[2]
    # The query heads that share a key head become additional queries of it.
    scores = torch.matmul(q.reshape(B, G, H // G * T, C), k.transpose(-1, -2)).mul_(C**-0.5).view(B, H, T, S)
    if scope.bias is not None:
        scores = scores + scope.bias
    if scope.mask is not None:
        scores = scores + scope.hidden(scores.dtype)
    return scores.softmax(-1)


def folded(x: Float[Tensor, "R H T C"], B: int) -> Float[Tensor, "B H T2 C"]:
    """Turns consecutive rows that share one of B memories (the hypotheses of a sentence) into more queries of it."""
    R, H, T, C = x.shape
    return x if R == B else x.view(B, R // B, H, T, C).transpose(1, 2).reshape(B, H, R // B * T, C)


def unfolded(x: Float[Tensor, "B H T2 C"], R: int) -> Float[Tensor, "R H T C"]:
    """The inverse of `folded`: R rows again."""
    B, H, T, C = x.shape
    return x if R == B else x.view(B, H, R // B, T * B // R, C).transpose(1, 2).reshape(R, H, T * B // R, C)


def apply_weights(weights: Float[Tensor, "B H T S"], v: Float[Tensor, "B G S C"]) -> Float[Tensor, "B H T C"]:
    """The mean of the values, weighted by each query's weights."""
    B, H, T, S = weights.shape
    G, C = v.shape[1], v.shape[3]
    return torch.matmul(weights.reshape(B, G, H // G * T, S), v).view(B, H, T, C)


@dataclass(frozen=True)
class Attended:
    """What a layer attended with, from which its weights are computed when they are asked for.

    Args:
        rows: R; consecutive ones share one of the B rows of the keys, and are further queries of it.
        queries, keys: after norms and positions.
        values: what is mixed.
        scope: of the queries.
        found: the weights, of a layer that has no way around them; None = they follow from the rest.
    """

    rows: int
    queries: Queries
    keys: Float[Tensor, "B G S _"]
    values: Float[Tensor, "B G S _"]
    scope: Scope = Scope()
    found: Float[Tensor, "B H T S"] | None = None

    @torch.no_grad()
    def weights(self, head: int | None = None) -> Float[Tensor, "R H T S"]:
        """The weights of one head, or of all, before dropout; at least in float32."""
        exact = torch.promote_types(self.queries.dtype, torch.float32)
        one = slice(None) if head is None else slice(head, head + 1)
        if self.found is not None:
            return unfolded(self.found[:, one].to(exact), self.rows)
        q, k, bias = self.queries[:, one], self.keys, self.scope.bias
        if head is not None:
            group = head // (self.queries.shape[1] // k.shape[1])
            k = k[:, group : group + 1]
        scope = Scope(self.scope.mask, None if bias is None else bias[one].to(exact))
        return unfolded(attention_weights(q.to(exact), k.to(exact), scope), self.rows)


def fused_is_faster(q: Tensor, k: Tensor, dropped: bool) -> bool:
    """Whether torch's fused kernel beats plain products here (docs/benchmarks.md, "Attention paths").

    On a GPU it always does. On a CPU it does in float32 for the one query of a step of decoding, and from about 512
    keys on, unless weights are dropped. In bfloat16 it is slower for all but one query, for which it would round
    otherwise than where the same text is read at once. Weights of more than 1 GB are never held in memory as a whole.
    """
    if not q.is_cpu:
        return True
    B, H, T, _ = q.shape
    keys = k.shape[2]
    exact = q.dtype == torch.float32 and not dropped
    one = T == 1 and not torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
    return B * H * T * keys * q.element_size() > 1 << 30 or (exact and (one or keys >= 512))


def attend(q: Queries, kv: KeyValues, scope: Scope, dropout: Dropout | None = None) -> Queries:
    """softmax(q k^T / sqrt(C) + bias) v, by the fastest path."""
    p = dropout.p if dropout is not None and dropout.training else 0.0
    if not fused_is_faster(q, kv.keys, p > 0):
        weights = attention_weights(q, kv.keys, scope)
        return apply_weights(weights if dropout is None else dropout(weights), kv.values)
    bias = None if scope.bias is None else scope.bias.to(q.dtype)
    causal = scope.causal and bias is None
    if scope.mask is not None and not causal:
        bias = scope.hidden(q.dtype) if bias is None else bias + scope.hidden(q.dtype)
    grouped = q.shape[1] != kv.keys.shape[1]
    return F.scaled_dot_product_attention(q, kv.keys, kv.values, bias, p, causal, enable_gqa=grouped)


@dataclass(frozen=True)
class Heads:
    """The sizes of an attention layer: H query heads of C features, G key-value heads."""

    width: int
    heads: int
    kv_heads: int
    features: int
    bias: bool
    qkv_bias: bool
    dropout: float


class _Attention(nn.Module):
    def __init__(self, sizes: Heads) -> None:
        super().__init__()
        self.sizes = sizes
        self.dropout = Dropout(sizes.dropout)
        self.output = Linear(sizes.heads * sizes.features, sizes.width, bias=sizes.bias)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:2], heads, self.sizes.features).transpose(1, 2)  # B T (H C) -> B H T C

    def _finish(self, q: Tensor, kv: KeyValues, scope: Scope) -> Tensor:
        R, H, T, C = q.shape
        q = folded(q, kv.keys.shape[0])
        note(self, Attended, R, q, kv.keys, kv.values, scope)
        mixed = unfolded(attend(q, kv, scope, self.dropout), R)
        output: Tensor = self.output(mixed.transpose(1, 2).reshape(R, T, H * C))
        return output


class SelfAttention(_Attention):
    """Attention whose queries, keys and values all come from the same sequence.

    Args:
        sizes: the sizes of the layer.
        norms: the norms of each head's queries and keys; None = no norms.
    """

    def __init__(self, sizes: Heads, norms: tuple[nn.Module, nn.Module] | None = None) -> None:
        super().__init__(sizes)
        rows = tuple(n * sizes.features for n in (sizes.heads, sizes.kv_heads, sizes.kv_heads))
        self.qkv = Linear(sizes.width, rows, bias=sizes.qkv_bias)
        self.normed = norms is not None
        self.query_norm, self.key_norm = norms or (nn.Identity(), nn.Identity())

    def forward(
        self, x: Vectors, scope: Scope, rotation: Rotation | None = None, cache: Cache | None = None
    ) -> Vectors:
        """Attends over `x` and the earlier positions in `cache`; adds `x` to the cache."""
        H, G = self.sizes.heads, self.sizes.kv_heads
        q, k, v = torch.split_with_sizes(self._split(self.qkv(x), H + 2 * G), (H, G, G), 1)
        if self.normed:
            q, k = self.query_norm(q), self.key_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        kv = KeyValues(k, v) if cache is None else cache.append(k, v)
        return self._finish(q, kv, scope)


class CrossAttention(_Attention):
    """Attention with queries from one sequence and keys and values from another."""

    def __init__(self, sizes: Heads, memory_width: int) -> None:
        super().__init__(sizes)
        self.query = Linear(sizes.width, sizes.heads * sizes.features, bias=sizes.qkv_bias)
        self.key_value = Linear(memory_width, (sizes.kv_heads * sizes.features,) * 2, bias=sizes.qkv_bias)

    def read(self, states: Float[Tensor, "B S M"]) -> KeyValues:
        """The keys and values of a memory, computed once for all decoding steps."""
        k, v = self.key_value(states).chunk(2, dim=-1)
        return KeyValues(self._split(k, self.sizes.kv_heads), self._split(v, self.sizes.kv_heads))

    def forward(self, x: Float[Tensor, "R T D"], kv: KeyValues, scope: Scope) -> Float[Tensor, "R T D"]:
        """Attends over `kv`; consecutive rows of `x` may share one row of it."""
        return self._finish(self._split(self.query(x), self.sizes.heads), kv, scope)


class Cache:
    """Keys and values of the positions so far, in a buffer with room for more, so that a step copies nothing.

    Everyone who holds the cache shares the buffer: append to it once, then use what `fork` returned.
    """

    def __init__(self, buffer: Float[Tensor, "2 B G S C"] | None = None, length: int = 0) -> None:
        self._buffer, self.length = buffer, length

    def append(self, k: Float[Tensor, "B G T C"], v: Float[Tensor, "B G T C"]) -> KeyValues:
        """Adds T positions; returns all positions so far."""
        B, G, T, C = k.shape
        start, end = self.length, self.length + T
        if self._buffer is None or self._buffer.shape[3] < end:
            old, self._buffer = self._buffer, k.new_empty(2, B, G, max(32, 2 * end), C)
            if old is not None:
                self._buffer[..., :start, :] = old[..., :start, :]
        self._buffer[0, :, :, start:end], self._buffer[1, :, :, start:end] = k, v
        self.length = end
        return KeyValues(self._buffer[0, :, :, :end], self._buffer[1, :, :, :end])

    @property
    def keys(self) -> Float[Tensor, "B G S C"]:
        """The keys, with the room for more, once something has been added."""
        assert self._buffer is not None
        return self._buffer[0]

    def joined(self, *others: Cache) -> Cache:
        """A cache of the rows of this one and of others, whose last positions come together; zeros fill the rest."""
        parts = [(cache._buffer, cache.length) for cache in (self, *others) if cache._buffer is not None]
        length = max(n for _, n in parts)
        shapes = [buffer.shape for buffer, _ in parts]
        _, _, G, _, C = shapes[0]
        fresh = parts[0][0].new_empty(2, sum(shape[1] for shape in shapes), G, max(32, 3 * length // 2), C)
        row = 0
        for buffer, n in parts:
            into = fresh[:, row : row + buffer.shape[1]]
            into[..., : length - n, :] = 0
            into[..., length - n : length, :] = buffer[..., :n, :]
            row += len(into[0])
        return Cache(fresh, length)

    def without_first(self, positions: int) -> Cache:
        """A cache without the first positions."""
        return Cache(None if self._buffer is None else self._buffer[..., positions:, :], self.length - positions)

    def cut(self, length: int) -> Cache:
        """A cache of the first `length` positions; the later ones are lost."""
        return Cache(self._buffer, length)

    def fork(self, rows: Tensor | None = None) -> Cache:
        """A cache to continue from: this one, or one of the given rows in their order."""
        if rows is None or self._buffer is None:
            return Cache(self._buffer, self.length)
        # Room for one step only: rows are usually selected at each step, and products need no copy of a full buffer.
        _, _, G, _, C = self._buffer.shape
        fresh = self._buffer.new_empty(2, len(rows), G, self.length + 1, C)
        for old, new in zip(self._buffer, fresh, strict=True):  # keys, values
            torch.index_select(old[:, :, : self.length], 0, rows, out=new[:, :, : self.length])
        return Cache(fresh, self.length)
