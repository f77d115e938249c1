"""The kinds of decoding, and which one is meant where only their keys are given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.config import load, to_toml
from seqloom.decoding.config import BeamSearch, DecodingConfig, Greedy, Sampling, texts_at_a_time, with_options
from seqloom.decoding.job import Task
from seqloom.decoding.search import decode
from seqloom.errors import ConfigError

DRAWN = Sampling(temperature=0.8, top_p=0.95, max_length=7)
SEARCHED = BeamSearch(beam=6, n_best=2, length_penalty=0.6, max_length=7)


@dataclass(frozen=True)
class Run:
    decoding: DecodingConfig = field(default_factory=lambda: DRAWN)


CASES: list[tuple[DecodingConfig, dict[str, Any], DecodingConfig]] = [
    (SEARCHED, {}, SEARCHED),
    (SEARCHED, {"beam": 5}, BeamSearch(beam=5, n_best=2, length_penalty=0.6, max_length=7)),
    (SEARCHED, {"beam": 1}, Greedy(max_length=7)),
    (SEARCHED, {"beam": 1, "n_best": 1}, BeamSearch(beam=1, length_penalty=0.6, max_length=7)),
    (SEARCHED, {"n_best": 3}, BeamSearch(beam=6, n_best=3, length_penalty=0.6, max_length=7)),
    (SEARCHED, {"temperature": 0.7}, Sampling(temperature=0.7, max_length=7)),
    (SEARCHED, {"sample": True, "n_best": 4, "seed": 3}, Sampling(n_best=4, seed=3, max_length=7)),
    (SEARCHED, {"sample": False}, SEARCHED),
    (SEARCHED, {"kind": "greedy", "min_length": 2}, Greedy(max_length=7, min_length=2)),
    (DRAWN, {"temperature": 1}, Sampling(temperature=1.0, top_p=0.95, max_length=7)),
    (DRAWN, {"beam": 5}, BeamSearch(beam=5, max_length=7)),
    (DRAWN, {"sample": False}, Greedy(max_length=7)),
    (DRAWN, {"sample": False, "beam": 4}, BeamSearch(beam=4, max_length=7)),
    (DRAWN, {"n_best": 3, "max_length": 0}, Sampling(temperature=0.8, top_p=0.95, n_best=3)),
    (Greedy(), {"length_penalty": 0.0}, BeamSearch(length_penalty=0.0)),
    (Greedy(), {"seed": 4}, Sampling(seed=4)),
]


@pytest.mark.parametrize(("base", "given", "meant"), CASES, ids=str)
def test_the_keys_tell_the_kind(base: DecodingConfig, given: dict[str, Any], meant: DecodingConfig) -> None:
    assert with_options(base, given) == meant


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"beam": 5, "temperature": 0.7}, "'beam' is for beam search, 'temperature' for sampling"),
    ({"sample": True, "beam": 5}, "'beam' is for kind beam, not for sample"),
    ({"sample": False, "top_k": 3}, "'top_k' is for sampling, but sample is false"),
    ({"kind": "greedy", "n_best": 2}, "'n_best' is for kind beam or sample, not for greedy"),
    ({"kind": "beam", "temperature": 0.7}, "'temperature' is for kind sample, not for beam"),
]


@pytest.mark.parametrize(("given", "told"), CONTRADICTIONS, ids=str)
def test_keys_of_two_kinds_are_refused_with_a_cure(given: dict[str, Any], told: str) -> None:
    for base in (SEARCHED, DRAWN, Greedy()):
        with pytest.raises(ConfigError) as caught:
            with_options(base, given)
        assert caught.value.problem == told
        assert caught.value.cure.startswith("leave ")


def test_other_mistakes() -> None:
    for given, told in (
        ({"beams": 3}, "did you mean 'beam'"),
        ({"kind": "bean"}, "did you mean 'beam'"),
        ({"sample": "often"}, "sample must be true or false"),
    ):
        with pytest.raises(ConfigError, match=told):
            with_options(SEARCHED, given)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--decoding.sample", Sampling(temperature=0.8, top_p=0.95, max_length=9)),
        ("--decoding.temperature 0.5", Sampling(temperature=0.5, top_p=0.95, max_length=9)),
        ("--decoding.beam 1", Greedy(max_length=9)),
        ("--decoding.beam 2", BeamSearch(beam=2, length_penalty=0.6, max_length=9)),
        ("--decoding.kind greedy", Greedy(max_length=9)),
        ("--decoding.max-length 3", BeamSearch(beam=4, length_penalty=0.6, max_length=3)),
    ],
)
def test_what_is_typed_goes_before_what_a_file_says(tmp_path: Path, words: str, meant: DecodingConfig) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[decoding]\nbeam = 4\nlength_penalty = 0.6\nmax_length = 9\n")
    assert load(Run, file, words.split()).decoding == meant


@pytest.mark.parametrize("config", [SEARCHED, DRAWN, Greedy(min_length=3)], ids=lambda c: c.kind)
def test_a_config_that_is_written_is_read_again(tmp_path: Path, config: DecodingConfig) -> None:
    file = tmp_path / "run.toml"
    file.write_text(to_toml(Run(config)))
    assert load(Run, file).decoding == config


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        ("sample = true\nbeam = 1\ntemperature = 0.8\ntop_p = 0.9\nseed = 1", Sampling(temperature=0.8, top_p=0.9)),
        ("sample = false\nbeam = 5\ntemperature = 1.0\ntop_p = 1.0\nseed = 1", BeamSearch(stop="likely")),
    ],
)
def test_runs_from_before_the_kinds_name_every_key(tmp_path: Path, lines: str, meant: DecodingConfig) -> None:
    both = "\nn_best = 1\nlength_penalty = 1.0\ncoverage_penalty = 0.0\nstop = 'likely'\ntop_k = 0\nmin_p = 0.0\n"
    file = tmp_path / "run.toml"
    file.write_text(f"[decoding]\nmax_length = 0\n{lines}{both}")
    assert load(Run, file).decoding == meant


@pytest.mark.parametrize("zero", ["0", "0.0", "-0"])
def test_temperature_zero_names_the_option_that_is_meant(tmp_path: Path, zero: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"[decoding]\ntemperature = {zero}\n")
    calls = [
        lambda: load(Run, file),
        lambda: load(Run, None, ["--decoding.temperature", zero]),
        lambda: load(Run, None, ["--decoding.kind", "sample", "--decoding.temperature", zero]),
        lambda: with_options(BeamSearch(), {"temperature": float(zero)}),
        lambda: with_options(Sampling(), {"temperature": float(zero)}),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"(?s)temperature 0 .* greedy decoding.*decoding\.kind = 'greedy'"):
            call()


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (BeamSearch, {"beam": 0}),
        (BeamSearch, {"n_best": 0}),
        (BeamSearch, {"beam": 2, "n_best": 3}),
        (BeamSearch, {"coverage_penalty": -0.1}),
        (Sampling, {"n_best": 0}),
        (Sampling, {"temperature": 0.0}),
        (Sampling, {"temperature": -1.0}),
        (Sampling, {"top_p": 0.0}),
        (Sampling, {"top_p": 1.1}),
        (Sampling, {"min_p": -0.1}),
        (Sampling, {"top_k": -1}),
        *((cls, {"repetition_penalty": 0.0}) for cls in (BeamSearch, Sampling, Greedy)),
        *((cls, {"no_repeat_ngram": -1}) for cls in (BeamSearch, Sampling, Greedy)),
        (Greedy, {"min_length": -1}),
        (Greedy, {"max_length": -1}),
        (Greedy, {"max_length": 3, "min_length": 4}),
        *((Sampling, {"temperature": t}) for t in (1e-300, 1e300)),
        (Sampling, {"top_p": 1e-300}),
        (Sampling, {"seed": 2**63}),
        (Sampling, {"n_best": 100_000}),
        *((Greedy, {"repetition_penalty": p}) for p in (1e-300, 1e300)),
        *((BeamSearch, {"length_penalty": p}) for p in (1e5, -1e5)),
        (BeamSearch, {"beam": 100_000}),
        (Greedy, {"max_length": 2**64}),
    ],
)
def test_impossible_settings_are_refused(cls: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        cls(**wrong)


EXTREMES = [
    Greedy(repetition_penalty=0.01, max_length=4),
    Greedy(repetition_penalty=100.0, max_length=4),
    Greedy(no_repeat_ngram=1000, max_length=4),
    Sampling(temperature=1e-4, max_length=4),
    Sampling(temperature=1000.0, max_length=4),
    Sampling(top_p=1e-6, max_length=4),
    Sampling(min_p=1.0, max_length=4),
    Sampling(top_k=10**9, seed=2**63 - 1, max_length=4),
    Sampling(n_best=1000, max_length=4),
    BeamSearch(length_penalty=10.0, max_length=4),
    BeamSearch(length_penalty=-10.0, max_length=4),
    BeamSearch(beam=1000, n_best=1000, max_length=4),
    BeamSearch(coverage_penalty=1000.0, max_length=4),
]


@dataclass(frozen=True)
class Rows:
    """A state that knows which text each row is of."""

    rows: torch.Tensor

    def select(self, rows: torch.Tensor | None, sentences: torch.Tensor | None = None) -> Rows:
        return self if rows is None else Rows(self.rows[rows])


@pytest.mark.parametrize("config", EXTREMES, ids=str)
def test_at_its_bounds_a_search_still_has_results(config: Any) -> None:
    scores = torch.randn(3, 11, generator=torch.Generator().manual_seed(1)) * 30

    task = Task(0, 1, torch.full((3,), 4))
    found = decode(lambda last, state: (scores[state.rows], state), Rows(torch.arange(3)), task, config)
    assert all(row and all(math.isfinite(h.log_p) and math.isfinite(h.score) for h in row) for row in found)


def test_wide_searches_are_done_for_few_texts_at_a_time() -> None:
    configs = (Greedy(), BeamSearch(), BeamSearch(beam=100), BeamSearch(beam=1000), Sampling(n_best=1000))
    assert [texts_at_a_time(config, 128) for config in configs] == [128, 128, 20, 2, 2]
