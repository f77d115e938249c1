from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn.attention import CrossAttention, Scope, SelfAttention
from seqloom.nn.masks import causal_mask, padding_mask
from seqloom.nn.memory import Memory, mean_summary
from seqloom.nn.positions import Rotary, sinusoids
from seqloom.nn.transformer import TransformerBlock, TransformerConfig, TransformerStack

B, T, S = 3, 5, 7
CONFIG = TransformerConfig(layers=2, width=15, inner=13, heads=3, dropout=0.0)
LENGTHS = [7, 2, 5]


def shaken(stack: TransformerStack) -> TransformerStack:
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.3)
    return stack.double()


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    theirs.load_state_dict(ours.state_dict())


def copy_attention(ours: SelfAttention | CrossAttention, theirs: nn.MultiheadAttention) -> None:
    parts = [ours.qkv] if isinstance(ours, SelfAttention) else [ours.query, ours.key_value]
    weights = {"in_proj_weight": torch.cat([part.weight for part in parts]), "out_proj.weight": ours.output.weight}
    if ours.output.bias is not None:
        weights |= {"in_proj_bias": torch.cat([part.bias for part in parts]), "out_proj.bias": ours.output.bias}
    theirs.load_state_dict(weights)


def copy_block(ours: TransformerBlock, theirs: Any) -> None:
    copy_attention(ours.attention, theirs.self_attn)
    norms = [ours.attention_norm, ours.feedforward_norm]
    if ours.cross is not None:
        copy_attention(ours.cross, theirs.multihead_attn)
        norms.insert(1, ours.cross_norm)
    for i, norm in enumerate(norms, start=1):
        copy(norm, getattr(theirs, f"norm{i}"))
    copy(ours.feedforward.expand, theirs.linear1)
    copy(ours.feedforward.contract, theirs.linear2)


def twin(ours: TransformerStack) -> nn.Module:
    """torch's own stack with the same weights, in training mode: its other path is for inference alone."""
    c, decoder = ours.config, ours.causal
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    first = c.norm_position == "before"
    layer = kind(c.width, c.heads, c.inner, 0.0, c.activation, batch_first=True, norm_first=first, dtype=torch.float64)
    norm = nn.LayerNorm(c.width, dtype=torch.float64) if first else None
    if decoder:
        theirs: nn.Module = nn.TransformerDecoder(layer, c.layers, norm)
    else:
        theirs = nn.TransformerEncoder(layer, c.layers, norm, enable_nested_tensor=False)
    for mine, its in zip(ours.blocks, theirs.layers, strict=True):
        copy_block(mine, its)
    if norm is not None:
        copy(ours.norm, theirs.norm)
    return theirs.train()


def gradients(out: Tensor, weights: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * weights).sum(), leaves)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_position", ["before", "after"])
def test_the_encoder_is_torchs(norm_position: Any, activation: Any) -> None:
    ours = shaken(TransformerStack(replace(CONFIG, norm_position=norm_position, activation=activation), causal=False))
    theirs, x, mask = twin(ours), draw(B, S, CONFIG.width), padding_mask(torch.tensor(LENGTHS), S)
    weights = torch.randn(B, S, CONFIG.width) * mask[:, :, None]
    expected = theirs(x + sinusoids(torch.arange(S), CONFIG.width).double(), src_key_padding_mask=~mask)
    got = ours(x, mask)
    torch.testing.assert_close(got[mask], expected[mask])
    mine = [x, *(block.feedforward.expand.weight for block in ours.blocks)]
    its = [x, *(layer.linear1.weight for layer in theirs.layers)]
    torch.testing.assert_close(gradients(got, weights, mine), gradients(expected, weights, its))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_position", ["before", "after"])
def test_the_decoder_is_torchs(norm_position: Any, activation: Any) -> None:
    config = replace(CONFIG, norm_position=norm_position, activation=activation)
    ours = shaken(TransformerStack(config, causal=True, memory_width=CONFIG.width))
    theirs, x, states = twin(ours), draw(B, T, CONFIG.width), draw(B, S, CONFIG.width)
    mask = padding_mask(torch.tensor(LENGTHS), S)
    memory = Memory(states, mask, mean_summary(states, mask))
    got = ours(x, None, ours.start(memory, keep=False))
    added = x + sinusoids(torch.arange(T), CONFIG.width).double()
    expected = theirs(added, states, tgt_mask=~causal_mask(T, T), memory_key_padding_mask=~mask)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(B, T, CONFIG.width)
    torch.testing.assert_close(gradients(got, weights, [x, states]), gradients(expected, weights, [x, states]))


@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention_is_torchs_multi_head_attention(bias: bool) -> None:
    config = replace(CONFIG, bias=bias)
    ours = shaken(TransformerStack(config, causal=True, memory_width=CONFIG.width)).blocks[0].cross
    theirs = nn.MultiheadAttention(config.width, config.heads, bias=bias, batch_first=True, dtype=torch.float64)
    copy_attention(ours, theirs)
    x, states = draw(B, T, config.width), draw(B, S, config.width)
    mask = padding_mask(torch.tensor(LENGTHS), S)
    expected, _ = theirs(x, states, states, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, ours.read(states), Scope(mask[:, None, None])), expected)


def silence(block: TransformerBlock, *parts: str) -> None:
    """Makes sublayers contribute nothing."""
    for part in parts:
        layer = getattr(block, part)
        for parameter in (layer.contract if part == "feedforward" else layer.output).parameters():
            nn.init.zeros_(parameter)


def test_dropout_falls_on_the_embeddings() -> None:
    stack = TransformerStack(replace(CONFIG, layers=1, dropout=0.5), causal=True)
    silence(stack.blocks[0], "attention", "feedforward")
    stack.norm = nn.Identity()
    x = torch.randn(B, T, CONFIG.width)
    ratio = stack.train()(x, None) / stack.eval()(x, None)
    assert {round(r, 4) for r in ratio.flatten().tolist()} == {0.0, 2.0}


@pytest.mark.parametrize("part", ["attention", "cross", "feedforward"])
def test_dropout_falls_on_every_sublayer_and_not_on_the_residual(part: str) -> None:
    block = TransformerBlock(replace(CONFIG, dropout=0.5), CONFIG.width).double()
    silence(block, *{"attention", "cross", "feedforward"} - {part})
    assert block.cross is not None
    x, memory = torch.randn(2, B, T, CONFIG.width, dtype=torch.float64)

    def added() -> Tensor:
        assert block.cross is not None
        out: Tensor = block(x, Scope(), memory=(block.cross.read(memory), Scope()))
        return out - x

    block.eval()
    expected = added()
    block.train()
    assert {round(r, 4) for r in (added() / expected).flatten().tolist()} == {0.0, 2.0}


@pytest.mark.parametrize("name", ["attention_dropout", "activation_dropout"])
def test_dropout_inside_a_sublayer_is_the_configs(name: str) -> None:
    stack, x = TransformerStack(replace(CONFIG, **{name: 0.5}), causal=True), torch.randn(B, T, CONFIG.width)
    assert not torch.equal(stack.train()(x, None), stack(x, None))
    assert torch.equal(stack.eval()(x, None), stack(x, None))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 0}, "layers must be from 1 to 1,000, not 0"),
        ({"width": 16}, "cannot be split into 3 heads"),
        ({"kv_heads": 2}, "kv_heads 2 must divide heads 3"),
        ({"positions": Rotary()}, "even number of features"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, not 1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout"),
        ({"activation_dropout": 2.0}, "activation_dropout"),
    ],
)
def test_impossible_configs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **values)
