from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqloom.data.batches.batch import SequenceBatch
from seqloom.data.batches.pairs import make_batch
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.models.recurrent import RecurrentDecoderConfig, RecurrentEncoderConfig
from seqloom.nn.scored_attention import AttentionConfig
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives import cross_entropy
from seqloom.objectives.cross_entropy import CrossEntropy, linear_cross_entropy

SMOOTHING = [0.0, 0.1, 0.7]


def loops(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> tuple[float, float, Tensor, Tensor]:
    """By definition, in float64: the loss, the plain one, and the gradients of hidden and weight."""
    h, w = hidden.detach().double().tolist(), weight.detach().double().tolist()
    N, V, E = len(h), len(w), len(h[0])
    value = nll = 0.0
    d_h, d_w = np.zeros((N, E)), np.zeros((V, E))
    for n in range(N):
        logits = [sum(a * b for a, b in zip(h[n], w[v], strict=True)) for v in range(V)]
        most = max(logits)
        normal = most + math.log(sum(math.exp(x - most) for x in logits))
        for v in range(V):
            wanted = smoothing / V + (1 - smoothing) * (v == int(targets[n]))
            value -= wanted * (logits[v] - normal)
            nll -= (v == int(targets[n])) * (logits[v] - normal)
            slope = math.exp(logits[v] - normal) - wanted
            d_h[n] += slope * np.array(w[v])
            d_w[v] += slope * np.array(h[n])
    return value, nll, torch.from_numpy(d_h), torch.from_numpy(d_w)


@contextmanager
def chunks_of(logits: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "_CHUNK", logits)
        yield


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest element."""
    assert (found.double() - expected).abs().max() <= tolerance * (1 + expected.abs().max())


def check(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, tolerance: float) -> None:
    hidden.requires_grad_()
    weight.requires_grad_()
    value, nll = linear_cross_entropy(hidden, weight, targets, smoothing)
    (3.0 * value).backward()
    expected_value, expected_nll, d_hidden, d_weight = loops(hidden, weight, targets, smoothing)
    assert value.item() == pytest.approx(expected_value, rel=tolerance)
    assert nll == pytest.approx(expected_nll, rel=tolerance)
    assert hidden.grad is not None
    assert weight.grad is not None
    close(hidden.grad, 3 * d_hidden, tolerance)
    close(weight.grad, 3 * d_weight, tolerance)


def drawn(seed: int, N: int, E: int, V: int, dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(N, E, generator=draw, dtype=dtype)
    return hidden, torch.randn(V, E, generator=draw, dtype=dtype), torch.randint(V, (N,), generator=draw)


class TestLinearCrossEntropy:
    @given(
        seed=st.integers(0, 10**6),
        N=st.integers(1, 11),
        V=st.integers(1, 13),
        rows=st.integers(1, 12),
        smoothing=st.sampled_from(SMOOTHING),
    )
    @settings(max_examples=40, deadline=None)
    def test_loops_in_float64(self, seed, N, V, rows, smoothing):
        with chunks_of(rows * V):
            check(*drawn(seed, N, 5, V, torch.float64), smoothing, 1e-12)

    @pytest.mark.parametrize("smoothing", SMOOTHING)
    @pytest.mark.parametrize("rows", [1, 3, 100])
    def test_loops_in_float32(self, smoothing, rows):
        with chunks_of(rows * 17):
            check(*drawn(2, 11, 7, 17, torch.float32), smoothing, 1e-5)

    @pytest.mark.parametrize("smoothing", SMOOTHING)
    def test_bfloat16_keeps_its_digits(self, smoothing):
        with chunks_of(3 * 17):
            check(*drawn(2, 11, 7, 17, torch.bfloat16), smoothing, 2e-2)

    @pytest.mark.parametrize("smoothing", SMOOTHING)
    def test_probabilities_that_underflow(self, smoothing):
        # Logits apart by hundreds: exp(-300) is 0 in float32, yet the loss is 300 and not infinite.
        hidden, weight, targets = drawn(3, 7, 5, 13, torch.float32, scale=100.0)
        logits = hidden @ weight.t()
        p = logits.softmax(-1).gather(1, targets[:, None])
        assert (p == 0).any()
        for rows in (1, 2, 100):
            with chunks_of(rows * 13):
                check(hidden.clone(), weight.clone(), targets, smoothing, 1e-5)

    @pytest.mark.parametrize("smoothing", SMOOTHING)
    def test_torch(self, smoothing):
        hidden, weight, targets = drawn(4, 29, 11, 31, torch.float64)
        inputs = [[x.clone().requires_grad_() for x in (hidden, weight)] for _ in range(2)]
        with chunks_of(8 * 31):
            value, nll = linear_cross_entropy(*inputs[0], targets, smoothing)
        theirs = F.cross_entropy(F.linear(*inputs[1]), targets, label_smoothing=smoothing, reduction="sum")
        value.backward()
        theirs.backward()
        torch.testing.assert_close(value, theirs)
        for ours, other in zip(*inputs, strict=True):
            torch.testing.assert_close(ours.grad, other.grad)
        assert nll == pytest.approx(F.cross_entropy(hidden @ weight.t(), targets, reduction="sum").item())

    @pytest.mark.parametrize("smoothing", SMOOTHING)
    def test_without_a_gradient_the_value_is_the_same(self, smoothing):
        hidden, weight, targets = drawn(5, 11, 7, 13, torch.float64)
        with_gradient = linear_cross_entropy(hidden.clone().requires_grad_(), weight, targets, smoothing)
        with torch.no_grad():
            without = linear_cross_entropy(hidden, weight, targets, smoothing)
        assert with_gradient[0].item() == pytest.approx(without[0].item(), rel=1e-6)
        assert with_gradient[1] == pytest.approx(without[1], rel=1e-6)

    def test_inputs_are_not_written_on(self):
        hidden, weight, targets = drawn(5, 11, 7, 13, torch.float32)
        before = hidden.clone(), weight.clone()
        linear_cross_entropy(hidden.requires_grad_(), weight.requires_grad_(), targets, 0.1)
        assert torch.equal(hidden, before[0])
        assert torch.equal(weight, before[1])


def tiny(dropout: float) -> EncoderDecoder:
    stack = TransformerConfig(layers=1, width=12, inner=17, heads=2, dropout=dropout)
    torch.manual_seed(1)
    return EncoderDecoder(EncoderDecoderConfig(encoder=stack, decoder=stack), 19, 19)


def batch_of(*lengths: tuple[int, int]) -> SequenceBatch:
    draw = np.random.default_rng(1)
    sources, targets = ([draw.integers(4, 19, n[side]) for n in lengths] for side in (0, 1))
    return make_batch(sources, targets, 2)


def gradients(model: EncoderDecoder) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


class TestObjective:
    @pytest.mark.parametrize("smoothing", SMOOTHING)
    def test_cross_entropy_of_the_real_words(self, smoothing):
        model, batch = tiny(0.0), batch_of((5, 7), (3, 2), (1, 4))
        assert batch.target_mask is not None
        loss = CrossEntropy(smoothing)(model, batch)
        logits = model.head(model(batch.inputs, batch.target_in))[batch.target_mask]
        targets = batch.target_out[batch.target_mask]
        expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
        assert loss.tokens == batch.tokens == 13
        torch.testing.assert_close(loss.value, expected)
        assert loss.nll == pytest.approx(F.cross_entropy(logits, targets, reduction="sum").item(), rel=1e-5)

    @pytest.mark.parametrize("config", [CrossEntropy(0.1), CrossEntropy(0.1, r_drop=2.0)])
    def test_padding_is_no_word(self, config):
        # The sum over a padded batch is the sum over its sentences, each alone and without padding.
        model, lengths = tiny(0.0).train(), [(5, 7), (3, 2), (1, 4)]
        together = batch_of(*lengths)
        loss = config(model, together)
        loss.value.backward()
        whole = gradients(model)
        total = nll = 0.0
        for b, (s, t) in enumerate(lengths):
            source, target = together.inputs["text"].values[b, :s].numpy(), together.target_out[b, :t].numpy()
            alone = config(model, make_batch([source], [target], 2))
            alone.value.backward()
            total, nll = total + alone.value.item(), nll + alone.nll
        assert loss.value.item() == pytest.approx(total, rel=1e-5)
        assert loss.nll == pytest.approx(nll, rel=1e-5)
        for found, expected in zip(whole, gradients(model), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("smoothing", SMOOTHING)
    def test_r_drop_is_its_equation(self, smoothing):
        model, batch = tiny(0.3).train(), batch_of((5, 7), (3, 2))
        torch.manual_seed(7)
        loss = CrossEntropy(smoothing, r_drop=5.0)(model, batch)
        loss.value.backward()
        found = gradients(model)
        torch.manual_seed(7)
        first, second = (model.head(model(batch.inputs, batch.target_in))[batch.target_mask] for _ in range(2))
        targets = batch.target_out[batch.target_mask]
        # Liang et al. 2021, eq. 2 to 4, halved: both passes are of the same words.
        p, q = first.softmax(-1), second.softmax(-1)
        divergence = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
        losses = [F.cross_entropy(x, targets, label_smoothing=smoothing, reduction="sum") for x in (first, second)]
        expected = (sum(losses) + 5.0 * divergence) / 2
        assert divergence.item() > 0.01
        torch.testing.assert_close(loss.value, expected, rtol=1e-4, atol=1e-4)
        expected.backward()
        for ours, theirs in zip(found, gradients(model), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)

    def test_r_drop_is_for_training_only(self):
        model, batch = tiny(0.3).eval(), batch_of((5, 7), (3, 2))
        plain, dropped = (CrossEntropy(0.1, r_drop=r)(model, batch) for r in (0.0, 5.0))
        assert plain.value.item() == dropped.value.item()

    @pytest.mark.parametrize("number", [0, 3, 6, 60])
    def test_scheduled_sampling_feeds_what_the_model_would_say(self, number):
        half = RecurrentDecoderConfig(width=12, dropout=0.0, attention=AttentionConfig())
        encoder = RecurrentEncoderConfig(width=6, dropout=0.0)
        model = EncoderDecoder(EncoderDecoderConfig(encoder=encoder, decoder=half, tie="none"), 19, 19).train()
        batch = replace(batch_of((5, 7), (3, 2), (4, 7)), number=number)
        config = CrossEntropy(0.0, teacher_forcing_end=0.0, teacher_forcing_batches=6)
        torch.manual_seed(3)
        found = config(model, batch)
        torch.manual_seed(3)
        told = torch.rand(3, 7) < max(0.0, 1 - number / 6)
        words = batch.target_in.clone()
        for t in range(1, 7):
            own = model.head(model(batch.inputs, words[:, :t])[:, -1]).argmax(-1)
            words[:, t] = torch.where(told[:, t], words[:, t], own)
        expected = CrossEntropy(0.0)(model, replace(batch, target_in=words))
        assert found.nll == pytest.approx(expected.nll, rel=1e-5)
        assert told.all() if number == 0 else not torch.equal(words, batch.target_in)
        plain = CrossEntropy(0.0)(model.eval(), batch)
        assert config(model, batch).nll == plain.nll
        found.value.backward()
        assert all(p.grad is not None for p in model.parameters())

    @pytest.mark.parametrize("wrong", [{"smoothing": 1.0}, {"smoothing": -0.1}, {"r_drop": -1.0}])
    def test_impossible_settings_are_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CrossEntropy(**wrong)
