from __future__ import annotations

import lzma
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqloom.data.batches.batch import SequenceBatch, pad
from seqloom.data.batches.order import BatchConfig
from seqloom.data.batches.pairs import EncodedPairs, Fixed, PairBatches, Side, make_batch
from seqloom.errors import DataError
from seqloom.text.bpe_dropout import DroppedBPE
from seqloom.text.tokenizer import BPE
from seqloom.text.training import train_tokenizer

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)
START, END = 2, 3


def side(lengths: list[int]) -> Fixed:
    return Fixed([np.array([*range(10, 10 + n - 1), END], dtype=np.int32) for n in lengths])


def paired(source: Side, target: Side, *options: Any) -> PairBatches:
    pairs = EncodedPairs(source, target, range(len(source.lengths(0))))
    return PairBatches(lambda epoch: pairs, *options)


def batches_of(lengths: list[tuple[int, int]], tokens: int, seed: int = 1, **options: Any) -> PairBatches:
    sources, targets = zip(*lengths, strict=True)
    return paired(side(list(sources)), side(list(targets)), START, BatchConfig(tokens, **options), seed)


def corpus(size: int, seed: int = 1) -> list[tuple[int, int]]:
    """Lengths like those of real translations: targets about as long as their sources."""
    draw = np.random.default_rng(seed)
    sources = np.clip(draw.lognormal(2.6, 0.4, size), 2, 60).astype(int)
    return [(int(s), max(2, int(s + draw.normal(0, 2)))) for s in sources]


def content(batch: SequenceBatch) -> dict[str, object]:
    fields = vars(batch) | vars(batch.inputs["text"])
    return {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in fields.items() if k != "inputs"}


class TestOrder:
    @given(lengths=LENGTHS, tokens=st.integers(1, 200), seed=st.integers(0, 5), numbers=st.permutations(range(9)))
    @settings(max_examples=40)
    def test_a_batch_is_a_pure_function_of_seed_and_number(self, lengths, tokens, seed, numbers):
        first = batches_of(lengths, tokens, seed)
        expected = {n: content(first(n)) for n in range(9)}
        second = batches_of(lengths, tokens, seed)
        assert {n: content(second(n)) for n in numbers} == expected
        assert content(batches_of(lengths, tokens, seed)(7)) == expected[7]

    @given(lengths=LENGTHS, tokens=st.integers(1, 200), jitter=st.sampled_from([0.0, 0.5, 3.0]))
    @example(lengths=[(5, 5000)], tokens=10, jitter=0.5)
    @example(lengths=[(1, 5000), *[(3, 2)] * 50], tokens=10, jitter=0.5)
    @example(lengths=[(5000, 1), *[(3, 2)] * 50], tokens=10, jitter=0.5)
    @example(lengths=[*[(3, 100)] * 7, *[(3, 1)] * 7], tokens=10, jitter=0.5)
    @example(lengths=[(1, 1)] * 3, tokens=1, jitter=0.5)
    @settings(max_examples=150)
    def test_every_pair_once_an_epoch(self, lengths, tokens, jitter):
        batches = batches_of(lengths, tokens, jitter=jitter)
        for epoch in range(3):
            rows = [batches(epoch * batches.per_epoch + n).rows for n in range(batches.per_epoch)]
            assert all(rows)
            assert sorted(i for part in rows for i in part) == list(range(len(lengths)))

    def test_epochs_and_seeds_differ(self):
        lengths = corpus(1000)
        batches = batches_of(lengths, 500)
        epochs = [{frozenset(part.tolist()) for part in batches.order.epoch(n)} for n in range(4)]
        orders = [[int(lengths[part[0]][1]) for part in batches.order.epoch(n)] for n in range(4)]
        for n in range(1, 4):
            assert len(epochs[0] & epochs[n]) < len(epochs[0]) / 2
            assert orders[0] != orders[n]
        assert epochs[0] != {frozenset(p.tolist()) for p in batches_of(lengths, 500, seed=2).order.epoch(0)}

    def test_long_and_short_come_in_no_order(self):
        batches = batches_of(corpus(2000), 300)
        means = np.array([np.mean([batches.order.lengths(0)[1][i] for i in part]) for part in batches.order.epoch(0)])
        assert len(means) > 80
        assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


class TestBudget:
    @given(lengths=LENGTHS, tokens=st.integers(1, 300))
    @example(lengths=[(1, 5000), *[(3, 2)] * 50], tokens=10)
    @settings(max_examples=100)
    def test_words_on_average_and_at_most(self, lengths, tokens):
        batches = batches_of(lengths, tokens)
        counted = np.minimum([t for _, t in lengths], tokens)
        # As few batches as hold all words, a sentence beyond the budget counting as all of one.
        assert batches.per_epoch == -(-int(counted.sum()) // tokens)
        longest = int(counted.max())
        for part in batches.order.epoch(0):
            words, share = int(counted[part].sum()), counted.sum() / batches.per_epoch
            assert words <= 1.25 * share + 3 * longest

    def test_a_real_corpus_keeps_near_it(self):
        batches = batches_of(corpus(5000), 2000)
        targets = batches.order.lengths(0)[1]
        words = [int(targets[part].sum()) for part in batches.order.epoch(3)]
        assert np.mean(words) == pytest.approx(2000, rel=0.05)
        assert max(words) < 1.2 * 2000
        assert sorted(words)[1] > 0.7 * 2000  # but for the one at the end

    def test_batches_have_few_sizes(self):
        sizes = [len(part) for part in batches_of(corpus(20_000), 4000).order.epoch(0)]
        assert len(set(sizes)) < len(sizes) / 2

    def test_a_huge_sentence_has_few_beside_it(self):
        batches = batches_of([*corpus(2000), (3000, 3000)], 1000)
        sizes = {len(part) for part in batches.order.epoch(0) if 2000 in part}
        assert batches.per_epoch == pytest.approx(sum(t for _, t in corpus(2000)) / 1000, abs=3)
        assert max(sizes) < 100

    @given(lengths=LENGTHS, tokens=st.integers(1, 300))
    @settings(max_examples=50)
    def test_the_longer_side_can_be_what_counts(self, lengths, tokens):
        counted = np.minimum(np.max(lengths, 1), tokens)
        batches = batches_of(lengths, tokens, count="longer")
        assert batches.per_epoch == -(-int(counted.sum()) // tokens)
        share = counted.sum() / batches.per_epoch
        assert all(int(counted[part].sum()) <= 1.25 * share + 3 * counted.max() for part in batches.order.epoch(0))


class TestFreshTexts:
    def batches(self, drawn: list[int]) -> PairBatches:
        """Texts that grow for five epochs, and are noted as they are drawn."""

        @lru_cache(maxsize=2)
        def draw(epoch: int) -> EncodedPairs:
            drawn.append(epoch)
            grown = min(epoch, 5)
            both = side(np.random.default_rng(epoch).integers(1 + grown, 6 + 4 * grown, 200).tolist())
            return EncodedPairs(both, both, range(200))

        return PairBatches(draw, START, BatchConfig(tokens=150), 1, longest=5)

    def test_batches_are_pure_and_any_step_can_be_the_first(self):
        batches = self.batches([])
        numbers = range(0, 8 * batches.per_epoch, 7)
        expected = {n: content(batches(n)) for n in numbers}
        assert {n: content(batches(n)) for n in reversed(numbers)} == expected
        for n in numbers[::5]:
            drawn: list[int] = []
            assert content(self.batches(drawn)(n)) == expected[n]
            assert set(drawn) == {5, n // batches.per_epoch}  # nothing on the way to it

    def test_the_longest_epoch_fills_the_budget_and_no_other_exceeds_it(self):
        batches = self.batches([])
        words = [np.mean([batches.order.lengths(e)[1][p].sum() for p in batches.order.epoch(e)]) for e in range(9)]
        assert words[5] == pytest.approx(150, rel=0.05)
        assert max(words) < 170
        assert words[0] < 60
        assert all(len(batches.order.epoch(e)) == batches.per_epoch for e in range(9))


class TestPadding:
    @pytest.mark.parametrize("lengths", [corpus(20_000), [(n, n) for n in range(2, 40)] * 200], ids=["noisy", "equal"])
    def test_under_five_percent(self, lengths):
        batches = batches_of(lengths, 3000)
        assert batches.order.padding(0) < 0.05
        assert batches.order.padding(1) < 0.05

    def test_it_is_counted_on_the_real_tensors(self):
        batches = batches_of(corpus(300), 400)
        real = total = 0
        for n in range(batches.per_epoch):
            batch = batches(n)
            source = batch.inputs["text"]
            for ids, mask in ((source.values, source.mask), (batch.target_out, batch.target_mask)):
                real += ids.numel() if mask is None else int(mask.sum())
                total += ids.numel()
        assert batches.order.padding(0) == pytest.approx(1 - real / total)

    def test_lengths_that_change_by_epoch(self):
        texts = [" ".join(["weather"] * n) for n in range(1, 60)] * 10
        tokenizer = train_tokenizer(BPE(size=300), texts[:20])
        dropped = [DroppedBPE(tokenizer, texts, 0.3, seed) for seed in (1, 2)]
        batches = paired(dropped[0], dropped[1], tokenizer.start, BatchConfig(tokens=1500), 1)
        plain = [len(row) + 1 for row in tokenizer.encode(texts)]
        undropped = paired(side(plain), side(plain), START, BatchConfig(tokens=1500), 1)
        for epoch in (0, 1):
            sources, _ = batches.order.lengths(epoch)
            assert sources.sum() > sum(plain)
            # PairBatches of sentences that are alike before dropout are not alike after it.
            stale = sum(int(sources[part].max()) * len(part) for part in undropped.order.epoch(epoch))
            fresh = sum(int(sources[part].max()) * len(part) for part in batches.order.epoch(epoch))
            assert fresh < stale
        assert batches.order.padding(1) < 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("target", ["de", "fr"])
    def test_multi30k(self, target):
        if "SEQLOOM_DATA" not in os.environ:
            pytest.skip("SEQLOOM_DATA is not set")
        folder = Path(os.environ["SEQLOOM_DATA"]) / "multi30k"
        texts = [
            lzma.decompress((folder / f"train.{language}.xz").read_bytes()).decode().split("\n")[:-1]
            for language in ("en", target)
        ]
        tokenizer = train_tokenizer(BPE(), [*texts[0], *texts[1]])
        sides = [Fixed([np.append(row, tokenizer.end) for row in tokenizer.encode(t)]) for t in texts]
        batches = paired(sides[0], sides[1], tokenizer.start, BatchConfig(), 1)
        assert len(sides[0].ids) == 29_000
        for epoch in range(3):
            assert batches.order.padding(epoch) < 0.05


class TestTensors:
    @given(lengths=LENGTHS)
    @settings(max_examples=40)
    def test_a_batch_holds_the_rows(self, lengths):
        sources, targets = ([np.arange(5, 5 + pair[i]) for pair in lengths] for i in (0, 1))
        batch = make_batch(sources, targets, START, range(len(lengths)))
        source = batch.inputs["text"]
        assert batch.tokens == sum(t for _, t in lengths)
        for b, (s, t) in enumerate(lengths):
            assert source.values[b].tolist() == [*range(5, 5 + s), *[0] * (source.values.shape[1] - s)]
            assert batch.target_out[b, :t].tolist() == list(range(5, 5 + t))
            assert batch.target_in[b, :t].tolist() == [START, *range(5, 5 + t - 1)]
            for mask, n in ((source.mask, s), (batch.target_mask, t)):
                assert mask is None or mask[b].tolist() == [i < n for i in range(mask.shape[1])]

    def test_no_mask_where_all_are_of_one_length(self):
        ids, mask = pad([np.array([1, 2]), np.array([3, 4])])
        assert mask is None
        assert ids.tolist() == [[1, 2], [3, 4]]


def test_nothing_to_train_on():
    with pytest.raises(DataError):
        paired(Fixed([]), Fixed([]), START, BatchConfig(), 1)


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"accumulate": 0}, {"jitter": -0.5}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BatchConfig(**wrong)
