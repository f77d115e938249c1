from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy, Sampling
from seqloom.decoding.job import Task, beam_rows
from seqloom.decoding.results import Hypothesis
from seqloom.decoding.search import decode

END, START = 0, 99
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Codes:
    """The state of a table: what each row has written so far, as a number, and whose table its sentence has."""

    length: int
    codes: Tensor
    sentences: Tensor

    def select(self, rows: Tensor | None, sentences: Tensor | None = None) -> Codes:
        codes = self.codes if rows is None else self.codes[rows]
        return Codes(self.length, codes, self.sentences if sentences is None else self.sentences[sentences])


class Table:
    """A model of B sentences that scores the next word at random, by everything written before."""

    def __init__(self, seed: int, words: int, longest: int, sentences: int = 1, sharpness: float = 1.5) -> None:
        draw = torch.Generator().manual_seed(seed)
        shape = (sentences, longest + 1, words**longest, words)
        self.scores = sharpness * torch.randn(shape, generator=draw)
        self.words, self.longest, self.rows = words, longest, []

    def state(self) -> Codes:
        B = len(self.scores)
        return Codes(0, torch.zeros(B, dtype=torch.long), torch.arange(B))

    def step(self, last: Tensor, state: Codes) -> tuple[Tensor, Codes]:
        self.rows.append(len(last))
        codes = state.codes if state.length == 0 else state.codes * self.words + last[:, 0]
        owners = state.sentences.repeat_interleave(len(last) // len(state.sentences))
        return self.scores[owners, state.length, codes], Codes(state.length + 1, codes, state.sentences)

    def decode(self, config: DecodingConfig, **task: Any) -> list[list[Hypothesis]]:
        limits = torch.full((len(self.scores),), self.longest)
        self.rows.clear()
        return decode(self.step, self.state(), replace(Task(START, END, limits), **task), config)

    def log_p(self, sentence: int, ids: Sequence[int], end: bool = True) -> float:
        """By definition: the sum over the words of log softmax, in float64."""
        code, total = 0, 0.0
        for t, word in enumerate([*ids, END] if end else ids):
            total += float(self.scores[sentence, t, code].double().log_softmax(-1)[word])
            code = code * self.words + word
        return total

    def all(self, sentence: int) -> dict[Ids, float]:
        lengths = range(self.longest + 1)
        rows = [ids for n in lengths for ids in itertools.product(range(1, self.words), repeat=n)]
        return {ids: self.log_p(sentence, ids) for ids in rows}


def greedy(table: Table, sentence: int) -> Ids:
    code, ids = 0, []
    while len(ids) < table.longest:
        scores = table.scores[sentence, len(ids), code].tolist()
        word = scores.index(max(scores))
        if word == END:
            break
        ids.append(word)
        code = code * table.words + word
    return tuple(ids)


def ranked(found: dict[Ids, float], penalty: float) -> list[tuple[Ids, float]]:
    scores = {ids: log_p / (len(ids) + 1) ** penalty for ids, log_p in found.items()}
    return sorted(scores.items(), key=lambda item: -item[1])


@given(seed=st.integers(0, 10**6), words=st.integers(2, 5), longest=st.integers(1, 5), sentences=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_beam_of_one_is_greedy(seed, words, longest, sentences):
    table = Table(seed, words, longest, sentences)
    for config in (Greedy(), *(BeamSearch(beam=1, stop=stop) for stop in ("first", "likely", "certain"))):
        found = table.decode(config)
        assert [h.ids for (h,) in found] == [greedy(table, b) for b in range(sentences)]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@given(seed=st.integers(0, 10**6), words=st.integers(2, 4), longest=st.integers(1, 3), sentences=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_wide_beam_finds_what_a_search_of_everything_finds(penalty, seed, words, longest, sentences):
    table = Table(seed, words, longest, sentences)
    wide = sum((words - 1) ** n for n in range(longest + 1))
    found = table.decode(BeamSearch(beam=words * wide, n_best=wide, length_penalty=penalty, stop="certain"))
    for b in range(sentences):
        expected = ranked(table.all(b), penalty)
        assert [h.score for h in found[b]] == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-6)
        assert {h.ids for h in found[b]} == {ids for ids, _ in expected}


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@given(seed=st.integers(0, 10**6), words=st.integers(2, 4), longest=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_certain_stops_before_everything_is_seen_and_still_has_the_best(penalty, seed, words, longest):
    table = Table(seed, words, longest, sharpness=4.0)
    (best,) = table.decode(BeamSearch(beam=200, length_penalty=penalty, stop="certain"))[0]
    scores = dict(ranked(table.all(0), penalty))
    assert best.score == pytest.approx(max(scores.values()), rel=1e-5, abs=1e-6)
    assert best.score == pytest.approx(scores[best.ids], rel=1e-5, abs=1e-6)


@given(
    seed=st.integers(0, 10**6),
    beam=st.integers(2, 6),
    penalty=st.sampled_from([0.0, 0.6, 1.0, 1.4]),
    stop=st.sampled_from(["first", "likely", "certain"]),
)
@settings(max_examples=40, deadline=None)
def test_hypotheses_are_sorted_distinct_and_carry_their_probability(seed, beam, penalty, stop):
    table = Table(seed, 5, 4, sentences=3)
    found = table.decode(BeamSearch(beam=beam, n_best=beam, length_penalty=penalty, stop=stop))
    for b, hypotheses in enumerate(found):
        assert len(hypotheses) == beam
        assert len({h.ids for h in hypotheses}) == beam
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for h in hypotheses:
            assert h.log_p == pytest.approx(table.log_p(b, h.ids), abs=1e-4)
            assert h.score == pytest.approx(h.log_p / (len(h.ids) + 1) ** penalty, rel=1e-5, abs=1e-6)


def test_the_end_takes_no_place_in_the_beam():
    table = Table(0, 3, 1)
    table.scores[0, 0, 0] = torch.tensor([0.5, 0.3, 0.2]).log()
    table.scores[0, 1, 1] = torch.tensor([0.1, 0.9, 0.0]).log()
    table.scores[0, 1, 2] = torch.tensor([0.9, 0.1, 0.0]).log()
    (found,) = table.decode(BeamSearch(beam=2, n_best=2, length_penalty=0.0, stop="certain"))
    # The empty one ends at 0.5. Beside it both words go on, so that the second is found: 0.2 * 0.9.
    assert [h.ids for h in found] == [(), (2,)]


def chain(rows: Sequence[dict[int, float]], words: int = 4) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """A model whose probabilities depend on the position alone."""
    logits = torch.full((len(rows), words), -1e4)
    for t, row in enumerate(rows):
        for word, p in row.items():
            logits[t, word] = math.log(p)

    def step(last: Tensor, state: Codes) -> tuple[Tensor, Codes]:
        scores = logits[min(state.length, len(rows) - 1)].expand(len(last), -1).clone()
        return scores, replace(state, length=state.length + 1)

    return step


def steps_taken(step: Callable[..., Any], config: DecodingConfig, limit: int) -> tuple[int, list[Hypothesis]]:
    taken = 0

    def counted(last: Tensor, state: Codes) -> tuple[Tensor, Codes]:
        nonlocal taken
        taken += 1
        return step(last, state)

    state = Codes(0, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    (found,) = decode(counted, state, Task(START, END, torch.tensor([limit])), config)
    return taken, found


class TestStopping:
    # The empty sequence is the most probable by far.
    step = staticmethod(chain([{END: 0.6, 1: 0.3, 2: 0.1}, {END: 0.35, 1: 0.4, 2: 0.25}]))

    def test_first_waits_for_as_many_as_the_beam(self):
        config = BeamSearch(beam=2, stop="first", length_penalty=0.0)
        taken, (best,) = steps_taken(self.step, config, 20)
        assert (taken, best.ids) == (2, ())

    def test_likely_stops_when_nothing_alive_looks_better(self):
        taken, (best,) = steps_taken(self.step, BeamSearch(beam=2, stop="likely", length_penalty=0.0), 20)
        assert (taken, best.ids) == (1, ())

    def test_certain_goes_on_while_a_longer_one_may_win(self):
        # log 0.3 over 21 words would be better than log 0.6 over one.
        taken, _ = steps_taken(self.step, BeamSearch(beam=2, stop="certain", length_penalty=1.0), 20)
        likely, _ = steps_taken(self.step, BeamSearch(beam=2, stop="likely", length_penalty=1.0), 20)
        assert likely == 1 < taken

    def test_certain_without_a_length_penalty_stops_at_once(self):
        taken, _ = steps_taken(self.step, BeamSearch(beam=2, stop="certain", length_penalty=0.0), 20)
        assert taken == 1

    def test_n_best_is_waited_for(self):
        for stop in ("likely", "certain"):
            config = BeamSearch(beam=3, n_best=3, stop=stop, length_penalty=0.0)
            _, found = steps_taken(self.step, config, 20)
            assert len(found) == 3

    def test_the_limit_ends_what_never_ends(self):
        endless = chain([{1: 0.6, 2: 0.4}])
        taken, found = steps_taken(endless, BeamSearch(beam=2, n_best=2), 7)
        assert taken == 8
        assert [len(h.ids) for h in found] == [7, 7]


class TestLengths:
    @given(seed=st.integers(0, 10**6), beam=st.integers(1, 4), least=st.integers(1, 6))
    @settings(max_examples=30, deadline=None)
    def test_min_length_without_a_change_to_the_probabilities(self, seed, beam, least):
        table = Table(seed, 4, 4, sentences=2, sharpness=3.0)
        for b, hypotheses in enumerate(table.decode(BeamSearch(beam=beam, n_best=beam, min_length=least))):
            for h in hypotheses:
                assert min(least, 4) <= len(h.ids) <= 4
                assert h.log_p == pytest.approx(table.log_p(b, h.ids), abs=1e-4)

    @given(
        seed=st.integers(0, 10**6), beam=st.integers(1, 4), limits=st.lists(st.integers(0, 4), min_size=3, max_size=3)
    )
    @settings(max_examples=30, deadline=None)
    def test_each_sentence_has_its_own_limit(self, seed, beam, limits):
        table = Table(seed, 4, 4, sentences=3)
        for b, hypotheses in enumerate(table.decode(BeamSearch(beam=beam), limits=torch.tensor(limits))):
            (best,) = hypotheses
            assert len(best.ids) <= limits[b]
            assert best.log_p == pytest.approx(table.log_p(b, best.ids), abs=1e-4)

    def test_min_length_is_searched_as_if_shorter_ones_did_not_exist(self):
        table = Table(11, 4, 3)
        (found,) = table.decode(BeamSearch(beam=200, n_best=5, min_length=2, length_penalty=0.6, stop="certain"))
        long = {ids: log_p for ids, log_p in table.all(0).items() if len(ids) >= 2}
        assert [h.ids for h in found] == [ids for ids, _ in ranked(long, 0.6)[:5]]

    def test_nothing_else_to_say(self):
        # A vocabulary of the end alone: min_length cannot be had, and the result is still a number.
        scores = torch.zeros(1, 1)
        state = Codes(0, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
        config = BeamSearch(beam=2, min_length=3)
        ((best,),) = decode(
            lambda last, s: (scores.expand(len(last), 1), s), state, Task(5, END, torch.tensor([4])), config
        )
        assert (best.ids, best.log_p) == ((), 0.0)


class TestPrefixes:
    @given(
        seed=st.integers(0, 10**6),
        beam=st.integers(1, 5),
        prefixes=st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=3, max_size=3),
    )
    @settings(max_examples=40, deadline=None)
    def test_results_begin_with_them_and_pay_for_them(self, seed, beam, prefixes):
        table = Table(seed, 4, 4, sentences=3)
        rows = beam_rows(prefixes, torch.device("cpu"))
        assert (rows is None) == (not any(prefixes))
        for b, hypotheses in enumerate(table.decode(BeamSearch(beam=beam, n_best=beam), prefixes=rows)):
            assert hypotheses
            for h in hypotheses:
                assert list(h.ids[: len(prefixes[b])]) == prefixes[b]
                assert h.log_p == pytest.approx(table.log_p(b, h.ids), abs=1e-4)

    def test_the_rest_is_the_best_there_is(self):
        table = Table(5, 4, 3)
        rows = beam_rows([[3, 1]], torch.device("cpu"))
        (found,) = table.decode(BeamSearch(beam=200, n_best=3, stop="certain"), prefixes=rows)
        begun = {ids: log_p for ids, log_p in table.all(0).items() if ids[:2] == (3, 1)}
        assert [h.ids for h in found] == [ids for ids, _ in ranked(begun, 1.0)[:3]]

    def test_a_prefix_stands_above_what_is_forbidden(self):
        table = Table(5, 4, 4)
        rows = beam_rows([[2, 2, 2]], torch.device("cpu"))
        ((best,),) = table.decode(BeamSearch(beam=2, no_repeat_ngram=1), prefixes=rows)
        assert best.ids[:3] == (2, 2, 2)
        assert best.ids[3:] in {(), (1,), (3,)}
        assert best.log_p == pytest.approx(table.log_p(0, best.ids), abs=1e-4)

    def test_a_prefix_beyond_the_limit_is_the_whole_result(self):
        table = Table(5, 4, 4)
        rows = beam_rows([[2, 1, 3]], torch.device("cpu"))
        ((best,),) = table.decode(BeamSearch(beam=2), prefixes=rows, limits=torch.tensor([1]))
        assert best.ids == (2, 1, 3)


class TestBatches:
    @given(
        seed=st.integers(0, 10**6),
        beam=st.integers(1, 4),
        order=st.permutations(range(5)),
        options=st.fixed_dictionaries(
            {},
            optional={
                "no_repeat_ngram": st.integers(1, 2),
                "min_length": st.integers(1, 3),
                "stop": st.sampled_from(["first", "certain"]),
                "repetition_penalty": st.just(1.5),
            },
        ),
    )
    @settings(max_examples=40, deadline=None)
    def test_batch_mates_and_order_change_nothing(self, seed, beam, order, options):
        table = Table(seed, 4, 4, sentences=5)
        config = BeamSearch(beam=beam, n_best=beam, **options)
        limits = torch.tensor([4, 1, 3, 0, 4])
        alone = []
        for b in range(5):
            one = Table(seed, 4, 4, sentences=5)
            one.scores = one.scores[b : b + 1]
            alone += one.decode(config, limits=limits[b : b + 1])
        assert table.decode(config, limits=limits) == alone
        table.scores = table.scores[list(order)]
        assert table.decode(config, limits=limits[list(order)]) == [alone[b] for b in order]

    def test_finished_sentences_are_dropped(self):
        limits = torch.tensor([0, 2] * 20 + [5] * 7)
        table = Table(3, 4, 5, sentences=len(limits))
        table.scores[:, :, :, END] = -30.0  # nothing ends before its limit
        for beam in (1, 3):
            found = table.decode(BeamSearch(beam=beam, stop="first"), limits=limits)
            assert [len(h.ids) for (h,) in found] == limits.tolist()
            # One row a sentence, then `beam`; a few that are done stay so that the counts of rows are multiples.
            live = [47, 27 * beam, 27 * beam, 7 * beam, 7 * beam, 7 * beam]
            assert len(table.rows) == len(live)
            assert all(n <= rows < n + 16 * beam for n, rows in zip(live, table.rows, strict=True))

    def test_no_sentence(self):
        assert Table(3, 4, 2, sentences=1).decode(BeamSearch()) != []
        empty = Codes(0, torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
        assert (
            decode(Table(3, 4, 2).step, empty, Task(START, END, torch.zeros(0, dtype=torch.long)), BeamSearch()) == []
        )

    def test_the_scores_a_model_gave_are_not_written_on(self):
        table = Table(3, 4, 3, sentences=2)
        before = table.scores.clone()
        rows = beam_rows([[1], [2, 2]], torch.device("cpu"))
        options = {"min_length": 2, "no_repeat_ngram": 2, "repetition_penalty": 1.3}

        def direct(last: Tensor, state: Codes) -> tuple[Tensor, Codes]:
            return table.scores[0, 0, : len(last)], replace(state, length=state.length + 1)

        decode(direct, table.state(), Task(START, END, torch.tensor([3, 3]), rows), BeamSearch(beam=2, **options))
        assert torch.equal(table.scores, before)


class TestSampling:
    def test_draws_follow_the_probabilities(self):
        table = Table(7, 4, 2)
        size = 4000
        drawn = [table.decode(Sampling(n_best=size // 4, seed=seed))[0] for seed in range(4)]
        counts: dict[Ids, int] = {}
        for h in (h for row in drawn for h in row):
            counts[h.ids] = counts.get(h.ids, 0) + 1
        # At the limit the end is forced, so what has two words is drawn without regard to its last factor.
        p = {ids: math.exp(table.log_p(0, ids, end=len(ids) < 2)) for ids in table.all(0)}
        assert sum(p.values()) == pytest.approx(1)
        chi = sum((counts.get(ids, 0) - size * q) ** 2 / (size * q) for ids, q in p.items())
        freedom = len(p) - 1  # 12: a statistic beyond mean + 6 sigma is no chance
        assert chi < freedom + 6 * math.sqrt(2 * freedom)

    def test_every_draw_carries_its_probability(self):
        table = Table(7, 4, 3, sentences=2)
        config = Sampling(n_best=9, temperature=2.0, top_k=3, min_length=1)
        found = table.decode(config)
        assert [len(hypotheses) for hypotheses in found] == [9, 9]
        for b, hypotheses in enumerate(found):
            assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
            for h in hypotheses:
                assert 1 <= len(h.ids) <= 3
                assert h.log_p == pytest.approx(table.log_p(b, h.ids), abs=1e-4)
                assert h.score == pytest.approx(h.log_p / (len(h.ids) + 1), rel=1e-5)

    def test_the_seed_repeats_and_another_does_not(self):
        table = Table(7, 5, 4, sentences=3)
        one, again, other = (table.decode(Sampling(n_best=5, seed=seed)) for seed in (1, 1, 2))
        assert one == again != other

    def test_a_narrow_choice_is_greedy(self):
        table = Table(7, 5, 4, sentences=3)
        expected = [greedy(table, b) for b in range(3)]
        for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-4}):
            found = table.decode(Sampling(n_best=3, **narrow))
            assert [[h.ids for h in hypotheses] for hypotheses in found] == [[ids] * 3 for ids in expected]

    def test_samples_may_begin_alike(self):
        table = Table(7, 4, 3, sentences=2)
        rows = beam_rows([[2, 1], [3]], torch.device("cpu"))
        found = table.decode(Sampling(n_best=6), prefixes=rows)
        assert {h.ids[:2] for h in found[0]} == {(2, 1)}
        assert {h.ids[0] for h in found[1]} == {3}
        for b, hypotheses in enumerate(found):
            for h in hypotheses:
                assert h.log_p == pytest.approx(table.log_p(b, h.ids), abs=1e-4)


class TestRepetition:
    @given(seed=st.integers(0, 10**6), size=st.integers(1, 3), beam=st.integers(1, 3))
    @settings(max_examples=30, deadline=None)
    def test_no_ngram_twice_and_probabilities_unchanged(self, seed, size, beam):
        table = Table(seed, 3, 6, sharpness=2.0)
        for h in table.decode(BeamSearch(beam=beam, n_best=beam, no_repeat_ngram=size))[0]:
            grams = [h.ids[i : i + size] for i in range(len(h.ids) - size + 1)]
            assert len(set(grams)) == len(grams)
            assert h.log_p == pytest.approx(table.log_p(0, h.ids), abs=1e-4)

    @pytest.mark.parametrize("config", [BeamSearch(beam=2, no_repeat_ngram=1), Sampling(no_repeat_ngram=1)])
    def test_a_sentence_that_is_done_may_have_nothing_left_to_say(self, config):
        # The second is forced through more words than there are, while the first, long done, is carried along.
        table = Table(4, 3, 7, sentences=2)
        rows = beam_rows([[], [1, 2] * 3], torch.device("cpu"))
        table.scores[0, :, :, END] = 9.0
        first, second = table.decode(config, prefixes=rows)
        assert (first[0].ids, second[0].ids) == ((), (1, 2) * 3)
        for b, h in enumerate((*first, *second)):
            assert h.log_p == pytest.approx(table.log_p(b, h.ids), abs=1e-4)

    def test_a_penalty_ends_a_loop(self):
        looping = chain([{1: 0.5, 2: 0.3, END: 0.2}])
        config = Greedy()
        assert steps_taken(looping, config, 6)[1][0].ids == (1,) * 6
        # 4 log 0.5 is below log 0.3, then 4 log 0.3 and 4 log 0.5 below log 0.2: two words and the end
        assert steps_taken(looping, replace(config, repetition_penalty=4.0), 6)[1][0].ids == (1, 2)


def test_without_a_prompt_the_start_counts_by_option():
    """As in transformers, where the ids of an encoder-decoder begin with it: 4 / 2 is less than 3."""

    def step(last: Tensor, state: Codes) -> tuple[Tensor, Codes]:
        return torch.tensor([[0.0, 4.0, 3.0]]).expand(len(last), 3), state

    for start in (1, torch.tensor([1, 1])):
        task = Task(start, 0, torch.tensor([1, 1]))
        for counted, word in ((False, 1), (True, 2)):
            config = Greedy(repetition_penalty=2.0, count_prompt=counted)
            found = decode(step, Codes(0, torch.zeros(2, dtype=torch.long), torch.arange(2)), task, config)
            assert [h.ids for (h,) in found] == [(word,), (word,)]


class TestCoverage:
    def attention(self, table: Table) -> tuple[Callable[..., Any], Callable[[], Tensor], Callable[[Ids, int], Tensor]]:
        """A step that also attends: to each of three positions by the last word alone."""
        weights = torch.rand(table.words + 1, 3, generator=torch.Generator().manual_seed(1)).softmax(-1)
        seen: list[Tensor] = []

        def step(last: Tensor, state: Codes) -> tuple[Tensor, Codes]:
            seen[:] = [weights[last[:, 0].clamp(max=table.words)]]
            return table.step(last, state)

        def total(ids: Ids, positions: int) -> Tensor:
            received = torch.stack([weights[min(word, table.words)] for word in (START, *ids)]).double().sum(0)
            return received[:positions].clamp(max=1.0).log().sum()

        return step, lambda: seen[0], total

    @given(seed=st.integers(0, 10**6), sentences=st.integers(1, 3))
    @settings(max_examples=20, deadline=None)
    def test_scores_are_those_of_the_equation(self, seed, sentences):
        table = Table(seed, 4, 3, sentences)
        step, read, total = self.attention(table)
        mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])[:sentences]
        task = Task(START, END, torch.full((sentences,), 3), None, read, mask)
        config = BeamSearch(beam=200, n_best=4, length_penalty=0.6, coverage_penalty=0.4, stop="certain")
        for b, hypotheses in enumerate(decode(step, table.state(), task, config)):
            positions = int(mask[b].sum())
            scores = {
                ids: log_p / (len(ids) + 1) ** 0.6 + 0.4 * float(total(ids, positions))
                for ids, log_p in table.all(b).items()
            }
            expected = sorted(scores.values(), reverse=True)[:4]
            assert [h.score for h in hypotheses] == pytest.approx(expected, rel=1e-4)
            assert [scores[h.ids] for h in hypotheses] == pytest.approx(expected, rel=1e-4)

    def test_padding_and_batch_mates_change_no_score(self):
        table = Table(3, 4, 3, sentences=2)
        step, read, _ = self.attention(table)
        mask = torch.tensor([[True, True, True], [True, True, False]])
        config = BeamSearch(beam=3, n_best=3, coverage_penalty=0.3)
        both = decode(step, table.state(), Task(START, END, torch.tensor([3, 3]), None, read, mask), config)
        for b in (0, 1):
            one = Table(3, 4, 3, sentences=2)
            one.scores = one.scores[b : b + 1]
            step, read, _ = self.attention(one)
            task = Task(START, END, torch.tensor([3]), None, read, mask[b : b + 1])
            assert decode(step, one.state(), task, config) == [both[b]]
