from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from calls import Call

import seqloom

TEXTS = ["ba ko", "", "mi", "te\u2028su", "lan\x85gor", "  ", "\u200b", "püt ve 漢 🙂", "ba ko"]
LAST = "rondo mi tesu"


@pytest.fixture(scope="module")
def expected(trained) -> list[str]:
    """The translation of each text by itself."""
    translator = seqloom.load(trained / "run")
    return [translator([text])[0].replace("\n", " ").replace("\r", " ") for text in [*TEXTS, LAST]]


def test_arguments_are_translated_one_line_each(call: Call, seen, expected):
    assert call("translate", "run", *TEXTS, LAST).lines == expected
    assert [i for i, line in enumerate(expected) if not line] == [1, 5, 6]
    assert expected[0] == expected[8] != ""


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"", b"\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("rows", ["1", "128"])
def test_a_filter_keeps_the_lines(call: Call, seen, tmp_path, expected, end, last, mark, rows):
    data = mark + end.join(text.encode() for text in [*TEXTS, LAST]) + last
    assert call("translate", "run", "--rows", rows, stdin=data).lines == expected
    (tmp_path / "x.txt").write_bytes(data)
    assert call("translate", "run", "--file", tmp_path / "x.txt", "--rows", rows).lines == expected


def test_nothing_in_nothing_out(call: Call, seen):
    result = call("translate", "run", stdin=b"")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert call("translate", "run", stdin=b"\n\n").lines == ["", ""]


def test_json_is_a_line_for_each_text(call: Call, seen, expected):
    rows = [json.loads(line) for line in call("translate", "run", "--json", *TEXTS, LAST).lines]
    assert [row["source"] for row in rows] == [*TEXTS, LAST]
    assert [row["translations"][0]["text"] for row in rows] == expected
    assert all(set(row["translations"][0]) == {"text", "log_p", "score"} for row in rows)


def test_several_results_with_scores(call: Call, seen):
    words = ["--decoding.beam", "3", "--decoding.n-best", "3"]
    rows = [line.split("\t") for line in call("translate", "run", "ba", "ko mi", *words).lines]
    assert [row[0] for row in rows] == ["1"] * 3 + ["2"] * 3
    for number in "12":
        scores = [float(row[1]) for row in rows if row[0] == number]
        assert scores == sorted(scores, reverse=True)
    one = [line.split("\t") for line in call("translate", "run", "--scores", "ba", "ko mi").lines]
    assert [row[0] for row in one] == ["1", "2"]
    assert [row[2] for row in one] == call("translate", "run", "ba", "ko mi").lines


def test_what_a_translation_must_begin_with(call: Call, seen):
    lines = call("translate", "run", "--prefix", "AB", "ba", "ko mi").lines
    assert len(lines) == 2
    assert all(line.startswith("AB") for line in lines)


def test_words_that_begin_with_one_hyphen_are_texts(call: Call, seen):
    assert len(call("translate", "run", "-5 ba", "ko").lines) == 2


def test_over_long_texts_are_refused_with_their_line_or_cut(call: Call, seen, tmp_path):
    long = "ba ko " * 300
    (tmp_path / "x.txt").write_text(f"ba\n\n{long}\n", encoding="utf-8")
    for rows in ("1", "128"):
        call("translate", "run", "--file", tmp_path / "x.txt", "--rows", rows).refused(
            3, f"{tmp_path}/x.txt:3", "the most is 511", "--long cut"
        )
    call("translate", "run", stdin=f"ba\n{long}".encode()).refused(3, "standard input:2", "--long cut")
    call("translate", "run", "ba", long).refused(3, "text 2", "--long cut")
    cut = call("translate", "run", "--long", "cut", "ba", long)
    assert len(cut.lines) == 2
    assert "warning: 1 texts were cut to 512 tokens, special ones included" in cut.err


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"ba\nb\xe4\nko\n", ("standard input:2", "not UTF-8: byte 0xe4 at column 2")),
        (b"ba\nko\0mi\n", ("standard input:2", "a NUL character at column 3")),
        (b"ba\n" + b"x" * 1_000_001, ("standard input:2", "longer than 1,000,000 bytes")),
    ],
)
def test_standard_input_that_is_no_text(call: Call, seen, data, messages):
    result = call("translate", "run", stdin=data)
    result.refused(3, *messages)
    assert result.out == ""


def test_arguments_that_are_no_text(call: Call, seen):
    call("translate", "run", "ba", os.fsdecode(b"b\xe4")).refused(2, "argument 4", "not UTF-8")


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--decoding.baem", "3"], ("--decoding.baem", "unknown key 'baem'", "did you mean 'beam'?")),
        (["--decoding.beam", "many"], ("--decoding.beam", "expected a whole number from 1 to 1,000, got 'many'")),
        (["--decoding", "5"], ("--decoding", "unknown kind '5'", "known are: beam, greedy, sample")),
        (
            ["--decoding.beam", "3", "--decoding.top-k", "2"],
            ("--decoding", "'top_k' for sampling", "leave one of them"),
        ),
        (["--decoding.kind", "greedy", "--decoding.top-k", "2"], ("--decoding", "not for greedy", "leave 'top_k' out")),
        (["--beam", "5"], ("--beam", "did you mean '--decoding.beam'?")),
        (["--fiel", "x"], ("--fiel", "unknown option", "--help")),
    ],
)
def test_options_that_are_wrong(call: Call, seen, words, messages):
    call("translate", "run", "ba", *words).refused(2, *messages)


def test_values_and_files_that_cannot_be(call: Call, seen):
    no_beam = call("translate", "run", "ba", "--decoding.beam", "0")
    no_beam.refused(2, "--decoding.beam: expected a whole number from 1 to 1,000, got 0")
    few = call("translate", "run", "ba", "--decoding.n-best", "9")
    few.refused(2, "n_best 9 needs a beam of at least 9, not 5", cured=False)
    call("translate", "run", "--file", "nowhere.txt").refused(2, "nowhere.txt: no such file")


def program(*words: str, **options: object) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "seqloom", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, **options)  # type: ignore[call-overload]


def test_texts_after_the_options_are_no_values(call: Call, folder):
    call("translate", "run", "--decoding.kind", "greedy", "ba").refused(2, "unknown kind 'greedy ba'")
    call("translate", "run", "--decoding.beam", "3", "ba").refused(2, "got 2", "--decoding.beam 3; what is no value")


def test_as_a_filter_between_two_others(seen, expected):
    """`cat x | seqloom translate RUN > y`."""
    data = "\n".join([*TEXTS, LAST]).encode()
    with program("translate", "run", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(data)
    assert (process.returncode, err) == (0, b"")
    assert out.decode().split("\n") == [*expected, ""]


def test_a_reader_that_goes_away(seen):
    """`seqloom translate RUN | head -0`: no complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    with program("translate", "run", "ba ko", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate()
    assert (process.returncode, err) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_an_output_without_room(seen):
    with Path("/dev/full").open("wb") as full, program("translate", "run", "ba ko", stdout=full) as process:
        _, err = process.communicate()
    assert process.returncode == 2
    assert err.decode() == "seqloom: standard output: No space left on device\n"
