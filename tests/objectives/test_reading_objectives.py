"""The objectives of models that read, against loops over examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqloom.data.batches.batch import ReadingBatch
from seqloom.data.batches.windows import Item, TextBatchConfig, collate, frame
from seqloom.models.encoder import EncoderOnly, EncoderOnlyConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.transformer import TransformerConfig
from seqloom.objectives.reading import Labels, MaskedTokens, Numbers, batch_scores
from seqloom.text.tokenizer import Template

CONFIG = EncoderOnlyConfig(encoder=TransformerConfig(layers=1, width=12, inner=8, heads=2), pooling="mean")
WINDOWS = TextBatchConfig(length=8, long="windows")


def model(**heads: int) -> EncoderOnly:
    return EncoderOnly(CONFIG, 29, heads).double().eval().requires_grad_(False)


def item(size: int, targets: object, second: int | None = None, seed: int = 0) -> Item:
    draw = np.random.default_rng(seed + size)
    text = draw.integers(4, 29, size).astype(np.int32)
    other = None if second is None else draw.integers(4, 29, second).astype(np.int32)
    return Item(frame(text, other, Template((2,), (3,), (3,)), WINDOWS, windows=True), np.array(targets))


def test_a_label_of_windows_is_that_of_the_mean_vector():
    net, items = model(label=3), [item(15, 2), item(3, 0)]
    scores = []
    for one in items:
        pooled = [net.pooled(net(Inputs.text(torch.from_numpy(w.values.astype(np.int64))[None]))) for w in one.windows]
        scores.append(net.heads["label"](torch.stack(pooled).mean(0))[0])
    assert len(items[0].windows) > 1
    torch.testing.assert_close(batch_scores(net, "label", collate(items)), torch.stack(scores))
    found = Labels()(net, collate(items))
    expected = -sum(s.log_softmax(-1)[t] for s, t in zip(scores, (2, 0), strict=True))
    assert float(found.value) == pytest.approx(float(expected), rel=1e-5)
    assert (found.tokens, found.nll) == (2, pytest.approx(float(expected), rel=1e-5))
    smoothed = float(Labels(smoothing=0.3)(net, collate(items)).value)
    even = -sum(s.log_softmax(-1).mean() for s in scores)
    assert smoothed == pytest.approx(float(0.7 * expected + 0.3 * even), rel=1e-5)


def test_numbers_are_squared_differences():
    net, items = model(label=1), [item(4, 0.5), item(2, -1.5)]
    scores = batch_scores(net, "label", collate(items))[:, 0]
    found = Numbers()(net, collate(items))
    expected = float((scores[0] - 0.5) ** 2 + (scores[1] + 1.5) ** 2)
    assert float(found.value) == pytest.approx(expected, rel=1e-5)


def test_words_without_a_label_do_not_count():
    net, one = model(tags=4), item(3, [-1, 2, -1, 0, -1])
    found = Labels()(net, collate([one, item(5, [-1] * 7)]))
    log_p = batch_scores(net, "tags", collate([one]))[0].log_softmax(-1)
    assert float(found.value) == pytest.approx(float(-log_p[1, 2] - log_p[3, 0]), rel=1e-5)
    assert found.tokens == 2


def test_a_span_is_in_the_second_text_or_at_the_very_first_word():
    net, items = model(span=2), [item(2, [[4, 5]], 3), item(1, [[0, 0]], 2)]
    batch = collate(items)
    scores = batch_scores(net, "span", batch)
    assert (scores[0, 1:4] < -1e8).all()
    assert (scores[1, 6:] < -1e8).all()
    assert (scores[:, 0] > -1e8).all()
    log_p = scores.log_softmax(1)
    expected = -(log_p[0, 4, 0] + log_p[0, 5, 1] + log_p[1, 0].sum()) / 2
    found = Labels()(net, batch)
    assert float(found.value) == pytest.approx(float(expected), rel=1e-5)


SPAN = [item(2, [[4, 5]], 3), item(1, [[0, 0]], 2)]
PASSES = {"label": [item(15, 2), item(3, 0)], "tags": [item(3, [-1, 2, -1, 0, -1]), item(5, [-1] * 7)], "span": SPAN}


@pytest.mark.parametrize(("head", "number"), [("label", 3), ("tags", 4), ("span", 2)])
def test_r_drop_is_its_equation(head, number):
    # Liang et al. 2021, eq. 2 to 4, halved, with a loop over what has a label.
    config = replace(CONFIG, encoder=replace(CONFIG.encoder, dropout=0.4))
    net, batch = EncoderOnly(config, 29, {head: number}).double().train(), collate(PASSES[head])
    torch.manual_seed(7)
    smoothing = 0.0 if head == "span" else 0.2
    found = Labels(smoothing, r_drop=3.0)(net, batch)
    torch.manual_seed(7)
    passes = [batch_scores(net, head, batch).log_softmax(1 if head == "span" else -1).detach() for _ in range(2)]
    expected = nll = 0.0
    for at in (batch.targets != -1).nonzero().tolist():
        target = int(batch.targets[tuple(at)])
        # Of a span's two labels each is a position; of others, one of the head's.
        p, q = (x[at[0], :, at[1]] if head == "span" else x[tuple(at)] for x in passes)
        for x, other in ((p, q), (q, p)):
            entropy = -(1 - smoothing) * x[target] - smoothing * x.mean()
            expected += float(entropy + 1.5 * (x.exp() * (x - other)).sum()) / 2
        nll -= float(p[target])
    share = 0.5 if head == "span" else 1.0
    assert not torch.equal(*passes)
    assert found.value.item() == pytest.approx(share * expected, rel=1e-5)
    assert (found.nll, found.tokens) == (pytest.approx(share * nll, rel=1e-5), batch.tokens)
    plain, dropped = (Labels(r_drop=r)(net.eval(), batch) for r in (0.0, 3.0))
    assert plain.value.item() == dropped.value.item()


def test_r_drop_is_not_negative():
    with pytest.raises(ValueError, match="r_drop must be from 0"):
        Labels(r_drop=-1.0)


def test_masked_words_and_pairs():
    net = model(masked=0, next=2)
    ids = torch.randint(4, 29, (2, 6))
    targets = torch.full((2, 6), -1)
    targets[0, 2], targets[1, 4] = 7, 9
    segments = torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)
    inputs = Inputs.text(ids, segments=segments)
    batch = ReadingBatch(inputs, targets, None, 2, pairs=torch.tensor([1, 0]))
    memory = net(inputs)
    log_p = net.score("masked", memory).log_softmax(-1)
    nll = -(log_p[0, 2, 7] + log_p[1, 4, 9])
    pairs = net.score("next", memory).log_softmax(-1)
    found = MaskedTokens(next_weight=0.5)(net, batch)
    assert found.nll == pytest.approx(float(nll), rel=1e-5)
    assert float(found.value) == pytest.approx(float(nll - 0.5 * 2 * (pairs[0, 1] + pairs[1, 0]) / 2), rel=1e-5)
