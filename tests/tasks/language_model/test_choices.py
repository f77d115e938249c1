"""Questions that do not fit the context of a model, which has 16 positions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_generator import LSTM, STACK, generator

from seqloom.errors import DataError
from seqloom.files import Json
from seqloom.nn.positions import Learned
from seqloom.tasks.language_model.choices import score_choices
from seqloom.training.log import Reporter

MODEL = replace(STACK, positions=Learned(length=16))
LONG = "one two three four five " * 4


def scored(tmp_path: Path, contexts: list[str], shots: int = 0, decoder: object = MODEL, choice: str = "two") -> Json:
    file = tmp_path / "q.jsonl"
    rows = [json.dumps({"context": context, "choices": ["one", choice], "answer": 0}) for context in contexts]
    file.write_text("\n".join(rows), encoding="utf-8")
    return score_choices(generator(decoder), str(file), shots, Reporter(0))


@pytest.mark.parametrize(
    ("contexts", "shots", "warned"),
    [
        (["one", LONG, "two", LONG], 0, r":2: the question exceeds the model's context of 16 tokens: .* \(of 2 of 4 "),
        (["one", "two", "one two " * 7, "two"], 1, r":3: the question with its examples exceeds .* \(of 1 of 3 "),
        (["one two three four"] * 3, 2, r":3: the question with its examples exceeds .* \(of 1 of 1 question\)"),
    ],
)
def test_what_is_left_out_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str], contexts, shots, warned):
    result = scored(tmp_path, contexts, shots)
    err = " ".join(capsys.readouterr().err.split())
    assert err.count("warning: ") == 1
    assert re.search(warned, err)
    assert f"(of {result['cut']} of" in err


@pytest.mark.parametrize("decoder", [MODEL, LSTM], ids=lambda d: d.kind)
def test_what_fits_is_scored_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str], decoder):
    contexts = ["one", "two", "three"] if decoder is MODEL else [LONG, LONG, LONG]
    assert scored(tmp_path, contexts, 1, decoder)["cut"] == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shots", [1, 2])
def test_examples_of_which_none_fits_are_refused(tmp_path: Path, shots: int):
    with pytest.raises(DataError, match="no question has room for an example in the model's context of 16") as caught:
        scored(tmp_path, [LONG] * shots + ["one", "two"], shots)
    assert caught.value.where == f"--shots {shots}"


def test_a_choice_that_does_not_fit_is_named(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"the choice 'one two three.*: the text has 20 tokens, .* context of 16"
    ) as caught:
        scored(tmp_path, ["one"], choice=LONG)
    assert caught.value.where == f"{tmp_path / 'q.jsonl'}:1"
