"""Truncated back-propagation through time against a loop written by hand, in float64."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from seqloom.data.batches.batch import StreamBatch
from seqloom.data.batches.stream import Layout, Stream, StreamConfig
from seqloom.models.convolutional import ConvolutionalConfig
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.recurrent import RecurrentDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.next_token import NextToken
from seqloom.training.loop import train
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer

V, SIZE = 13, 61
STACK = TransformerConfig(layers=1, width=12, inner=8, heads=2, dropout=0.0)
CELLS = [RecurrentDecoderConfig(cell=cell, layers=2, width=7, dropout=0.0) for cell in ("rnn", "lstm", "gru")]


def text(lanes: int = 3, length: int = 5, accumulate: int = 1) -> Stream:
    ids = np.random.default_rng(3).integers(V, size=SIZE).astype(np.int32)
    return Stream(ids, np.ones(SIZE, np.int32), Layout(StreamConfig(lanes, length, accumulate), 1, carries=True))


def model(decoder: Any, **options: Any) -> LanguageModel:
    torch.manual_seed(2)
    return LanguageModel(DecoderOnlyConfig(decoder=decoder, **options), V).double()


def by_hand(made: LanguageModel, batches: list[StreamBatch]) -> tuple[float, list[torch.Tensor]]:
    """The summed loss of consecutive batches and its gradients, word by word; the state is detached in between."""
    state: Any = made.start()
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        carry = state.carry
        state = made.start() if carry is None or batch.reset else replace(made.start(), carry=carry.detach())
        for t in range(batch.inputs["text"].values.shape[1]):
            hidden, state = made.decode(batch.inputs["text"].values[:, t : t + 1], state)
            log_p = made.head(hidden[:, 0]).log_softmax(-1)
            for lane, target in enumerate(batch.targets[:, t].tolist()):
                total = total - (log_p[lane, target] if target >= 0 else 0)
    return float(total.detach()), list(torch.autograd.grad(total, list(made.parameters())))


@pytest.mark.parametrize("decoder", CELLS, ids=lambda c: c.cell)
def test_gradients_are_those_of_a_loop_whose_state_is_detached_between_batches(decoder):
    made, stream = model(decoder, embedding=5), text()
    batches = [stream(n) for n in range(stream.per_epoch + 2)]  # over the end of an epoch
    expected, gradients = by_hand(made, batches)
    carry, total = None, 0.0
    for batch in batches:
        found = NextToken()(made, batch, carry)
        found.value.backward()
        assert all(not tensor.requires_grad for tensor in found.carry.values())
        carry, total = found.carry, total + found.nll
    assert total == pytest.approx(expected, rel=1e-12)
    for parameter, gradient in zip(made.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("decoder", CELLS, ids=lambda c: c.cell)
def test_a_state_carried_over_batches_is_one_long_pass(decoder):
    made, pieces = model(decoder).eval(), list(text(lanes=2).once())
    ids = torch.cat([piece.inputs["text"].values for piece in pieces], 1)
    targets = torch.cat([piece.targets for piece in pieces], 1)
    whole, end = made(Inputs.text(ids))
    carry, found, nll = None, [], 0.0
    for piece in pieces:
        loss = NextToken()(made, piece, carry)
        found.append(made(piece.inputs, carry)[0])
        carry, nll = loss.carry, nll + loss.nll
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(carry["carry"], end["carry"], rtol=0, atol=1e-12)
    real = targets.flatten() >= 0
    expected = torch.nn.functional.cross_entropy(
        made.head(whole).flatten(0, 1)[real], targets.flatten()[real], reduction="sum"
    )
    assert nll == pytest.approx(float(expected), rel=1e-6)  # without gradients it is summed in float32


def test_a_batch_that_begins_anew_forgets():
    made, batch = model(CELLS[1]), text()(0)
    assert batch.reset
    carry = {"carry": torch.randn(3, 2, 2, 7).double()}
    assert NextToken()(made, batch, carry).nll == NextToken()(made, batch).nll
    assert NextToken()(made, replace(batch, reset=False), carry).nll != NextToken()(made, batch).nll


@pytest.mark.parametrize("decoder", [STACK, ConvolutionalConfig(layers=2, width=12, dropout=0.0)], ids=["t", "c"])
def test_what_has_no_state_carries_none(decoder):
    assert NextToken()(model(decoder), text()(0)).carry == {}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_loop_hands_the_state_from_batch_to_batch(accumulate):
    stream, seen = text(), []

    def objective(made: LanguageModel, batch: StreamBatch, carry: Any = None) -> Any:
        found = NextToken()(made, batch, carry)
        seen.append((batch, carry, found.carry))
        return found

    made = model(CELLS[1])
    optimizer = Optimizer(FlatWeights(made, torch.float64), AdamW())
    steps = train(made, objective, stream, optimizer, lambda n: 1e-3, accumulate=accumulate)
    last = [next(steps) for _ in range(4)][-1]
    assert seen[0][1] is None
    for (_, _, left), (_, given, _) in pairwise(seen):
        assert given is left
    assert last.carry is seen[-1][2]
    begun = [torch.equal(b.inputs["text"].values, stream(n).inputs["text"].values) for n, (b, _, _) in enumerate(seen)]
    assert begun == [True] * 4 * accumulate


def test_impossible_objectives_are_refused():
    with pytest.raises(ValueError, match="smoothing"):
        NextToken(smoothing=1.0)
