from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seqloom.data.batches.batch import SequenceBatch
from seqloom.data.batches.pairs import make_batch
from seqloom.errors import DivergedError
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.cross_entropy import CrossEntropy
from seqloom.training.loop import train
from seqloom.training.optimizer import AdamW, FlatWeights, Optimizer


def transformer() -> EncoderDecoder:
    torch.manual_seed(3)
    stack = TransformerConfig(layers=1, width=16, inner=16, heads=2, dropout=0.0)
    return EncoderDecoder(EncoderDecoderConfig(encoder=stack, decoder=stack), 23, 23)


def pairs(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(4, 23, n) for n in lengths]


def parts_of(whole: SequenceBatch, *cuts: int) -> list[SequenceBatch]:
    """The batch cut into parts after some of its rows."""
    edges = [0, *cuts, len(whole.target_in)]
    found = []
    for first, end in itertools.pairwise(edges):
        rows = slice(first, end)
        mask = whole.target_mask[rows] if whole.target_mask is not None else None
        words = int(mask.sum()) if mask is not None else whole.target_out[rows].numel()
        source = whole.inputs["text"]
        inputs = Inputs.text(source.values[rows], None if source.mask is None else source.mask[rows])
        sides = {k: getattr(whole, k)[rows] for k in ("target_in", "target_out")}
        found.append(replace(whole, **sides, inputs=inputs, target_mask=mask, tokens=words, rows=()))
    return found


@pytest.mark.parametrize("cuts", [(2,), (1, 4), (1, 2, 3, 4, 5)])
def test_a_step_is_the_same_however_its_words_are_cut_into_batches(cuts):
    # 30 words in the first rows, 3 in each of the last: the mean over parts would be another one.
    whole = make_batch(pairs(9, 8, 3, 3, 3, 3), pairs(15, 15, 3, 3, 3, 3), 2)
    parts = parts_of(whole, *cuts)
    assert sum(part.tokens for part in parts) == whole.tokens
    found = []
    for batches in ([whole], parts):
        model = transformer()
        flat = FlatWeights(model, torch.float32)
        optimizer = Optimizer(flat, AdamW(clip=0.0))
        seen = []
        optimizer.step = lambda lr, norm, o=optimizer, s=seen: s.append(o.gradient.clone())  # type: ignore[method-assign]
        steps = train(
            model, CrossEntropy(), lambda n, b=batches: b[n], optimizer, lambda n: 0.1, accumulate=len(batches)
        )
        found.append((next(steps), seen[0]))
    (one, gradient), (many, gathered) = found
    torch.testing.assert_close(gathered, gradient, rtol=1e-4, atol=1e-6)
    assert (many.number, many.tokens) == (1, one.tokens)
    assert (many.loss, many.nll, many.norm) == pytest.approx((one.loss, one.nll, one.norm), rel=1e-5)


def test_steps_count_on_from_the_start_and_take_their_own_batches():
    asked, rates = [], []

    def batches(number: int) -> SequenceBatch:
        asked.append(number)
        return make_batch(pairs(3, 4), pairs(4, 2), 2)

    def rate(step: int) -> float:
        rates.append(step)
        return 1e-3 * step

    model = transformer()
    optimizer = Optimizer(FlatWeights(model, torch.float32), AdamW())
    steps = list(itertools.islice(train(model, CrossEntropy(), batches, optimizer, rate, start=5, accumulate=3), 2))
    assert [s.number for s in steps] == [6, 7]
    assert [s.lr for s in steps] == [6e-3, 7e-3]
    assert asked == [15, 16, 17, 18, 19, 20]
    assert rates == [6, 7]
    assert model.training


class Poisoned(nn.Module):
    """A weight whose loss (or only its gradient) is not a number from some call on."""

    def __init__(self, gradient_only: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.gradient_only, self.calls = gradient_only, 0

    def loss(self, batch: object) -> object:
        self.calls += 1
        value = self.weight.sum()
        if self.calls == 4:
            # The root of 0 is 0, and its slope times 0 is not a number.
            value = (self.weight * 0).sum().sqrt() if self.gradient_only else value * float("nan")
        return type("Found", (), {"value": value, "nll": 1.0, "carry": {}, "scores": {}})()


@pytest.mark.parametrize(("gradient_only", "what"), [(False, "loss"), (True, "gradient norm")])
def test_what_is_not_finite_stops_before_the_step_and_names_the_examples(gradient_only, what):
    model = Poisoned(gradient_only)
    flat = FlatWeights(model, torch.float32)
    optimizer = Optimizer(flat, AdamW(), ema=0.5)

    def batch(number: int) -> object:
        return type("Batch", (), {"tokens": 2, "rows": tuple(range(100 * number, 100 * number + 6))})()

    steps = train(model, lambda m, b: m.loss(b), batch, optimizer, lambda n: 0.1, accumulate=2)
    next(steps)
    before = {k: v.clone() for k, v in optimizer.state().items()}
    with pytest.raises(DivergedError) as caught:
        next(steps)
    message = str(caught.value)
    assert f"the {what} is nan at step 2; the step was not taken" in message
    assert "Its examples: 201, 202, 203, 204, 205, 206, 301, 302 and 4 more" in message
    assert "lower optimizer.lr" in caught.value.cure
    for name, tensor in optimizer.state().items():
        assert torch.equal(tensor, before[name]), name
    assert optimizer.norm() == 0
