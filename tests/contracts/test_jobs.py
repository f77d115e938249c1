"""What a job gives does not depend on what else is decoded: for every decoder, with and without an encoder."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_language_models import FAMILY as READERS
from test_models import CHOICES, DECODERS, config_of

from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy, Sampling
from seqloom.decoding.continuous import Continuous
from seqloom.decoding.encoder_decoder import Writer
from seqloom.decoding.engine import Engine
from seqloom.decoding.job import Job, Request
from seqloom.decoding.results import Choice, Hypothesis
from seqloom.models.decoder import DecoderOnlyConfig, LanguageModel
from seqloom.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, cross_attentions
from seqloom.nn.embedders import EmbedderConfig
from seqloom.nn.transformer import TransformerConfig

V, START, END, CONTEXT = 17, 1, 2, 9
LANGUAGE_MODELS = [config for config in READERS if isinstance(config.embedder, EmbedderConfig)]
WAYS: list[DecodingConfig] = [
    Greedy(),
    Sampling(seed=3, top_p=0.95),
    BeamSearch(beam=3, n_best=2, length_penalty=0.6),
    Greedy(repetition_penalty=1.5, count_prompt=True),
    Sampling(seed=8, n_best=3, temperature=0.7),
    Sampling(seed=4, top_p=0.95),
    BeamSearch(beam=4, no_repeat_ngram=2, min_length=3, count_prompt=True, stop="certain"),
    BeamSearch(beam=3, n_best=2, length_penalty=0.6),
]
COVERING = BeamSearch(beam=2, n_best=2, coverage_penalty=0.3)


@dataclass(frozen=True)
class Maker:
    """An engine, and what makes a job for it: of a row of ids and a config, of at most some length."""

    engine: Any
    job: Callable[[list[int], DecodingConfig, int], Job]
    covers: bool = False

    def jobs(self, seed: int, count: int = 6) -> list[Job]:
        draw = random.Random(seed)
        jobs = []
        for i in range(count):
            row = [draw.randrange(3, V) for _ in range(draw.randrange(1, 8))]
            config = COVERING if self.covers and i % 4 == 3 else WAYS[(seed + i) % len(WAYS)]
            job = self.job(row, config, draw.choice([2, 5, 8]))
            if i % 3 == 1:
                job = replace(job, request=replace(job.request, stopped=lambda ids: ids[-1] % 5 == 0))
            if i % 3 == 2:
                job = replace(job, request=replace(job.request, prefix=(4, 3)))
            jobs.append(replace(job, top=2 if config.rows == 1 and i % 2 else None))
        return jobs


def drawn(model: torch.nn.Module) -> Any:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.double().eval()


@cache
def language_model(config: DecoderOnlyConfig) -> Maker:
    torch.manual_seed(0)
    model = drawn(LanguageModel(config, V))
    engine = Engine(model, None if model.carries else CONTEXT, 0)
    return Maker(engine, lambda row, way, most: Job([START, *row], Request(most, END), way))


@cache
def translator(config: EncoderDecoderConfig) -> Maker:
    torch.manual_seed(0)
    writer = Writer(drawn(EncoderDecoder(config, V, V)), start=START, end=END, suppressed=(0,))

    def job(row: list[int], way: DecodingConfig, most: int) -> Job:
        return writer.job(np.array([*row, END]), replace(way, max_length=max(most, way.min_length)))

    return Maker(writer, job, covers=bool(cross_attentions(writer.model)))


def finished(
    engine: Any,
    jobs: Mapping[Job, int],
    cancelled: Mapping[Job, int] | None = None,
    **options: Any,
) -> dict[Job, tuple[Sequence[Hypothesis], list[Choice]]]:
    """What becomes of jobs that join, and of which some are cancelled, before steps of these numbers."""
    running, results, chosen, step = Continuous(engine, **options), {}, {job: list[Choice]() for job in jobs}, 0
    waiting = dict(jobs)
    while waiting or len(running):
        for job, number in [*waiting.items()]:
            if number <= step:
                running.join(job)
                del waiting[job]
        for job, number in (cancelled or {}).items():
            if number == step:
                waiting.pop(job, None)
                running.cancel(job)
        for update in running.step():
            chosen[update.job] += update.chosen
            if update.hypotheses is not None:
                results[update.job] = (update.hypotheses, chosen[update.job])
        step += 1
        assert step < 1000
    return results


def alike(got: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    (hypotheses, chosen), (others, theirs) = got, expected
    assert [(h.ids, h.reason) for h in hypotheses] == [(h.ids, h.reason) for h in others]
    for h, other in zip(hypotheses, others, strict=True):
        assert (h.log_p, h.score) == pytest.approx((other.log_p, other.score), abs=1e-4)
    assert [c.id for c in chosen] == [c.id for c in theirs]
    for c, other in zip(chosen, theirs, strict=True):
        assert c.log_p == pytest.approx(other.log_p, abs=1e-4)
        assert [p for _, p in c.top] == pytest.approx([p for _, p in other.top], abs=1e-4)


def check(made: Maker, seed: int, chunk: int) -> None:
    draw, jobs = random.Random(seed), made.jobs(seed)
    alone = {job: finished(made.engine, {job: 0})[job] for job in jobs}
    rows = draw.choice([4, 12, 100])
    cancelled = {job: draw.randrange(9) for job in draw.sample(jobs, 2)}
    together = finished(made.engine, {job: draw.randrange(8) for job in jobs}, cancelled, rows=rows, chunk=chunk)
    assert {*jobs} - {*cancelled} <= together.keys()
    for job, got in together.items():
        alike(got, alone[job])
        if job.config.rows == 1:
            assert tuple(c.id for c in got[1]) == got[0][0].ids


@pytest.mark.parametrize("config", LANGUAGE_MODELS, ids=lambda c: "")
def test_jobs_of_a_language_model_are_as_if_alone(config: Any) -> None:
    check(language_model(config), LANGUAGE_MODELS.index(config), chunk=3)


FAMILY = [
    *(
        EncoderDecoderConfig(encoder=TransformerConfig(layers=1, width=12, inner=8, heads=2), decoder=d, tie="none")
        for d in DECODERS
    ),
    *map(config_of, {choice["positions"]: choice for choice in CHOICES}.values()),
]


@pytest.mark.parametrize("config", FAMILY, ids=lambda c: "")
def test_jobs_of_a_translator_are_as_if_alone(config: Any) -> None:
    check(translator(config), FAMILY.index(config), chunk=0)


@given(data=st.data())
@settings(max_examples=10)
def test_whenever_jobs_come_and_go_the_others_are_as_if_alone(data: st.DataObject) -> None:
    made = language_model(LANGUAGE_MODELS[data.draw(st.sampled_from([0, 1, 2]))])
    jobs = made.jobs(data.draw(st.integers(0, 20)), 5)
    times = st.integers(0, 9)
    joining = {job: data.draw(times) for job in jobs}
    cancelled = {job: data.draw(times) for job in data.draw(st.lists(st.sampled_from(jobs), max_size=2, unique=True))}
    options = {"rows": data.draw(st.integers(1, 12)), "chunk": data.draw(st.integers(0, 4))}
    together = finished(made.engine, joining, cancelled, **options)
    for job in jobs:
        if job not in cancelled or job in together:
            alike(together[job], finished(made.engine, {job: 0})[job])
