from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqloom.data.batches.batch import pad
from seqloom.decoding.config import BeamSearch, DecodingConfig
from seqloom.decoding.job import Task
from seqloom.decoding.results import Hypothesis
from seqloom.decoding.search import decode
from seqloom.errors import DataError, UsageError
from seqloom.inspection.capture import look
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.memory import Memory
from seqloom.nn.positions import Alibi, Learned, PositionConfig, Relative, Rotary, Sinusoidal
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.seq2seq.predictor import Translator
from seqloom.text.tokenizer import Tokenizer, WordLevel
from seqloom.text.training import train_tokenizer

TOKENIZER = train_tokenizer(WordLevel(), ["one two three four five six seven eight nine ten eleven"])
TEXTS = [
    "one two three four five six seven",
    "two",
    "three one",
    "nine nine nine nine ten eleven",
    "eight seven six five four three two one two three four",
    "seven eleven five",
]
BEAMS = BeamSearch(beam=4, n_best=4, max_length=9)


def build(positions: PositionConfig | None = None, **options: Any) -> EncoderDecoder:
    """A model of random weights with opinions of its own, which never says <pad>, <unk> or <s>."""
    stack = TransformerConfig(layers=2, width=24, inner=29, heads=2, positions=positions or Sinusoidal(), **options)
    torch.manual_seed(3)
    model = EncoderDecoder(
        EncoderDecoderConfig(encoder=stack, decoder=stack, tie="none"), TOKENIZER.vocab_size, TOKENIZER.vocab_size
    )
    with torch.no_grad():
        model.head.weight *= 2
        norm = (
            model.decoder.stack.norm
            if stack.norm_position == "before"
            else model.decoder.stack.blocks[-1].feedforward_norm
        )
        norm.bias[0] += 9.0
        model.head.weight[:, 0] = 0.0
        model.head.weight[:3, 0] = -9.0
    return model.eval()


def translator(model: EncoderDecoder | None = None, **options: Any) -> Translator:
    return Translator(model or build(), TOKENIZER, TOKENIZER, BEAMS, **options)


def hypotheses(found: Translator, texts: list[str], config: DecodingConfig) -> list[list[Hypothesis]]:
    ids = found.encode(texts)
    return found.hypotheses(ids, config)


def alike(one: list[list[Hypothesis]], other: list[list[Hypothesis]]) -> None:
    assert [[h.ids for h in row] for row in one] == [[h.ids for h in row] for row in other]
    for a, b in zip(one, other, strict=True):
        assert [h.score for h in a] == pytest.approx([h.score for h in b], abs=1e-4)
        assert [h.log_p for h in a] == pytest.approx([h.log_p for h in b], abs=1e-4)


@dataclass(frozen=True)
class Written:
    """A state that keeps no cache: the words so far, and the memory."""

    ids: Tensor
    memory: Memory

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Written:
        ids = self.ids if rows is None else self.ids[rows]
        return Written(ids, self.memory if sentences is None else self.memory.select(sentences))


def recomputed(model: EncoderDecoder, ids: list[np.ndarray], config: DecodingConfig) -> list[list[Hypothesis]]:
    """The same search, with every step computed from the first word on."""

    def step(last: Tensor, state: Written) -> tuple[Tensor, Written]:
        target = torch.cat((state.ids[: len(last)], last), dim=1)
        copies = len(last) // len(state.memory.states)
        rows = torch.arange(len(state.memory.states)).repeat_interleave(copies)
        hidden, _ = model.decode(target, model.start(state.memory.select(rows), keep=False))
        return model.head(hidden[:, -1]), Written(target, state.memory)

    source, mask = pad(ids)
    task = Task(TOKENIZER.start, TOKENIZER.end, torch.full((len(ids),), config.max_length))
    with torch.inference_mode():
        empty = torch.empty(len(ids), 0, dtype=torch.long)
        return decode(step, Written(empty, model.encode(Inputs.text(source, mask))), task, config)


KINDS = [
    {},
    {"norm_position": "after"},
    {"kv_heads": 1},
    {"positions": Rotary()},
    {"positions": Alibi()},
    {"positions": Relative(8, 16)},
    {"positions": Learned(20)},
]


class TestModel:
    @pytest.mark.parametrize("options", KINDS, ids=str)
    @pytest.mark.parametrize("beam", [1, 4])
    def test_batch_mates_and_the_cache_change_nothing(self, options, beam):
        model = build(**options)
        found = translator(model)
        config = replace(BEAMS, beam=beam, n_best=beam, min_length=3)
        together = hypotheses(found, TEXTS, config)
        assert len({row[0].ids for row in together}) > 1  # it does look at the source
        alike(together, [row for text in TEXTS for row in hypotheses(found, [text], config)])
        alike(together, recomputed(model, found.encode(TEXTS), config))

    def test_order_and_batches_are_of_no_consequence(self):
        model = build()
        expected = translator(model).translate(TEXTS)
        for rows in (1, 2, 5):
            found = translator(model, rows=rows).translate(TEXTS[::-1])[::-1]
            assert [[t.text for t in row] for row in found] == [[t.text for t in row] for row in expected]

    def test_more_sentences_than_a_batch_holds(self):
        model = build()
        options = {"beam": 3, "n_best": 1, "max_length": 0}  # so that they end one after the other
        found = translator(model, rows=50)(TEXTS * 9, **options)
        assert found == translator(model)(TEXTS, **options) * 9
        assert len({len(text.split()) for text in found}) > 3

    def test_the_same_text_under_another_seed_of_sampling(self):
        found = translator()
        one, again, other = (found(TEXTS, sample=True, n_best=1, seed=seed) for seed in (1, 1, 2))
        assert one == again != other


class TestScore:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"beam": 1, "n_best": 1},
            {"min_length": 5},
            {"no_repeat_ngram": 1},
            {"stop": "first", "length_penalty": 0.0},
            {"coverage_penalty": 0.5},
            {"sample": True, "temperature": 1.7, "n_best": 6, "top_k": 5},
        ],
        ids=str,
    )
    def test_decoding_and_scoring_agree(self, options):
        found = translator(rows=4)
        results = found.translate(TEXTS, **options)
        pairs = [(text, t) for text, row in zip(TEXTS, results, strict=True) for t in row]
        scores = found.score([text for text, _ in pairs], [t.text for _, t in pairs])
        assert len(pairs) >= len(TEXTS)
        assert scores == pytest.approx([t.log_p for _, t in pairs], abs=1e-4)

    def test_forced_prefixes(self):
        found = translator()
        prefixes = ["one", "", "two two two", "eleven ten nine", "four", "six"]
        results = found.translate(TEXTS, prefixes)
        for text, prefix, row in zip(TEXTS, prefixes, results, strict=True):
            assert len({t.text for t in row}) == 4
            assert all(t.text.split()[: len(prefix.split())] == prefix.split() for t in row)
            assert found.score([text] * 4, [t.text for t in row]) == pytest.approx([t.log_p for t in row], abs=1e-4)

    def test_a_target_is_scored_by_its_own_words_alone(self):
        found = translator()
        targets = ["one", "two three four five six", "", "nine", "ten ten", "one two three"]
        together = found.score(TEXTS, targets)
        alone = [found.score([text], [target])[0] for text, target in zip(TEXTS, targets, strict=True)]
        assert together == pytest.approx(alone, abs=1e-4)

    def test_loops_over_the_words(self):
        found, text, target = translator(), TEXTS[0], "nine one"
        (source,), (words,) = found.encode([text]), TOKENIZER.encode([target])
        total, written = 0.0, [TOKENIZER.start]
        for word in [*words.tolist(), TOKENIZER.end]:
            hidden = found.model(Inputs.text(torch.tensor([source.tolist()])), torch.tensor([written]))
            total += found.model.head(hidden[0, -1]).double().log_softmax(-1)[word].item()
            written.append(word)
        assert found.score([text], [target]) == [pytest.approx(total, abs=1e-4)]

    def test_an_empty_text_has_the_empty_translation_alone(self):
        found = translator()
        assert found.score(["", "", "one"], ["", "one", ""])[:2] == [0.0, -math.inf]
        assert [(t.text, t.log_p) for t in found.translate(["", "one"])[0]] == [("", 0.0)]
        assert found([]) == found.score([], []) == []


class TestCoverage:
    def received(self, model: EncoderDecoder, source: np.ndarray, ids: tuple[int, ...]) -> Tensor:
        """The attention each source position gets from all steps, end included; last layer, mean of its heads."""
        target = torch.tensor([[TOKENIZER.start, *ids]])
        with torch.inference_mode(), look(model) as seen:
            model(Inputs.text(torch.tensor([source.tolist()])), target)
        return seen.weights(seen.groups()["cross-attention"][-1])[0].mean(0).sum(0)

    @pytest.mark.parametrize("options", [{}, {"positions": Rotary(), "kv_heads": 1}], ids=str)
    def test_scores_are_those_of_the_equation(self, options):
        model = build(**options)
        found = translator(model)
        config = replace(BEAMS, length_penalty=0.8, coverage_penalty=0.4)
        sources = found.encode(TEXTS)
        for source, row in zip(sources, hypotheses(found, TEXTS, config), strict=True):
            for h in row:
                coverage = self.received(model, source, h.ids).clamp(max=1.0).log().sum().item()
                expected = h.log_p / (len(h.ids) + 1) ** 0.8 + 0.4 * coverage
                assert h.score == pytest.approx(expected, abs=1e-4)

    def test_it_prefers_what_covers_more(self):
        model = build()
        found = translator(model)
        sources = found.encode(TEXTS)
        totals = []
        for penalty in (0.0, 5.0):
            best = [row[0] for row in hypotheses(found, TEXTS, replace(BEAMS, coverage_penalty=penalty))]
            pairs = zip(sources, best, strict=True)
            totals.append(sum(self.received(model, s, h.ids).clamp(max=1.0).log().sum().item() for s, h in pairs))
        assert totals[1] > totals[0]

    def test_padding_counts_for_nothing(self):
        found = translator()
        config = replace(BEAMS, coverage_penalty=0.4)
        alike(hypotheses(found, TEXTS, config), [row for t in TEXTS for row in hypotheses(found, [t], config)])


class TestLimits:
    def test_long_texts_are_refused_or_cut(self):
        model, long = build(), "one two three four five"
        with pytest.raises(DataError) as caught:
            translator(model, max_source=5).translate(["two", long])
        assert caught.value.where == "text 2"
        cutting = translator(model, max_source=5, long_input="cut")
        assert cutting([long]) == cutting(["one two three four"])
        assert cutting.cuts == 1

    def test_positions_end_the_result(self):
        model = build(Learned(6))
        for beam in (1, 3):
            for row in translator(model).translate(
                ["one", "two three"], beam=beam, n_best=1, max_length=50, min_length=50
            ):
                assert len(row[0].text.split()) == 5

    def test_targets_and_prefixes_beyond_the_positions(self):
        found = translator(build(Learned(4)))
        assert len(found.score(["one"], ["one two three"])) == 1
        for call in (found.score, found.translate):
            with pytest.raises(DataError) as caught:
                call(["one", "two"], ["one", "one two three four"])
            assert caught.value.where == "target 2"

    def test_a_prefix_longer_than_a_translation_may_be_is_refused_before_anything_is_computed(self):
        found = translator()
        found.model.encode = None  # type: ignore[assignment]
        for options, most in (({"max_length": 3}, 3), ({"max_length": 0}, 2 * 3 + 20)):
            with pytest.raises(
                DataError, match=f"its prefix has {most + 1} tokens, its translation may have {most}"
            ) as caught:
                found.translate(["one", "two three"], ["", " ".join(["four"] * (most + 1))], **options)
            assert caught.value.where == "text 2"
        (row,) = translator().translate(["two three"], [" ".join(["four"] * 3)], max_length=3)
        assert {t.text for t in row} == {"four four four"}

    def test_a_wide_beam_changes_only_how_many_texts_are_computed_at_a_time(self):
        found = translator()
        assert [len(part) for part in found._parts([np.arange(3)] * 7, 3)] == [3, 3, 1]
        options = {"beam": 700, "n_best": 2, "max_length": 2}
        alone = [found.translate([text], **options)[0] for text in TEXTS]
        for row, own in zip(found.translate(TEXTS, **options), alone, strict=True):
            assert [t.text for t in row] == [t.text for t in own]

    def test_without_a_max_length_it_is_twice_the_source_and_20(self):
        (row,) = translator().translate(["one two"], max_length=0, min_length=1000)
        assert {len(t.text.split()) for t in row} == {2 * 3 + 20}


class TestMistakes:
    def test_a_text_instead_of_a_list(self):
        with pytest.raises(UsageError, match="list"):
            translator().translate("one")
        with pytest.raises(UsageError, match="list"):
            translator().score("one", ["one"])

    @pytest.mark.parametrize("option", [{"beams": 3}, {"beam": 0}, {"n_best": 9}, {"temperature": -1.0}])
    def test_impossible_options(self, option):
        with pytest.raises(UsageError) as caught:
            translator().translate(["one"], **option)
        assert next(iter(option)) in str(caught.value)

    @pytest.mark.parametrize("targets", [["one"], "on", []])
    def test_not_one_target_for_each_text(self, targets):
        for call in (translator().score, translator().translate):
            with pytest.raises(UsageError, match="2 texts"):
                call(["one", "two"], targets)


def test_other_tokenizers_on_each_side():
    source: Tokenizer = train_tokenizer(WordLevel(), ["alpha beta gamma"])
    stack = TransformerConfig(layers=1, width=24, inner=29, heads=2)
    config = EncoderDecoderConfig(encoder=stack, decoder=stack, tie="decoder-output")
    found = Translator(EncoderDecoder(config, source.vocab_size, TOKENIZER.vocab_size), source, TOKENIZER, BEAMS)
    known = {*TOKENIZER.tokens(range(TOKENIZER.vocab_size)), ""}
    for row in found.translate(["gamma beta", "alpha"]):
        assert all(word in known for t in row for word in t.text.split(" "))
