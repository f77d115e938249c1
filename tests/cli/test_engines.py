"""CTranslate2 on the command line: converted once, kept with its run, and checked."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from calls import LANGUAGE_MODEL, Call

import seqloom
from seqloom.decoding import ctranslate
from seqloom.errors import UsageError
from seqloom.nn import linear
from seqloom.training.precision import dtype_for

pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: its decoding is not compared")

TEXTS = ["ba ko", "mi", "rondo mi tesu"]
BY = ["--engine", "ctranslate2", "--decoding.kind", "greedy"]
OURS = ["--engine", "torch", "--decoding.kind", "greedy"]
KEPT = Path("run/ctranslate2")


@pytest.fixture
def asked(folder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows CTranslate2 was asked for, in each call."""
    shutil.rmtree(KEPT, ignore_errors=True)  # of other tests
    counts: list[int] = []
    decode = ctranslate.CTranslate2.decode

    def counted(self, rows, limits, config):
        counts.append(len(rows))
        return decode(self, rows, limits, config)

    monkeypatch.setattr(ctranslate.CTranslate2, "decode", counted)
    return counts


def test_it_is_converted_once_and_kept(call: Call, folder, asked):
    wanted = call("translate", "run", *TEXTS, *OURS).lines
    assert (asked, KEPT.exists()) == ([], False)
    assert call("translate", "run", *TEXTS, *BY).lines == wanted
    assert asked == [3]
    made = (KEPT / "model.bin").stat().st_mtime_ns
    assert call("translate", "run", *TEXTS, *BY).lines == wanted
    assert (KEPT / "model.bin").stat().st_mtime_ns == made
    (KEPT / "model.bin").write_bytes(b"damaged")
    assert call("translate", "run", *TEXTS, *BY).lines == wanted
    assert (KEPT / "model.bin").stat().st_size > 1000
    before = (KEPT / "engine.json").read_text()
    call("train", "small.toml", "--run", "run", "--training.steps", "6", "-q")
    assert call("translate", "run", *TEXTS, *BY).lines == call("translate", "run", *TEXTS, *OURS).lines
    assert (KEPT / "engine.json").read_text() != before
    assert asked == [3] * 4


def test_a_run_that_cannot_be_written_to_is_converted_elsewhere(call: Call, folder, asked, monkeypatch):
    wanted = call("translate", "run", *TEXTS, *OURS).lines
    KEPT.write_text("in the way")
    result = call("translate", "run", *TEXTS, *BY)
    assert (result.lines, asked) == (wanted, [3])
    assert KEPT.read_text() == "in the way"
    KEPT.unlink()
    KEPT.mkdir()
    (KEPT / "notes.txt").write_text("mine")
    assert call("translate", "run", *TEXTS, *BY).lines == wanted
    assert [path.name for path in KEPT.iterdir()] == ["notes.txt"]


def test_auto_takes_it_where_the_model_computes_in_float32(call: Call, folder, asked, monkeypatch):
    wanted = call("translate", "run", *TEXTS, *OURS).lines
    for fast, count in ((True, 0), (False, 1)):
        monkeypatch.setattr("seqloom.training.precision.bf16_is_fast", lambda device, fast=fast: fast)
        result = call("translate", "run", *TEXTS, "--decoding.kind", "greedy")
        assert (result.lines, result.err, len(asked)) == (wanted, "", count)
    call("translate", "run", *TEXTS, "--decoding.beam", "2", "--decoding.stop", "likely")
    assert len(asked) == 1


def test_what_is_left_to_our_own_engine_is_said(call: Call, folder, asked):
    result = call("translate", "run", *TEXTS, "--engine", "ctranslate2", "--decoding.no-repeat-ngram", "2")
    assert "decoding.no_repeat_ngram = 2 is not for CTranslate2: our own engine decodes" in result.err
    assert asked == []


def test_a_form_that_it_does_not_have_is_decoded_here(call: Call, folder, asked):
    stack, lstm = "layers = 1\nwidth = 16\ninner = 16\nheads = 2", 'kind = "recurrent"\ncell = "lstm"\nwidth = 16'
    text = Path("small.toml").read_text(encoding="utf-8").replace(stack, lstm)
    Path("lstm.toml").write_text(text, encoding="utf-8")
    assert call("train", "lstm.toml", "--run", "lstm", "-q").code == 0
    result = call("translate", "lstm", *TEXTS, *BY)
    assert result.code == 0
    assert "CTranslate2 has no" in result.err
    assert result.lines == call("translate", "lstm", *TEXTS, *OURS).lines


def test_scores_are_the_same_and_those_of_8_bits_have_a_name_of_their_own(call: Call, folder, asked):
    words = [
        "run",
        "--json",
        "-q",
        "--decoding.beam",
        "3",
        "--decoding.max-length",
        "60",
        "--test",
        "test.src",
        "test.tgt",
    ]
    ours = json.loads(call("eval", *words, "--engine", "torch", "--name", "ours").out)
    theirs = json.loads(call("eval", *words, "--engine", "ctranslate2", "--name", "theirs").out)
    assert asked
    assert ours["translations"] == theirs["translations"]
    rounded = json.loads(call("eval", *words, "--engine", "ctranslate2", "--int8").out)
    assert rounded["test"] == "test.int8"
    assert rounded["basis"] != theirs["basis"]
    assert Path("run/eval/test.int8.json").is_file()


@pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines,
    reason="NOT TESTED: 8 bits, for which torch has no kernels",
)
def test_our_own_engine_rounds_to_8_bits(call: Call, folder, asked, monkeypatch):
    monkeypatch.setattr(linear, "_ROUNDED", 1)
    rounded = seqloom.load("run", int8=True)
    assert any(isinstance(getattr(layer, "packed", None), linear.Rounded) for layer in rounded.model.modules())
    said = call("translate", "run", *TEXTS, "--int8")
    assert (said.lines, said.err, asked) == (rounded(TEXTS), "", [])
    words = ["run", "--decoding.max-length", "60", "--test", "test.src", "test.tgt"]
    scores = [json.loads(call("eval", *words, "--json", *OURS, *more).out) for more in ([], ["--int8"])]
    assert [each["test"] for each in scores] == ["test", "test.int8"]
    assert scores[0]["basis"] != scores[1]["basis"]
    # What CTranslate2 leaves to our own engine:
    left = ["run", *TEXTS, "--scores", "--decoding.beam", "2", "--decoding.stop", "likely"]
    results = [call("translate", *left, *more).lines for more in (["--int8", *BY[:2]], ["--int8"], OURS[:2])]
    assert results[0] == results[1] != results[2]
    with pytest.raises(UsageError, match="8 bits are an own precision"):
        seqloom.load("run", int8=True, precision="bf16")
    with pytest.raises(UsageError, match="adapters are not computed in 8 bits"):
        seqloom.load("run", {"a": "run"}, int8=True)
    with pytest.raises(UsageError, match="8 bits are for processors"):
        dtype_for("int8", torch.device("cuda"))


def test_it_is_not_installed(call: Call, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    call("translate", "run", *TEXTS, *BY).refused(2, "pip install 'seqloom[fast]'")
    assert call("translate", "run", *TEXTS).code == 0


def test_other_results_than_ours_are_not_used(call: Call, folder, monkeypatch):
    wanted = call("translate", "run", *TEXTS, *OURS).lines
    monkeypatch.setattr(ctranslate.CTranslate2, "log_p", lambda self, row, ids: -1.0)
    result = call("translate", "run", *TEXTS, *BY)
    assert "CTranslate2 gives other results than our own engine" in result.err
    assert result.lines == wanted


def test_a_language_model_is_measured_by_our_own_engine(call: Call, folder):
    Path("lm.toml").write_text(LANGUAGE_MODEL, encoding="utf-8")
    Path("train.txt").write_text("ba ko mi\n" * 30)
    for name in ("valid", "test"):
        Path(f"{name}.txt").write_text("ba ko\n" * 9)
    assert call("train", "lm.toml", "--run", "lm", "-q").code == 0
    assert call("eval", "lm", "-q").code == 0
    call("eval", "lm", "--engine", "ctranslate2").refused(2, "our own engine measures this run")
    said = "questions are answered by our own engine"
    call("eval", "lm", "--choices", "q.jsonl", "--engine", "ctranslate2").refused(2, said)
    said = call("generate", "lm", "ba", "--engine", "torch", "--length", "5", "--decoding.kind", "greedy").out
    assert call("generate", "lm", "ba", *BY, "--length", "5").out == said


def test_in_python_what_is_left_is_a_warning(folder, asked):
    translator = seqloom.load("run", engine="ctranslate2")
    with pytest.warns(UserWarning, match="no_repeat_ngram = 2 is not for CTranslate2"):
        translator(TEXTS, no_repeat_ngram=2)
    assert asked == []


def test_in_python(folder, asked):
    ours, theirs = (seqloom.load("run", engine=name, precision="fp32") for name in ("torch", "ctranslate2"))
    assert ours(TEXTS, kind="greedy") == theirs(TEXTS, kind="greedy")
    assert asked == [3]
