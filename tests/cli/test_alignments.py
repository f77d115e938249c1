"""Word alignments of a translation model against links that are drawn by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from calls import Call

import seqloom
from seqloom.data.formats.alignments import read_alignments
from seqloom.errors import DataError
from seqloom.inspection.inside.flow import align
from seqloom.nn.transformer import TransformerConfig
from seqloom.tasks.seq2seq import alignments

PAIRS = (["ba ko mi", "", "tesu lan", "rondo"], ["BA KO MI", "KO", "TESU LAN", "RONDO"])


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


Eval = Any


@pytest.fixture
def evaluate(call: Call, folder: Path) -> Eval:
    """(lines of links, words) -> the result of `eval` on PAIRS."""
    for side, texts in zip(("src", "tgt"), PAIRS, strict=True):
        write(folder / f"gold.{side}", *texts)

    def evaluated(lines: list[str], *words: str) -> Any:
        write(folder / "gold.links", *lines)
        return call("eval", "run", "--test", "gold.src", "gold.tgt", "--alignments", "gold.links", *words)

    return evaluated


def test_links_are_read(tmp_path: Path):
    sure, possible, where = read_alignments(write(tmp_path / "a", "0-0 1-2  2?1 10p3", ""))[0]
    assert sure == {(0, 0), (1, 2)}
    assert possible == {(0, 0), (1, 2), (2, 1), (10, 3)}
    assert where == f"{tmp_path / 'a'}:1"
    assert read_alignments(str(tmp_path / "a"))[1][:2] == (set(), set())


@pytest.mark.parametrize("link", ["1", "1-", "-1-1", "1_1", "1-1-1", "a-b", "1-٣", "0-0,1-1", "1" * 40 + "-0"])
def test_what_is_no_link_is_refused_with_its_line(tmp_path: Path, link: str):
    with pytest.raises(DataError, match="not a link: '") as caught:
        read_alignments(write(tmp_path / "a", "0-0", f"0-0 {link}"))
    assert caught.value.where == f"{tmp_path / 'a'}:2"


def test_the_error_rate_is_that_of_all_pairs_together(evaluate: Eval, monkeypatch: pytest.MonkeyPatch):
    """By hand: 6 links; sure are (0,0) (1,1) of the first, (0,1) of the third, (0,0) of the fourth; of these found are
    3, and of the 6 possible ones 4: 1 - (3 + 4) / (6 + 4) = 0.3. For each pair by itself it would be another mean.
    """
    layers = {(): 0, (0,): 1}

    def linked(seen: Any, of: Any = ()) -> Any:
        words = range(len(seen.sides["decoder"].texts[0].split()))
        return {(i - layers[tuple(of)], i) for i in words}  # the diagonal, or beside it

    monkeypatch.setattr(alignments, "align", linked)
    result = evaluate(["0-0 1-1 1?2", "", "1?1 0-1", "0-0"], "--json", "-q")
    assert result.code == 0, result.err
    scores = json.loads(result.out)
    assert scores["aer"] == pytest.approx(100 * (1 - (3 + 4) / (6 + 4)))
    assert (scores["precision"], scores["recall"]) == pytest.approx((100 * 4 / 6, 100 * 3 / 4))
    assert scores["by_layer"] == [{"layer": 1, "alignment error rate, %": 100 * (1 - (1 + 2) / (6 + 4))}]
    assert (scores["test"], scores["sentences"]) == ("gold.aer", 4)


def test_the_links_are_those_of_the_attention(evaluate: Eval, folder: Path):
    translator = seqloom.load("run", precision="fp32")
    found = [align(translator.look(*pair)) if all(pair) else set() for pair in zip(*PAIRS, strict=True)]
    lines = [" ".join(f"{i}-{j}" for i, j in sorted(links)) for links in found]
    result = evaluate(lines)
    assert result.code == 0, result.err
    for words in ("alignment error rate, % 0.00 attention of all", "recall, % 100.00", "By layer, the mean"):
        assert words in " ".join(result.out.split())
    assert json.loads((folder / "run/eval/gold.aer.json").read_text())["aer"] == 0


@pytest.mark.parametrize(
    ("lines", "words", "told"),
    [
        (["0-0", "", "0-0"], [], "gold.links: 3 lines of links for 4 pairs"),
        (["3-0", "", "0-0", "0-0"], [], "gold.links:1: a link of word 3 of a source of 3 words"),
        (["0-0", "0-0", "0-0", "0-0"], [], "gold.links:2: a link of word 0 of a source of 0 words"),
        (["0-0", "", "0?2", "0-0"], [], "gold.links:3: a link of word 2 of a reference of 2 words"),
        (["0:0", "", "", ""], [], "gold.links:1: not a link: '0:0'"),
        (["0?0", "", "", ""], [], "gold.links: no pair has words and a sure link"),
        (["0-0", "", "", ""], ["--decoding.beam", "2"], "--alignments: the references are read"),
        (["0-0", "", "", ""], ["--int8"], "--alignments: the references are read"),
        (["0-0", "", "", ""], ["--shots", "1"], "--shots: examples are questions"),
        (["0-0", "", "", ""], ["--choices", "a"], "--choices and --alignments: are for models of other kinds"),
    ],
)
def test_what_cannot_be_compared_is_refused(evaluate: Eval, lines, words, told):
    evaluate(lines, *words).refused(2 if words else 3, told)


@pytest.mark.parametrize("side", ["src", "tgt"])
def test_a_pair_that_is_too_long_is_named_by_its_line(call: Call, folder: Path, monkeypatch, side):
    for name in ("src", "tgt"):
        write(folder / f"long.{name}", "ba", "ba " * (600 if name == side else 1))
    write(folder / "long.links", "0-0", "0-0")
    if side == "tgt":  # of this run, only sources have a limit
        monkeypatch.setattr(TransformerConfig, "limit", 512, raising=False)
    words = ("eval", "run", "--test", "long.src", "long.tgt", "--alignments", "long.links")
    call(*words).refused(3, f"long.{side}:2: has ", "the most is", "leave the pair out, with its line of links")


def test_a_file_that_there_is_not_is_named(call: Call, folder: Path):
    call("eval", "run", "--test", "test.src", "test.tgt", "--alignments", "gone").refused(2, "gone: no such file")
