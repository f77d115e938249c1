"""Jobs that join and leave: room, reasons, probabilities, adapters, prompts in pieces, and the text of their ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqloom.decoding.config import BeamSearch, Greedy, Sampling
from seqloom.decoding.continuous import Continuous, Update
from seqloom.decoding.encoder_decoder import Writer
from seqloom.decoding.engine import Engine
from seqloom.decoding.job import Job, Request
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from seqloom.nn.embedders import Inputs
from seqloom.nn.linear import Linear
from seqloom.nn.transformer import TransformerConfig

WORDS, END = 13, 2
SMALL = TransformerConfig(layers=2, width=6, inner=10, heads=2, dropout=0.0)


def engine(end: float = -50.0) -> Engine:
    """An engine whose texts end only where `end` is a high logit."""
    torch.manual_seed(5)
    model = LanguageModel(DecoderOnlyConfig(decoder=SMALL, tie=False), WORDS)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    model.head.bias = nn.Parameter(torch.zeros(WORDS).index_fill_(0, torch.tensor([END]), end))
    return Engine(model.eval(), None, 0)


def job(row: list[int], length: int = 6, config: Any = None, **options: Any) -> Job:
    stopped = options.pop("stopped", None)
    return Job(row, Request(length, END, stopped), config or Greedy(), **options)


def all_of(running: Continuous) -> list[Update]:
    updates = []
    while len(running):
        updates += running.step()
    return updates


def test_a_place_that_is_free_goes_to_the_next_one() -> None:
    running = Continuous(engine(), rows=3)
    jobs = [job([1, 4], 50), job([1, 5, 6], 50), job([1], 50), job([1, 7], 3), job([1, 8], 2)]
    for each in jobs:
        running.join(each)
    assert {u.job for u in running.step()} == {*jobs[:3]}
    running.cancel(jobs[1])
    assert {u.job for u in running.step()} == {jobs[0], jobs[2], jobs[3]}
    running.cancel(jobs[4])  # which waits
    running.cancel(jobs[1])  # which has gone
    assert {u.job for u in all_of(running) if u.hypotheses is not None} == {jobs[0], jobs[2], jobs[3]}
    assert running.step() == []


def test_a_job_with_more_hypotheses_than_rows_runs_alone() -> None:
    running = Continuous(engine(), rows=2)
    jobs = [job([1, 4], 3), job([1, 5], 3, BeamSearch(beam=5, n_best=2)), job([1, 6], 3, Sampling(n_best=2))]
    for each in jobs:
        running.join(each)
    finished = [u.job for u in all_of(running) if u.hypotheses is not None]
    assert finished == jobs


def test_the_reason_is_the_end_a_complete_text_or_the_length() -> None:
    endless = engine()
    (by_length,) = [u for u in finished(endless, job([1, 4], 5)) if u.hypotheses]
    assert by_length.hypotheses is not None
    assert by_length.hypotheses[0].reason == "length"
    ids = by_length.hypotheses[0].ids
    assert len(ids) == 5
    (at_the_last,) = [u for u in finished(endless, job([1, 4], 5, stopped=lambda done: len(done) == 5)) if u.hypotheses]
    assert at_the_last.hypotheses is not None
    assert (at_the_last.hypotheses[0].reason, at_the_last.hypotheses[0].ids) == ("stop", ids)
    (by_end,) = [u for u in finished(engine(50.0), job([1, 4], 5)) if u.hypotheses]
    assert by_end.hypotheses is not None
    assert (by_end.hypotheses[0].reason, by_end.hypotheses[0].ids) == ("stop", ())


def finished(made: Any, *jobs: Job, **options: Any) -> list[Update]:
    running = Continuous(made, **options)
    for each in jobs:
        running.join(each)
    return all_of(running)


@torch.no_grad()
def test_probabilities_are_those_of_the_model_whatever_is_allowed() -> None:
    made = engine()
    asked = job([1, 4, 9], 6, Sampling(seed=2, top_k=3, no_repeat_ngram=1, min_length=2), top=4)
    chosen = [c for u in finished(made, job([1, 8, 8, 3], 9), asked) if u.job is asked for c in u.chosen]
    seen = [1, 4, 9]
    assert len(chosen) == 6
    for choice in chosen:
        logits = made.model.head(made.model(Inputs.text(torch.tensor([seen])))[0][0, -1]).float()
        log_p = logits.log_softmax(-1)
        assert choice.log_p == pytest.approx(float(log_p[choice.id]), abs=1e-4)
        assert [i for i, _ in choice.top] == log_p.topk(4).indices.tolist()
        assert [p for _, p in choice.top] == pytest.approx(log_p.topk(4).values.tolist(), abs=1e-4)
        seen.append(choice.id)


def test_a_long_prompt_is_read_between_the_steps_of_others() -> None:
    running = Continuous(engine(), chunk=4)
    first, long = job([1, 4], 40), job([1, *range(3, 13)] * 3, 2)
    running.join(first)
    running.step()
    running.join(long)
    counts, updates = list[int](), running.step()
    while not any(u.job is long for u in updates):
        counts += [len(u.chosen) for u in updates]
        updates = running.step()
    assert counts == [1] * 7  # 32 ids in pieces of 4, and the last one comes with its step
    running.cancel(long)
    running.cancel(first)
    assert len(running) == 0


def test_one_that_is_cancelled_while_it_is_read_is_not_begun() -> None:
    running = Continuous(engine(), chunk=2)
    first, long = job([1, 4], 9), job([1, *range(3, 13)], 2)
    running.join(first)
    running.step()
    running.join(long)
    running.step()
    running.cancel(long)
    assert {u.job for u in all_of(running)} == {first}


class Shift(nn.Module):
    """An adapter of one layer that adds a constant to its outputs."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def beside(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        shape = rows.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
        return shape * self.by * torch.linspace(-1, 1, 6)


@pytest.mark.parametrize("config", [Greedy(), BeamSearch(beam=3), Sampling(seed=4, n_best=2)], ids=lambda c: c.kind)
def test_each_job_has_its_own_adapter(config: Any) -> None:
    made = engine()
    layer: Any = next(m for name, m in made.model.named_modules() if name.endswith("attention.output"))
    assert isinstance(layer, Linear)
    layer.beside = {0: Shift(3.0), 1: Shift(-3.0)}

    def jobs() -> list[Job]:
        return [job([1, 4, i + 3], 5 + i, config, adapter=a) for i, a in enumerate([None, 0, 1, 0])]

    alone = [u.hypotheses for each in jobs() for u in finished(made, each) if u.hypotheses]
    every = jobs()
    together = {u.job: u.hypotheses for u in finished(made, *every) if u.hypotheses}
    assert [h.ids for (h, *_) in alone] == [together[each][0].ids for each in every]
    plain = [u.hypotheses for i in range(4) for u in finished(made, job([1, 4, i + 3], 5 + i, config)) if u.hypotheses]
    assert [h.ids for (h, *_) in alone][1:] != [h.ids for (h, *_) in plain][1:]


def test_a_blank_source_has_one_empty_target() -> None:
    torch.manual_seed(5)
    tiny = EncoderDecoderConfig(encoder=SMALL, decoder=SMALL)
    writer = Writer(EncoderDecoder(tiny, WORDS, WORDS).eval(), start=1, end=END)
    blank, other = writer.job(np.array([], np.int32), Greedy()), writer.job(np.array([4, 5, END]), Greedy(max_length=2))
    results = {u.job: u.hypotheses for u in finished(writer, blank, other) if u.hypotheses}
    assert [h.ids for h in results[blank]] == [()]
    assert other in results


def test_after_an_error_there_are_no_jobs() -> None:
    def failing(ids: Any) -> bool:
        raise ZeroDivisionError

    running = Continuous(engine(), rows=2)
    for each in (job([1, 4], 9), job([1, 5], 9, stopped=failing), job([1, 6], 9)):
        running.join(each)
    with pytest.raises(ZeroDivisionError):
        running.step()
    assert (len(running), running.step()) == (0, [])
    running.join(again := job([1, 4], 3))
    assert [u.job for u in all_of(running) if u.hypotheses] == [again]
