"""Bad input through the command line: exit code 2 (the call) or 3 (the data), one message, nothing harmed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calls import Call, fingerprint

from seqloom.errors import DivergedError
from seqloom.run import Run

NEW = ("--run", "new", "-q")


def lines(name: str) -> list[bytes]:
    return Path(name).read_bytes().split(b"\n")[:-1]


def write(name: str, rows: list[bytes], end: bytes = b"\n") -> None:
    Path(name).write_bytes(b"".join(row + end for row in rows))


def replaced(name: str, number: int, row: bytes) -> None:
    rows = lines(name)
    rows[number - 1] = row
    write(name, rows)


# The config


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("steps = 4", "stesp = 4", ("small.toml:{} (training.stesp)", "unknown key 'stesp'", "did you mean 'steps'?")),
        ("[training]", "[trianing]", ("small.toml:{} (trianing)", "did you mean 'training'?")),
        ("steps = 4", "steps = '4'", ("small.toml:{} (training.steps)", "expected a whole number", "got '4'")),
        ('kind = "files"', 'kind = "flies"', ("small.toml:{} (data.kind)", "did you mean 'files'?")),
        ("steps = 4", "steps = ", ("small.toml:{}: not TOML",)),
        ('train = ["train.src", "train.tgt"]', "", ("small.toml:3 (data.train)", "is missing", "add train = ...")),
        ('task = "translate"', 'task = "transalte"', ("small.toml:{} (task)", "did you mean 'translate'?")),
    ],
)
@pytest.mark.parametrize("verb", ["train", "check", "verify"])
def test_a_config_with_a_fault(call: Call, folder, verb, old, new, messages):
    path = Path("small.toml")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    line = 1 + path.read_text(encoding="utf-8").split(new or "\n\n")[0].count("\n")
    before = fingerprint(folder)
    result = call(verb, "small.toml", *NEW) if verb != "check" else call(verb, "small.toml")
    result.refused(2, *(word.format(line) for word in messages))
    assert result.out == ""
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--training.stesp", "3"], ("--training.stesp", "did you mean 'steps'?")),
        (["--training.steps", "many"], ("--training.steps", "expected a whole number", "got 'many'", "for example")),
        (["--optimizer.lr", "nan"], ("--optimizer.lr", "expected a number", "got nan")),
        (["--model.encoder.norm", "rsm"], ("--model.encoder.norm", "did you mean 'rms'?")),
        (["--tokenizer", "bep"], ("--tokenizer", "did you mean 'bpe'?")),
        (["--training", "3"], ("--training", "expected a table")),
        (["--training.device", "cupboard"], ("training.device", "no device 'cupboard'")),
        (["--data.train", "a", "b", "c"], ("a corpus is one file or two, not 3", "two text files")),
    ],
)
def test_options_with_a_fault(call: Call, folder, words, messages):
    before = fingerprint(folder)
    call("train", "small.toml", *NEW, *words).refused(2, *messages)
    assert fingerprint(folder) == before


# The data


def nothing(name: str) -> None:
    Path(name).write_bytes(b"")


FAULTS: dict[str, tuple[Callable[[str], object], int, tuple[str, ...]]] = {
    "missing": (lambda n: Path(n).rename(f"{n}s"), 2, ("{}: no such file", "did you mean '{}s'?")),
    "empty": (nothing, 3, ("{}: the file is empty", "one sentence per line")),
    "unequal": (lambda n: write(n, lines(n)[:-2]), 3, ("{} has ", "must be the translation of line N of the other")),
    "not UTF-8": (lambda n: replaced(n, 3, b"caf\xe9"), 3, ("{}:3: not UTF-8: byte 0xe9 at column 4", "iconv -f")),
    "UTF-16": (
        lambda n: Path(n).write_bytes(Path(n).read_text(encoding="utf-8").encode("utf-16")),
        3,
        ("{}:1: not UTF-8", "iconv -f UTF-16 -t UTF-8 < {}"),
    ),
    "a NUL": (lambda n: replaced(n, 2, b"ba\0ko"), 3, ("{}:2: a NUL character at column 3", "remove it")),
    "a line of 1 MB": (
        lambda n: replaced(n, 4, b"ba " * 350_000),
        3,
        ("{}:4: the line is longer than 1,000,000 bytes", "cut it into sentences"),
    ),
    "a folder": (lambda n: (Path(n).unlink(), Path(n).mkdir()), 2, ("{}: this is a folder, not a file", "name a file")),
    "no text at all": (lambda n: write(n, [b""] * len(lines(n))), 3, ("no pair has text on both sides",)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["train", "validate", "resume", "check", "eval"])
def test_files_with_a_fault(call: Call, folder, verb, fault):
    harm, code, messages = FAULTS[fault]
    name = {
        "train": "train.src", "validate": "valid.src", "resume": "valid.tgt", "check": "train.tgt", "eval": "test.src"
    }[verb]  # fmt: skip
    harm(name)
    before = fingerprint(folder)
    result = {
        "train": lambda: call("train", "small.toml", *NEW),
        "validate": lambda: call("train", "small.toml", *NEW),
        "resume": lambda: call("train", "small.toml", "--run", "run", "--training.steps", "6", "-q"),
        "check": lambda: call("check", "small.toml", "-q"),
        "eval": lambda: call("eval", "run", "--test", "test.src", "test.tgt", "-q"),
    }[verb]()
    if verb == "check" and fault not in ("missing", "a folder", "no text at all"):
        assert name in result.refused(code)  # it lists the faults in its table and names the first one
    else:
        result.refused(code, *(word.format(name) for word in messages))
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    ("name", "content", "code", "messages"),
    [
        ("x.tsv", b"ba\tAB\nko OK\n", 3, ("x.tsv:2: no tab in the line", "SOURCE<TAB>TARGET")),
        ("x.jsonl", b'{"source": "ba", "target": "AB"}\n{"source": \n', 3, ("x.jsonl:2: not JSON",)),
        ("x.tsv.gz", b"ba\tAB\n", 3, ("x.tsv.gz: the .gz file is damaged or cut off", "drop the .gz")),
        ("x.tmx", b"<tmx><body>", 3, ("x.tmx:1: not well-formed XML", "fix the XML")),
        ("x.txt", b"ba\n", 2, ("x.txt: this format holds one side", "two text files")),
        ("${NO_SUCH}/x.tsv", b"", 2, ("the environment variable NO_SUCH is not set", "export NO_SUCH=")),
    ],
)
def test_other_formats_with_a_fault(call: Call, folder, name, content, code, messages):
    if "$" not in name:
        Path(name).write_bytes(content)
    before = fingerprint(folder)
    call("eval", "run", "--test", name, "-q").refused(code, *messages)
    call("train", "small.toml", *NEW, "--data.train", name).refused(code, *messages)
    assert fingerprint(folder) == before


def crlf(name: str) -> None:
    write(name, lines(name), b"\r\n")


def marked(name: str) -> None:
    Path(name).write_bytes(b"\xef\xbb\xbf" + Path(name).read_bytes())


def no_last_end(name: str) -> None:
    Path(name).write_bytes(Path(name).read_bytes().removesuffix(b"\n"))


@pytest.mark.parametrize("change", [crlf, marked, no_last_end, lambda n: (crlf(n), marked(n), no_last_end(n))])
def test_what_is_survived_without_a_word(call: Call, folder, change):
    digests, scores = Run.open("run").info()["corpus"], []
    for changed in (False, True):
        if changed:
            for name in ("train.src", "train.tgt", "valid.src", "test.src", "test.tgt"):
                change(name)
        assert call("eval", "run", "--test", "test.src", "test.tgt", "-q").err == ""
        scores.append(Run.open("run").evaluation("test")["translations"])
    assert scores[0] == scores[1]
    assert call("train", "small.toml", *NEW, "--training.steps", "1").err == ""
    assert Run.open("new").info()["corpus"] == digests
    assert json.loads(call("check", "small.toml", "--json", "-q").out)["findings"] == []


def test_unicode_line_ends_stay_inside_their_line(call: Call, folder):
    for name, row in (
        ("train.src", "ba\u2028ko\x85mi"),
        ("train.tgt", "IM\x85OK\u2028AB"),
        ("test.src", "ba\u2028ko\x85"),
    ):
        replaced(name, 2, row.encode())
    assert call("train", "small.toml", *NEW, "--training.steps", "1").err == ""
    result = json.loads(call("check", "small.toml", "--json", "-q").out)
    assert [row["pairs"] for row in result["summary"]] == [60, 60, 4, 4]
    assert result["findings"] == []
    result = json.loads(call("eval", "run", "--test", "test.src", "test.tgt", "--json", "-q").out)
    assert result["sentences"] == 12
    assert result["translations"][1]["source"] == "ba\u2028ko\x85"


# The run directory

USES = [
    ("translate", "run", "ba"),
    ("eval", "run", "--test", "test.src", "test.tgt", "-q"),
    ("report", "run", "-q"),
    ("train", "small.toml", "--run", "run", "-q"),
]


def at(use: tuple[str, ...]) -> str:
    return use[0]


@pytest.mark.parametrize("name", ["config.toml", "run.json", "tokenizer.json"])
def test_a_damaged_run_is_not_trained_further(call: Call, folder, name):
    os.truncate(f"run/{name}", 30)
    before = fingerprint(folder)
    call(*USES[3]).refused(2, f"run/{name}: ")
    assert fingerprint(folder) == before


@pytest.mark.parametrize("use", USES, ids=at)
def test_a_run_without_run_json(call: Call, folder, use):
    Path("run/run.json").unlink()
    before = fingerprint(folder)
    call(*use).refused(2, "run: has checkpoints, but its run.json is missing", "put run.json back")
    assert fingerprint(folder) == before


def test_an_output_replaces_nothing_of_another(call: Call, folder):
    Path("mine").mkdir()
    for name in ("config.json", "compare.html", "a.onnx", "microscope.json"):
        Path("mine", name).write_text("mine", encoding="utf-8")
    assert call("train", "small.toml", "--run", "two", "--training.steps", "1", "-q").code == 0
    before, test = fingerprint(folder), ("--test", "test.src", "test.tgt")
    foreign = "which is no earlier output of this command"
    call("export", "run", "--to", "hf", "run").refused(2, f"run: holds .seqloom, {foreign}")
    call("export", "run", "--to", "hf", "mine").refused(2, f"mine: holds a.onnx, {foreign}")
    call("export", "run", "--to", "onnx", "mine/a.onnx").refused(2, f"mine: holds a.onnx, {foreign}")
    call("microscope", "run", "--sentences", "4", "--to", "mine").refused(2, "mine: holds microscope.json")
    assert fingerprint(folder) == before
    call("compare", "run", "two", *test, "--to", "mine").refused(2, "mine: holds compare.html, which is no earlier")
    for _ in range(2):  # what is seqloom's own is replaced
        assert call("compare", "run", "two", *test, "--to", "new").code == 0
        assert call("export", "run", "--to", "hf", "out").code == 0
    Path("out/notes.txt").write_text("mine", encoding="utf-8")
    call("export", "run", "--to", "hf", "out").refused(2, f"out: holds notes.txt, {foreign}")


@pytest.mark.parametrize("typed", ["--optimizer.eps=-1", "--training.device=meta", "--data.train=nowhere"])
def test_what_is_refused_leaves_no_run(call: Call, folder, typed):
    before = fingerprint(folder)
    assert call("train", "small.toml", "--run", "new/one", typed).code in (2, 3)
    assert fingerprint(folder) == before
    assert not Path("new").exists()


def test_a_training_killed_before_it_began_is_begun_again(call: Call, folder):
    Path("new/checkpoints").mkdir(parents=True)
    Path("new/.seqloom").touch()
    Path("new/tokenizer.json").write_text('{"half', encoding="utf-8")
    assert call("train", "small.toml", *NEW).code == 0
    assert Run.open("new").info()["training"]["steps"] == 4


@pytest.mark.parametrize("use", USES, ids=at)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(call: Call, folder, use):
    best = Run.open("run").pointed("best")
    newest = Run.open("run").checkpoints()[-1]
    harmed = newest if use[0] == "train" else best
    assert harmed is not None
    data = bytearray((harmed.path / "model.safetensors").read_bytes())
    data[-3] ^= 4
    (harmed.path / "model.safetensors").write_bytes(data)
    result = call(*use)
    assert result.code == 0
    assert f"warning: run/checkpoints/{harmed.path.name} is damaged" in result.err
    assert "model.safetensors differs from its digest" in result.err


def test_another_config_does_not_go_on_with_a_run(call: Call, folder):
    before = fingerprint(folder)
    result = call("train", "small.toml", "--run", "run", "-q", "--optimizer.lr", "0.5")
    result.refused(2, "the config is not what this run began with (optimizer.lr: 0.001 -> 0.5)", "--run")
    assert fingerprint(folder) == before


def test_two_at_a_time(call: Call, folder):
    with Run("run").locked():
        before = fingerprint(folder)
        result = call("train", "small.toml", "--run", "run", "--training.steps", "6", "-q")
        result.refused(2, "run: another process is training this run", "--run")
        assert fingerprint(folder) == before


# The place


def refusing(number: int) -> Callable[..., object]:
    def refuse(*args: object, **options: object) -> object:
        raise OSError(number, os.strerror(number))

    return refuse


def test_no_write_permission(call: Call, folder, monkeypatch):
    before = fingerprint(folder)
    call("train", "small.toml", "-q", "--run", "/dev/null/run").refused(
        2, "/dev/null/run: cannot be written: Not a directory"
    )
    # The administrator may write anywhere: the refusal is played.
    monkeypatch.setattr(Path, "mkdir", refusing(errno.EACCES))
    result = call("train", "small.toml", *NEW)
    result.refused(2, "new: cannot be written: Permission denied", "choose another place, or change the perm")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Path, "replace", refusing(errno.EACCES))
    result = call("eval", "run", "--test", "test.src", "test.tgt", "-q")
    result.refused(2, "run/eval/test.json: cannot be written: Permission denied")
    assert fingerprint(folder) == before


@pytest.mark.parametrize("place", ["fsync", "write"])
def test_a_full_disk(call: Call, folder, monkeypatch, place):
    before = fingerprint(folder / "run" / "checkpoints")
    if place == "fsync":
        monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
    else:
        monkeypatch.setattr("seqloom.training.checkpoint.save_file", refusing(errno.ENOSPC))
    result = call("train", "small.toml", "--run", "run", "--training.steps", "6", "-q")
    result.refused(2, "No space left on device", "free some space and start the same command again")
    assert fingerprint(folder / "run" / "checkpoints") == before
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert call("train", "small.toml", "--run", "run", "--training.steps", "6", "-q").code == 0
    assert Run.open("run").checkpoints()[-1].step == 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A file system of a given size in `disk`; only the administrator can make one."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def test_a_disk_that_is_really_full_or_read_only(call: Call, folder, small_disk, tmp_path):
    run = str(tmp_path / "disk" / "run")
    command = ("train", "small.toml", "--run", run, "-q", "--training.threads", "1")
    small_disk("size=300k")
    call(*command).refused(2, "No space left on device", "free some space and start the same command again")
    (kept,) = Run.open(run).checkpoints()
    assert (kept.step, kept.fault()) == (2, None)
    assert sorted(p.name for p in kept.path.parent.iterdir()) == [kept.path.name]
    before = fingerprint(kept.path)
    small_disk("remount,ro")
    call(*command).refused(2, "Read-only file system", "the file system is read-only; choose another place")
    assert fingerprint(kept.path) == before
    small_disk("remount,rw,size=4m")
    assert call(*command).code == 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        step = Path("checkpoints/step-00000004") / name
        assert (Path(run) / step).read_bytes() == (Path("run") / step).read_bytes()


# The demo


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--to", "klingon"], ("there are no phrases in 'klingon'", "known are")),
        (["--source", "ittt"], ("there are no phrases in 'ittt'", "did you mean 'it'?")),
        (["--to", "en"], ("'en' is the source language too", "choose two languages")),
    ],
)
def test_a_demo_in_an_unknown_language(call: Call, folder, words, messages):
    before = fingerprint(folder)
    call("demo", "-q", *words).refused(2, *messages)
    assert "Must be from 0" in call("demo", "-q", "--steps", "-3").err
    assert fingerprint(folder) == before


# The system around it


def seqloom(shell: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A call in a process of its own, followed by something of the shell's."""
    command = f'"$0" -m seqloom "$@" {shell}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *words], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("shell", "words", "code", "told"),
    [
        ("<&-", ["translate", "run"], 2, "seqloom: there is no standard input\n  open it, or redirect it"),
        ("<&-", ["config"], 0, ""),
        (">&-", ["config"], 2, "seqloom: there is no standard output\n  redirect it to a file"),
        ("2>&-", ["config"], 0, ""),
        ("2>&-", ["config", "x"], 2, ""),
        ("<&- >&- 2>&-", ["config"], 2, ""),
        ("| true; exit ${PIPESTATUS[0]}", ["--help"], 141, ""),
        ("| true; exit ${PIPESTATUS[0]}", ["train", "--help"], 141, ""),
        ("| true; exit ${PIPESTATUS[0]}", ["config", "translate"], 141, ""),
    ],
)
def test_closed_streams(seen, shell, words, code, told):
    result = seqloom(shell, *words)
    assert (result.returncode, result.stderr[: len(told)]) == (code, told)
    assert "Traceback" not in result.stderr
    assert bool(told) == bool(result.stderr)


def test_a_file_that_is_no_regular_one(call: Call, folder):
    os.mkfifo("pipe.toml")
    os.mkfifo("pipe.txt")
    told = "this is not a regular file"
    for path in ("/dev/zero", "pipe.toml"):
        call("train", path, *NEW).refused(2, f"{path}: {told}")
        call("config", path).refused(2, f"{path}: {told}")
    for path in ("/dev/zero", "pipe.txt"):
        call("translate", "run", "--file", path).refused(2, f"{path}: {told}")
        call("train", "small.toml", *NEW, "--data.valid", path, "valid.tgt").refused(2, f"{path}: {told}")
        call("check", "small.toml", "-q", "--data.train", path, "train.tgt").refused(2, f"{path}: {told}")
    text = Path("small.toml").read_text(encoding="utf-8").replace("size = 280", "kind = 'file'\npath = '/dev/zero'", 1)
    Path("small.toml").write_text(text, encoding="utf-8")
    call("train", "small.toml", *NEW).refused(2, f"/dev/zero: {told}")


@pytest.mark.parametrize(
    "words",
    [
        ("translate", "run", "--rows", "-5", "ba"),
        ("translate", "run", "--rows", "0", "ba"),
        ("translate", "run", "--rows", "1e20", "ba"),
        ("words", "run", "similar", "ba", "--count", "-1"),
        ("fill", "run", "--count", "0", "ba"),
        ("microscope", "run", "--sentences", "-1"),
        ("generate", "run", "ba", "--ahead", "-3"),
        ("generate", "run", "ba", "--ahead", str(10**20)),
        ("generate", "run", "ba", "--length", "-1"),
        ("generate", "run", "ba", "--length", "0"),
        ("generate", "run", "ba", "--seed", "-1"),
        ("chat", "run", "--length", "1000001"),
        ("lineage", "small.toml", "--seeds", "1", "-2"),
        ("demo", "--steps", str(10**15)),
        ("demo", "--minutes", "nan"),
    ],
)
def test_options_that_count(call: Call, seen, words):
    result = call(*words)
    name = next(word for word in words if word.startswith("--"))
    assert (result.code, result.out) == (2, "")
    assert name in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("decoding.temperature", "1e-300"),
        ("decoding.temperature", "1e300"),
        ("decoding.top-p", "1e-300"),
        ("decoding.repetition-penalty", "1e-300"),
        ("decoding.length-penalty", "1e5"),
        ("decoding.max-length", str(2**64)),
        ("decoding.seed", str(2**64)),
        ("decoding.beam", "1e20"),
        ("decoding.beam", "100000"),
        ("decoding.n-best", "10000000"),
    ],
)
def test_decoding_out_of_bounds(call: Call, seen, option, value):
    for words in (("translate", "run", "ba"), ("eval", "run", "--test", "test.src", "test.tgt", "-q")):
        told = call(*words, f"--{option}", value).refused(2, f"--{option.replace('-', '_')}: expected a", " from ")
        assert "got" in told


def test_more_than_a_translation_may_be(call: Call, seen):
    call("translate", "run", "ba", "--prefix", "AB " * 5_000).refused(3, "text 1: its prefix has", "shorten it")
    call("translate", "run", "ba", "--decoding.min-length", "10").refused(
        2, "min_length 10 is above max_length 9", cured=False
    )


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        (("generate", "run", "ba"), "name a run of a language model"),
        (("words", "run", "similar", "ba"), "name a run of word vectors, or a file of vectors"),
        (("embed", "run", "ba"), "name a run"),
        (("classify", "run", "ba"), "name a run of the task classify or tag"),
        (("fill", "run", "ba"), "name a run of the task masked_words"),
        (("chat", "run"), "translate single texts"),
    ],
)
def test_a_run_of_another_task(call: Call, seen, verb, told):
    result = call(*verb, stdin=b"ba\n")
    assert "config.toml" not in result.refused(2, told)


def test_a_training_that_diverges_exits_with_1(call: Call, folder, monkeypatch):
    def diverge(*args: object) -> object:
        raise DivergedError("the loss is nan at step 3", cure="lower optimizer.lr")

    monkeypatch.setattr("seqloom.workflows.train.train_run", diverge)
    call("train", "small.toml", *NEW).refused(1, "the loss is nan at step 3", "lower optimizer.lr")
