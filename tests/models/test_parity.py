"""Random models of Hugging Face's transformers, their weights copied here: the outputs must be the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.attention import CrossAttention, SelfAttention
from seqloom.nn.embedders import Inputs
from seqloom.nn.masks import padding_mask
from seqloom.nn.positions import Relative
from seqloom.nn.transformer import TransformerConfig

transformers = pytest.importorskip("transformers", reason="transformers is not installed: no parity is checked")

V, D, F, H, S, T = 53, 24, 37, 3, 11, 7
SOURCE, TARGET = (torch.arange(3 * n).reshape(3, n) * 7 % (V - 2) + 1 for n in (S, T))
MASK = padding_mask(torch.tensor([S, 4, 9]), S)


def copy(ours: nn.Module | Tensor, theirs: nn.Module | Tensor, scale: float = 1.0) -> None:
    if isinstance(ours, nn.Module):
        ours.load_state_dict(theirs.state_dict())
    else:
        with torch.no_grad():
            ours.copy_(theirs * scale)


def copy_linear(ours: nn.Linear, *theirs: nn.Linear, scales: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
    copy(ours.weight, torch.cat([part.weight * s for part, s in zip(theirs, scales, strict=False)]))
    if ours.bias is not None:
        copy(ours.bias, torch.cat([part.bias * s for part, s in zip(theirs, scales, strict=False)]))


def copy_attention(ours: SelfAttention | CrossAttention, parts: list[nn.Linear], *, scaled: bool = True) -> None:
    """From query, key, value and output. `scaled`: whether theirs divides the scores by sqrt(C), as ours does."""
    q, k, v, output = parts
    scale = 1.0 if scaled else (D // H) ** 0.5
    if isinstance(ours, SelfAttention):
        copy_linear(ours.qkv, q, k, v, scales=(scale, 1.0, 1.0))
    else:
        copy_linear(ours.query, q, scales=(scale,))
        copy_linear(ours.key_value, k, v)
    copy(ours.output, output)


def randomized(model: Any) -> Any:
    """Weights far from their start, so that nothing is hidden by zeros, ones and small numbers."""
    for name, parameter in model.named_parameters():
        if "norm.weight" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2 if parameter.dim() > 1 else 0.1)
    return model.double().eval()


def logits(model: EncoderDecoder) -> Tensor:
    return model.eval().head(model(Inputs.text(SOURCE, MASK), TARGET))


@torch.no_grad()
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(
    ("name", "architecture", "norm_position"),
    [("Marian", "MarianMTModel", "after"), ("Pegasus", "PegasusForConditionalGeneration", "before")],
)
def test_marian_and_pegasus(name: str, architecture: str, norm_position: Any, activation: Any) -> None:
    config = getattr(transformers, f"{name}Config")(
        vocab_size=V, d_model=D, encoder_layers=2, decoder_layers=3, encoder_ffn_dim=F, decoder_ffn_dim=F,
        encoder_attention_heads=H, decoder_attention_heads=H, activation_function=activation, scale_embedding=True,
        max_position_embeddings=S, pad_token_id=0, eos_token_id=V - 1, forced_eos_token_id=V - 1,
        decoder_start_token_id=0,
    )  # fmt: skip
    theirs = randomized(getattr(transformers, architecture)(config))
    stack: dict[str, Any] = {"width": D, "inner": F, "heads": H, "activation": activation}
    stack["norm_position"] = norm_position
    ours = EncoderDecoder(
        EncoderDecoderConfig(
            encoder=TransformerConfig(layers=2, **stack),
            decoder=TransformerConfig(layers=3, **stack),
        ), V, V,
    ).double()  # fmt: skip
    copy(ours.source.weight, theirs.model.shared.weight)
    for mine, its in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        if norm_position == "before":
            copy(mine.stack.norm, its.layer_norm)
        for block, layer in zip(mine.stack.blocks, its.layers, strict=True):
            attentions = [(block.attention, layer.self_attn)]
            copy(block.attention_norm, layer.self_attn_layer_norm)
            if block.cross is not None:
                attentions.append((block.cross, layer.encoder_attn))
                copy(block.cross_norm, layer.encoder_attn_layer_norm)
            for attention, other in attentions:
                copy_attention(attention, [other.q_proj, other.k_proj, other.v_proj, other.out_proj])
            copy(block.feedforward.expand, layer.fc1)
            copy(block.feedforward.contract, layer.fc2)
            copy(block.feedforward_norm, layer.final_layer_norm)
    expected = theirs(SOURCE, MASK.long(), TARGET).logits - theirs.final_logits_bias
    assert expected.std(1).mean() > 0.1  # the positions differ
    torch.testing.assert_close(logits(ours), expected, rtol=0, atol=1e-5)  # our sines are those of float32


@torch.no_grad()
def test_t5() -> None:
    config = transformers.T5Config(
        vocab_size=V, d_model=D, d_kv=D // H, d_ff=F, num_layers=2, num_decoder_layers=3, num_heads=H,
        relative_attention_num_buckets=8, relative_attention_max_distance=9, tie_word_embeddings=False,
        feed_forward_proj="relu", decoder_start_token_id=0,
    )  # fmt: skip
    theirs = randomized(transformers.T5ForConditionalGeneration(config))
    stack: dict[str, Any] = {"width": D, "inner": F, "heads": H, "norm": "rms", "bias": False}
    positions = Relative(buckets=8, distance=9)
    ours = EncoderDecoder(
        EncoderDecoderConfig(
            encoder=TransformerConfig(layers=2, positions=positions, **stack),
            decoder=TransformerConfig(layers=3, positions=positions, **stack),
            tie="none",
        ), V, V,
    ).double()  # fmt: skip
    for embedder in (ours.source, ours.target):  # T5 does not scale its embeddings
        copy(embedder.weight, theirs.shared.weight, D**-0.5)
    copy(ours.head.weight, theirs.lm_head.weight)
    for mine, its in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        bias = its.block[0].layer[0].SelfAttention.relative_attention_bias
        copy(mine.stack.positions.table.weight, bias.weight)
        copy(mine.stack.norm, its.final_layer_norm)
        for block, layers in zip(mine.stack.blocks, (block.layer for block in its.block), strict=True):
            attentions = [(block.attention, layers[0].SelfAttention)]
            copy(block.attention_norm, layers[0].layer_norm)
            if block.cross is not None:
                attentions.append((block.cross, layers[1].EncDecAttention))
                copy(block.cross_norm, layers[1].layer_norm)
            for attention, other in attentions:
                copy_attention(attention, [other.q, other.k, other.v, other.o], scaled=False)
            copy(block.feedforward.expand, layers[-1].DenseReluDense.wi)
            copy(block.feedforward.contract, layers[-1].DenseReluDense.wo)
            copy(block.feedforward_norm, layers[-1].layer_norm)
    expected = theirs(SOURCE, MASK.long(), TARGET).logits
    assert expected.std(1).mean() > 0.1  # the positions differ
    # T5 of transformers takes the mean of its norms in float32, whatever the type.
    torch.testing.assert_close(logits(ours), expected, rtol=0, atol=1e-5)
