from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from seqloom.data.batches.pairs import make_batch
from seqloom.inspection.capture import look
from seqloom.inspection.gates import state_reach, unrolled
from seqloom.inspection.gradient_reach import Reach, input_reach, squared_norms, steps_back
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.encoders import BagConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.recurrent import Pass, RecurrentLayer
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig

V, WIDTH = 19, 6
SOURCES = [np.array(row) for row in ([3, 5, 7, 2], [11, 2], [4, 8, 13, 6, 2])]
TARGETS = [np.array(row) for row in ([9, 4, 2], [5, 17, 8, 2], [6, 2])]
ENCODERS: list[Any] = [
    TransformerConfig(1, WIDTH, 8, 2),
    ConvolutionalConfig(1, WIDTH),
    *(RecurrentEncoderConfig(c, 2, 3, d) for c, d in (("rnn", "forward"), ("gru", "backward"), ("lstm", "both"))),
]
DECODERS: list[Any] = [
    TransformerConfig(1, WIDTH, 8, 2),
    RecurrentDecoderConfig("lstm", width=WIDTH),
    RecurrentDecoderConfig("gru", width=WIDTH, attention=AttentionConfig()),
]


def model_of(encoder: Any, decoder: Any) -> EncoderDecoder:
    torch.manual_seed(1)
    return EncoderDecoder(EncoderDecoderConfig(encoder=encoder, decoder=decoder, tie="none"), V, V).double().eval()


def by_hand(model: EncoderDecoder, source: np.ndarray, target: np.ndarray) -> dict[str, Tensor]:
    """The squared norm of every block of the full Jacobians of one pair: (T S)."""
    batch = make_batch([source], [target], 1)
    x, y = model.embed(batch.inputs)[0].detach(), model.target(batch.target_in).detach()

    def hidden(x: Tensor, y: Tensor) -> Tensor:
        return model.decoder(y, model.start(model.encoder(x, None), keep=False))[0][0]

    full = {"states": jacobian(lambda x: model.encoder(x, None).states[0], x)}
    full["source"], full["target"] = jacobian(hidden, (x, y))
    full = {name: block[:, :, 0] for name, block in full.items()}  # T D S E
    D = full["states"].shape[1] // 2
    full["first half"], full["second half"] = full["states"][:, :D], full["states"][:, D:]
    return {name: block.square().sum((1, 3)) for name, block in full.items()}


def expected(blocks: list[tuple[Tensor, int, int]], *, from_end: bool) -> np.ndarray:
    """norm(k) over the blocks of several pairs, k = sign (t - s) or, from the end, last - s."""
    found: dict[int, list[float]] = {}
    for block, last, sign in blocks:
        for t, row in enumerate(block):
            for s, value in enumerate(row):
                k = last - s if from_end else sign * (t - s)
                if k >= 0:
                    found.setdefault(k, []).append(float(value))
    return np.array([np.mean(found[k]) ** 0.5 for k in sorted(found)])


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda c: c.kind)
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda c: f"{c.kind}-{getattr(c, 'direction', '')}")
def test_exact_reach_is_that_of_the_full_jacobians_without_padding(encoder: Any, decoder: Any):
    model = model_of(encoder, decoder)
    found = input_reach(model, make_batch(SOURCES, TARGETS, 1), probes=0)
    norms = [by_hand(model, s, t) for s, t in zip(SOURCES, TARGETS, strict=True)]
    direction = getattr(encoder, "direction", "")
    left, right = ("first half", "second half") if direction == "both" else ("states", "states")
    wanted = {
        "left": [(n[left], 0, 1) for n in norms],
        "right": [(n[right], 0, -1) for n in norms],
        "target": [(n["target"], 0, 1) for n in norms],
        "source": [(n["source"], len(s) - 2, 1) for n, s in zip(norms, SOURCES, strict=True)],
    }
    wanted = {k: v for k, v in wanted.items() if (k, direction) not in (("left", "backward"), ("right", "forward"))}
    assert found.keys() == wanted.keys()
    for name, blocks in wanted.items():
        by_k = expected(blocks, from_end=name == "source")
        np.testing.assert_allclose(found[name].as_dict()["norm"], by_k, rtol=1e-9, atol=1e-12)


def test_a_bag_has_no_order():
    model = model_of(BagConfig(WIDTH), DECODERS[1])
    assert input_reach(model, make_batch(SOURCES, TARGETS, 1)).keys() == {"target", "source"}
    # all words of a source count alike, wherever they stand
    share = input_reach(model, make_batch(SOURCES, TARGETS, 1), probes=0)["source"].as_dict()["share"]
    np.testing.assert_allclose(share, 1, rtol=1e-9)


def test_random_signs_estimate_the_exact_norms():
    model = model_of(TransformerConfig(1, WIDTH, 8, 2), DECODERS[0])
    batch = make_batch(SOURCES, TARGETS, 1)
    exact, drawn = (input_reach(model, batch, probes)["left"].sums for probes in (0, 500))
    np.testing.assert_allclose(drawn, exact, rtol=0.2)


def test_a_linear_recurrence_reaches_by_its_power():
    """h_t = a h_{t-1} + x_t, as near as tanh is to the identity around 0."""
    layer = RecurrentLayer("rnn", 3, 3).double()
    a = 0.7
    with torch.no_grad():
        for name, value in layer.cells.named_parameters():
            value.copy_(torch.eye(3) * (a if "hh" in name else 1) if "weight" in name else torch.zeros(3))
    x = 1e-6 * torch.randn(2, 13, 3, dtype=torch.float64)
    mask = torch.ones(2, 13, dtype=torch.bool)
    found = state_reach(Pass(layer, x, None, layer(x)[0]), mask).as_dict()
    np.testing.assert_allclose(found["share"], a ** np.arange(13), rtol=1e-6)
    assert (found["half"], found["tenth"]) == (2, 7)  # 0.7^2 = 0.49, 0.7^7 = 0.08
    assert found["at_10"] == pytest.approx(a**10, rel=1e-6)
    assert found["at_20"] is None
    x.requires_grad_()
    times, (squares,) = squared_norms(layer(x)[0], [x], 0)
    np.testing.assert_allclose(Reach.of(squares, steps_back(times, mask)).as_dict()["share"], found["share"], rtol=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gates_recomputed_give_what_the_layer_gave(cell: Any):
    layer = RecurrentLayer(cell, 5, 7)
    for value in layer.parameters():
        nn.init.normal_(value)
    x, carry = torch.randn(3, 11, 5), torch.randn(3, layer.parts, 7)
    h, end = layer(x, carry)
    states, gates = unrolled(Pass(layer, x, carry, h))
    torch.testing.assert_close(states[:, :, 0], h)
    torch.testing.assert_close(states[:, -1], end)
    assert "".join(gates) == {"rnn": "", "lstm": "ifogc", "gru": "rzn"}[cell]
    if cell == "lstm":
        torch.testing.assert_close(gates["o"] * gates["c"].tanh(), h)


@pytest.mark.parametrize("decoder", DECODERS[1:], ids=lambda c: c.cell)
def test_recorded_passes_are_those_of_the_model(decoder: Any):
    model = model_of(RecurrentEncoderConfig("lstm", 2, 3, "both"), decoder)
    batch = make_batch(SOURCES, TARGETS, 1)
    with look(model) as seen:
        hidden = model(batch.inputs, batch.target_in)
    assert [*seen.passes] == [*(f"encoder.layers.{i}.{j}" for i in (0, 1) for j in (0, 1)), "decoder.stack.layers.0"]
    for one in map(seen.recurrent, seen.passes):
        torch.testing.assert_close(unrolled(one)[0][:, :, 0], one.h)
    assert seen.recurrent("decoder.stack.layers.0").h.shape == (3, 4, WIDTH)
    torch.testing.assert_close(model(batch.inputs, batch.target_in), hidden)
    assert len(seen.passes["encoder.layers.0.0"]) == 1  # the observer is gone


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_state_reach_is_the_product_of_the_jacobians_between(cell: Any):
    layer = RecurrentLayer(cell, 5, 4).double()
    x = torch.randn(1, 6, 5, dtype=torch.float64)
    one = Pass(layer, x, None, layer(x)[0])
    states, _ = unrolled(one)

    def after(t: int, s: int, start: Tensor) -> Tensor:
        return unrolled(replace(one, x=x[:, s + 1 : t + 1], carry=start))[0][:, -1] if t > s else start

    wanted = []
    for k in range(6):
        pairs = [jacobian(lambda z, t=t, k=k: after(t, t - k, z), states[:, t - k]) for t in range(k, 6)]
        wanted.append(float(torch.stack([p.square().sum() for p in pairs]).mean().sqrt()))
    found = state_reach(one, torch.ones(1, 6, dtype=torch.bool), probes=0).as_dict()
    np.testing.assert_allclose(found["norm"], wanted, rtol=1e-9)
    assert found["norm"][0] == pytest.approx((4 * layer.parts) ** 0.5)


def test_padding_changes_no_state_reach():
    layer = RecurrentLayer("gru", 5, 4).double()
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    both = state_reach(Pass(layer, x, None, layer(x)[0]), mask, 0)
    alone = [
        state_reach(Pass(layer, x[i : i + 1, :n], None, layer(x[i : i + 1, :n])[0]), mask[i : i + 1, :n], 0)
        for i, n in enumerate((6, 3))
    ]
    np.testing.assert_allclose(both.sums, (alone[0] + alone[1]).sums, rtol=1e-12)


def test_long_sentences_are_looked_at_here_and_there():
    x = torch.randn(1, 100, 2, requires_grad=True)
    times, (squares,) = squared_norms(x * 3, [x], probes=0)
    assert (len(times), int(times[0]), int(times[-1])) == (32, 0, 99)
    found = Reach.of(squares, steps_back(times, torch.ones(1, 100, dtype=torch.bool))).as_dict()
    assert found["norm"][0] == pytest.approx(18**0.5)
    assert not any(found["norm"][1:])
    assert found["half"] == found["tenth"] == 1


def test_what_few_sentences_reach_is_left_out():
    steps = torch.tensor([[[0, 1], [1, 2], [1, -1]], [[0, -1], [-1, -1], [-1, -1]]])
    found = Reach.of(torch.ones(2, 3, 2, dtype=torch.float64), steps)
    assert found.as_dict()["sentences"] == [2, 1, 1]
    assert found.as_dict(least=2)["norm"] == [1.0]
    assert (found + found).as_dict(least=2)["sentences"] == [4, 2, 2]
