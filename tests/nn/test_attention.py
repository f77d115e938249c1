from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from seqloom.nn import attention
from seqloom.nn.attention import (
    Attended,
    Cache,
    CrossAttention,
    Heads,
    KeyValues,
    Scope,
    SelfAttention,
    apply_weights,
    attend,
    attention_weights,
    fused_is_faster,
)
from seqloom.nn.dropout import Dropout
from seqloom.nn.masks import causal_mask, padding_mask
from seqloom.nn.observe import observed
from seqloom.nn.positions import rotate

B, T, S, C = 2, 5, 7, 11
HEADS = [(3, 3), (6, 2), (5, 1)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def reference_weights(q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(C) + bias) over the visible keys, number by number."""
    B, H, T, C = q.shape
    G, S = k.shape[1:3]
    q_, k_ = q.double().tolist(), k.double().tolist()
    weights = torch.zeros(B, H, T, S, dtype=torch.float64)
    for b, h, t in product(range(B), range(H), range(T)):
        scores = {}
        for s in range(S):
            if mask is None or mask[b, t, s]:
                score = sum(q_[b][h][t][c] * k_[b][h * G // H][s][c] for c in range(C)) / math.sqrt(C)
                scores[s] = score + (0.0 if bias is None else float(bias[h, t, s]))
        total = sum(math.exp(score) for score in scores.values())
        for s, score in scores.items():
            weights[b, h, t, s] = math.exp(score) / total
    return weights


def reference(q: Tensor, kv: KeyValues, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    weights, v = reference_weights(q, kv.keys, mask, bias), kv.values.double()
    out = torch.zeros(q.shape, dtype=torch.float64)
    for b, h, t, s in product(*map(range, weights.shape)):
        out[b, h, t] += weights[b, h, t, s] * v[b, h * v.shape[1] // q.shape[1], s]
    return out


def draw(H: int, G: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, KeyValues]:
    kv = KeyValues(torch.randn(B, G, S, C).to(dtype), torch.randn(B, G, S, C).to(dtype))
    return torch.randn(B, H, T, C).to(dtype), kv


def masks(kind: str) -> tuple[Tensor | None, Tensor | None]:
    """The mask as a layer gives it, and spread out to (B T S)."""
    padding, causal = padding_mask(torch.tensor([S, 4]), S), causal_mask(T, S)
    mask = {"none": None, "padding": padding[:, None, None], "causal": causal, "both": padding[:, None, None] & causal}[
        kind
    ]
    return mask, None if mask is None else mask.expand(B, 1, T, S)[:, 0]


def choose(monkeypatch: pytest.MonkeyPatch, *, fused: bool) -> None:
    monkeypatch.setattr(attention, "fused_is_faster", lambda *_: fused)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kind", ["none", "padding", "causal", "both"])
@pytest.mark.parametrize(("H", "G"), HEADS)
def test_both_paths_are_the_formula(
    H: int, G: int, kind: str, biased: bool, fused: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, fused=fused)
    q, kv = draw(H, G, dtype)
    mask, spread = masks(kind)
    bias = torch.randn(H, T, S).to(dtype) if biased else None
    got = attend(q, kv, Scope(mask, bias))
    assert got.dtype == dtype
    expected = reference(q, kv, spread, bias)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("H", "G"), HEADS)
def test_a_mask_that_is_known_to_be_causal_is_the_same_mask(
    H: int, G: int, biased: bool, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, fused=fused)
    q, kv = draw(H, G)
    q, mask = torch.cat((q, q), 2)[:, :, :S], causal_mask(S, S)
    bias = torch.randn(H, S, S, dtype=torch.float64) if biased else None
    expected = reference(q, kv, mask.expand(B, S, S), bias)
    torch.testing.assert_close(attend(q, kv, Scope(mask, bias, causal=True)), expected)


@pytest.mark.parametrize("kind", ["none", "padding", "causal", "both"])
@pytest.mark.parametrize(("H", "G"), HEADS)
def test_the_weights_are_the_formula_and_applying_them_is_attention(H: int, G: int, kind: str) -> None:
    q, kv = draw(H, G)
    mask, spread = masks(kind)
    bias = torch.randn(H, T, S, dtype=torch.float64)
    weights = attention_weights(q, kv.keys, Scope(mask, bias))
    torch.testing.assert_close(weights, reference_weights(q, kv.keys, spread, bias))
    torch.testing.assert_close(apply_weights(weights, kv.values), reference(q, kv, spread, bias))
    if spread is not None:
        assert (weights[~spread[:, None].expand_as(weights)] == 0).all()


@pytest.mark.parametrize("fused", [False, True])
def test_a_query_that_may_see_nothing_gets_finite_numbers(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, fused=fused)
    q, kv = draw(3, 3)
    mask = torch.ones(B, 1, T, S, dtype=torch.bool)
    mask[1, :, 2] = False
    out = attend(q, kv, Scope(mask))
    assert out.isfinite().all()
    torch.testing.assert_close(out[1, :, 2], kv.values[1].mean(1))


@pytest.mark.parametrize(("fused", "p"), [(False, 26 / 256), (True, 0.1)])
def test_attention_dropout_drops_whole_weights(fused: bool, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, fused=fused)
    q, k = torch.randn(7, 3, 89, 53), torch.randn(7, 3, 53, 53)
    kv = KeyValues(k, torch.eye(53).expand(7, 3, 53, 53).contiguous())  # the output is the row of weights itself
    dropout = Dropout(0.1)
    weights = attention_weights(q, k, Scope())
    torch.testing.assert_close(attend(q, kv, Scope(), dropout.eval()), weights)
    ratio = attend(q, kv, Scope(), dropout.train()) / weights
    dropped = ratio == 0
    torch.testing.assert_close(ratio[~dropped], torch.full_like(ratio[~dropped], 1 / (1 - p)), rtol=1e-4, atol=0)
    assert abs(dropped.float().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / ratio.numel())


def test_the_fused_kernel_is_for_one_query_for_long_float32_and_for_what_does_not_fit() -> None:
    def faster(dtype: torch.dtype, queries: int, keys: int, dropped: bool = False) -> bool:
        one = torch.empty(1, dtype=dtype)
        return fused_is_faster(one.expand(1, 1, queries, 8), one.expand(1, 1, keys, 8), dropped)

    assert [faster(torch.float32, 2, keys) for keys in (64, 511, 512)] == [False, False, True]
    assert not faster(torch.float32, 2, 512, dropped=True)
    assert [faster(torch.bfloat16, 2, keys) for keys in (64, 512, 4096)] == [False, False, False]
    assert [faster(dtype, 1, 4) for dtype in (torch.float32, torch.bfloat16)] == [True, False]
    assert faster(torch.bfloat16, 1 << 15, 1 << 15)
    assert fused_is_faster(torch.empty(1, 1, 1, 1, device="meta"), torch.empty(1, 1, 1, 1, device="meta"), True)


def project(x: Tensor, linear: torch.nn.Linear, first: int, heads: int, C: int = C) -> Tensor:
    """`heads` heads of C features of a linear layer, from output `first` on, number by number: (B heads T C)."""
    W, b = linear.weight.tolist(), linear.bias.tolist()
    rows = x.tolist()
    return torch.tensor(
        [
            [
                [
                    [
                        sum(w * value for w, value in zip(W[i], row, strict=True)) + b[i]
                        for i in range(first + h * C, first + (h + 1) * C)
                    ]
                    for row in sentence
                ]
                for h in range(heads)
            ]
            for sentence in rows
        ],
        dtype=torch.float64,
    )


def finish(mixed: Tensor, output: torch.nn.Linear) -> Tensor:
    return torch.cat(list(mixed.unbind(1)), dim=-1) @ output.weight.T + output.bias


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("H", "G"), HEADS)
def test_self_attention_is_the_formula(H: int, G: int, turned: bool) -> None:
    C = 10
    layer = SelfAttention(Heads(H * C, H, G, C, True, True, 0.0)).double()
    x = torch.randn(B, T, H * C, dtype=torch.float64)
    bias, mask = torch.randn(H, T, T, dtype=torch.float64), causal_mask(T, T)
    q, k = project(x, layer.qkv, 0, H, C), project(x, layer.qkv, H * C, G, C)
    rotation = None
    if turned:
        angles = torch.randn(T, C // 2, dtype=torch.float64).repeat(1, 2)
        rotation = angles.cos(), angles.sin()
        q, k = rotate(q, rotation), rotate(k, rotation)
    kv = KeyValues(k, project(x, layer.qkv, (H + G) * C, G, C))
    expected = finish(reference(q, kv, mask.expand(B, T, T), bias), layer.output)
    torch.testing.assert_close(layer(x, Scope(mask, bias), rotation), expected)


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize(("H", "G"), HEADS)
def test_cross_attention_is_the_formula_and_rows_may_share_a_memory(H: int, G: int, K: int) -> None:
    M = 13
    layer = CrossAttention(Heads(H * C, H, G, C, True, True, 0.0), M).double()
    memory = torch.randn(B, S, M, dtype=torch.float64)
    x = torch.randn(B * K, T, H * C, dtype=torch.float64)
    mask = padding_mask(torch.tensor([S, 3]), S)
    repeated = memory.repeat_interleave(K, 0)
    kv = KeyValues(project(repeated, layer.key_value, 0, G), project(repeated, layer.key_value, G * C, G))
    spread = mask.repeat_interleave(K, 0)[:, None].expand(B * K, T, S)
    q = project(x, layer.query, 0, H)
    weights = reference_weights(q, kv.keys, spread, None)
    expected = finish(reference(q, kv, spread), layer.output)
    seen: list[Tensor] = []
    with observed(lambda _, note: seen.append(note.weights())):
        got = layer(x, layer.read(memory), Scope(mask[:, None, None]))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(seen, [weights])


def test_an_observer_is_gone_after_its_block_even_when_that_fails() -> None:
    layer, x = SelfAttention(Heads(6, 3, 3, 2, False, False, 0.0)), torch.randn(1, 2, 6)
    outer: list[Tensor] = []

    def fail(_: torch.nn.Module, note: Attended) -> None:
        raise ZeroDivisionError

    with observed(lambda _, note: outer.append(note.weights())):
        with pytest.raises(ZeroDivisionError), observed(fail):
            layer(x, Scope())
        layer(x, Scope())
    layer(x, Scope())
    assert len(outer) == 1
    assert not outer[0].requires_grad


def test_the_gradient_is_that_of_finite_differences() -> None:
    q, kv = draw(6, 2)
    leaves = [t.requires_grad_() for t in (q, kv.keys, kv.values, torch.randn(6, T, S, dtype=torch.float64))]

    def attention_of(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return attend(q, KeyValues(k, v), Scope(masks("both")[0], bias))

    assert torch.autograd.gradcheck(attention_of, leaves, fast_mode=True)


@pytest.mark.parametrize("sizes", [[1] * 41, [29, 1, 13], [3, 97, 1]])
def test_a_cache_holds_what_was_appended(sizes: list[int]) -> None:
    k, v = torch.randn(2, B, 3, sum(sizes), C)
    cache, start = Cache(), 0
    for size in sizes:
        kv = cache.append(k[:, :, start : start + size], v[:, :, start : start + size])
        start += size
        assert cache.length == start
        torch.testing.assert_close((kv.keys, kv.values), (k[:, :, :start], v[:, :, :start]), rtol=0, atol=0)


def test_a_fork_by_rows_goes_its_own_way() -> None:
    k, v = torch.randn(2, 3, 2, 5, C)
    cache = Cache()
    cache.append(k[:, :, :4], v[:, :, :4])
    rows = torch.tensor([2, 0, 0, 1, 2])
    fork = cache.fork(rows)
    new = torch.randn(5, 2, 1, C)
    forked, kept = fork.append(new, new), cache.append(k[:, :, 4:], v[:, :, 4:])
    torch.testing.assert_close(forked.keys, torch.cat([k[rows, :, :4], new], 2), rtol=0, atol=0)
    torch.testing.assert_close(forked.values, torch.cat([v[rows, :, :4], new], 2), rtol=0, atol=0)
    torch.testing.assert_close((kept.keys, kept.values), (k, v), rtol=0, atol=0)


def test_a_fork_of_an_empty_cache_is_empty() -> None:
    assert Cache().fork(torch.tensor([1, 0])).length == 0


def test_key_values_are_selected_by_row() -> None:
    kv = KeyValues(torch.randn(3, 2, S, C), torch.randn(3, 2, S, C))
    rows = torch.tensor([2, 2, 0])
    chosen = kv.select(rows)
    torch.testing.assert_close((chosen.keys, chosen.values), (kv.keys[rows], kv.values[rows]), rtol=0, atol=0)
