from __future__ import annotations

import gzip
import importlib.metadata
import json
import lzma
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import Call, fingerprint, unknown_scores
from made_up import sentences, translated
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from seqloom.cli.app import app
from seqloom.config import load
from seqloom.data.sources.pairs import Files
from seqloom.run import Run
from seqloom.tasks.seq2seq.task import TranslateConfig
from seqloom.training.fit import Interrupted

VERBS = [verb for verb in app if not verb.startswith("-")]
NEW_RUN = ("--run", "new", "--training.steps", "1", "-q")


# train


def test_train_leaves_a_whole_run_directory(seen):
    run = Run.open("run")
    names = {p.name for p in run.path.iterdir()}
    assert names >= {
        "config.toml", "run.json", "tokenizer.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "latest.json",
        "best.json", "report.html",
    }  # fmt: skip
    assert run.info()["training"]["steps"] == 4
    assert load(TranslateConfig, run.path / "config.toml").data == Files(
        ("train.src", "train.tgt"), ("valid.src", "valid.tgt")
    )
    assert [c.step for c in run.checkpoints()] == [2, 4]


def test_train_prints_its_progress_on_standard_error_alone(call: Call, folder):
    result = call("train", "small.toml", "--run", "new")
    assert result.code == 0
    assert result.out == ""
    assert "step 2: valid loss" in result.err
    assert "next: seqloom eval new" in result.err
    quiet = call("train", "small.toml", "--run", "quiet", "-q")
    assert (quiet.out, quiet.err) == ("", "")
    loud = call("train", "small.toml", "--run", "loud", "-v")
    assert [f"step {n}/4" in loud.err for n in range(1, 5)] == [True] * 4


def test_train_as_json(call: Call, folder):
    result = json.loads(call("train", "small.toml", "--run", "new", "--json", "-q").out)
    assert result["steps"] == 4
    assert result["report"] == "new/report.html"
    assert set(result) >= {"run", "minutes", "tokens", "best"}


def test_the_run_is_named_after_the_config_file(call: Call, folder):
    assert call("train", "small.toml", "-q", "--training.steps=1").code == 0
    assert Run.open("runs/small").info()["training"]["steps"] == 1


def test_the_same_command_again_finds_it_finished(call: Call, folder):
    before = {p: p.read_bytes() for p in Path("run/checkpoints").rglob("*") if p.is_file()}
    assert call("train", "small.toml", "--run", "run").code == 0
    assert {p: p.read_bytes() for p in Path("run/checkpoints").rglob("*") if p.is_file()} == before
    assert call("train", "small.toml", "--run", "run", "--training.steps", "5").code == 0
    assert [c.step for c in Run.open("run").checkpoints()][-2:] == [4, 5]


def test_resuming_under_other_conditions_is_reported(call: Call, folder):
    schedule = ("--schedule.kind", "cosine", "--schedule.warmup", "0")
    words = ("train", "small.toml", "--run", "new", *schedule, "--training.steps")
    assert call(*words, "2").code == 0
    before = fingerprint(folder)
    same = call(*words, "2", "--training.threads", "2").err
    assert "to the bit" not in same
    assert "learning rate" not in same
    assert "this training is complete: the new [training] is not used" in " ".join(same.split())
    assert "complete" not in call(*words, "2").err
    call(*words, "1").refused(2, "new: this training has taken 2 steps; 1 are fewer", "as many or for more")
    assert fingerprint(folder) == before
    Path("other.toml").write_text("task = 'language_model'\ndata = {train = ['train.src']}\n", encoding="utf-8")
    called = "train", "other.toml", "--run", "new"
    call(*called).refused(2, "new: is a run of the task 'translate', not 'language_model'", "--run")
    err = " ".join(call(*words, "4", "--training.threads", "2").err.split())
    assert "threads: 2 instead of 1: the result is not the same to the bit" in err
    assert "4 steps instead of 2: the learning rate at step 2 is" in err
    assert "instead of 0.00e+00" in err
    assert (Run.open("new").info()["threads"], Run.open("new").info()["steps"]) == (2, 4)
    assert "to the bit" not in call(*words, "5", "--training.threads", "2").err


def tsv(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(f"{s}\t{t}\n" for s, t in pairs).encode()


def jsonl(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in pairs).encode()


def po(pairs: list[tuple[str, str]]) -> bytes:
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n'
    return (head + "".join(f'\nmsgid "{s}"\nmsgstr "{t}"\n' for s, t in pairs)).encode()


def tmx(pairs: list[tuple[str, str]]) -> bytes:
    units = "".join(
        f'<tu><tuv xml:lang="aa"><seg>{s}</seg></tuv><tuv xml:lang="bb"><seg>{t}</seg></tuv></tu>' for s, t in pairs
    )
    return f'<?xml version="1.0" encoding="utf-8"?><tmx version="1.4"><body>{units}</body></tmx>'.encode()


FORMATS: dict[str, Callable[[list[tuple[str, str]]], bytes]] = {
    "x.tsv": tsv,
    "x.tsv.gz": lambda pairs: gzip.compress(tsv(pairs)),
    "x.jsonl": jsonl,
    "x.jsonl.xz": lambda pairs: lzma.compress(jsonl(pairs)),
    "x.po": po,
    "x.tmx": tmx,
}


@pytest.mark.parametrize("name", FORMATS)
def test_train_on_every_format(call: Call, folder, name):
    pairs = [(s, translated(s)) for s in sentences(60, 1)]
    Path(name).write_bytes(FORMATS[name](pairs))
    Path("plain.src").write_text("".join(f"{s}\n" for s, _ in pairs), encoding="utf-8")
    Path("plain.tgt.gz").write_bytes(gzip.compress("".join(f"{t}\n" for _, t in pairs).encode()))
    digests = []
    for run, files in (("a", [name]), ("b", ["plain.src", "plain.tgt.gz"])):
        words = ["--run", run, "--training.steps", "1", "--data.train", *files, "-q"]
        assert call("train", "small.toml", *words).err == ""
        digests.append(Run.open(run).info()["corpus"]["train"])
    assert digests[0] == digests[1]


# eval


def test_eval_scores_a_test_set_and_saves_it(call: Call, folder):
    result = call("eval", "run", "--test", "test.src", "test.tgt", "--json", "-q")
    assert result.code == 0
    scores = json.loads(result.out)
    assert set(scores) >= {"bleu", "chrf", "exact_match", "signature", "sentences"}
    assert scores == Run.open("run").evaluation("test")
    rows = scores["translations"]
    references = Path("test.tgt").read_text(encoding="utf-8").split("\n")[:-1]
    assert [row["source"] for row in rows] == Path("test.src").read_text(encoding="utf-8").split("\n")[:-1]
    assert [row["reference"] for row in rows] == references
    translations = [row["translation"] for row in rows]
    assert scores["sentences"] == 12
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(translations, [references]).score)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(translations, [references]).score)
    assert "tok:13a" in scores["signature"]
    assert "nrefs:1" in scores["chrf_signature"]
    assert sum(row["sentences"] for row in scores["by_length"]) == 12
    assert scores["decoding"]["beam"] == 5
    assert scores["checkpoint"] == json.loads(Path("run/best.json").read_text())["checkpoint"]


def test_eval_with_a_perfect_translation(call: Call, folder, monkeypatch):
    from seqloom.tasks.seq2seq.predictor import Translator

    monkeypatch.setattr(Translator, "__call__", lambda self, texts, **options: [translated(t) for t in texts])
    assert call("eval", "run", "--test", "test.src", "test.tgt", "-q").code == 0
    scores = Run.open("run").evaluation("test")
    assert scores["exact_match"] == 100
    assert (scores["bleu"], scores["chrf"]) == pytest.approx((100, 100))


def test_eval_has_a_name_decoding_options_and_tables(call: Call, folder):
    words = ["--decoding.beam", "1", "--decoding.length-penalty=0.5", "--name", "mine"]
    result = call("eval", "run", *words, "--test", "test.src", "test.tgt")
    assert result.code == 0
    for word in ("BLEU", "chrF", "exact match", "By words of the source", "12 sentences"):
        assert word in result.out
    saved = Run.open("run").evaluation("mine")
    assert (saved["decoding"]["beam"], saved["decoding"]["length_penalty"], saved["test"]) == (1, 0.5, "mine")


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "a/b"])
def test_eval_refuses_a_name_that_is_a_path(call: Call, seen, name):
    before = fingerprint(seen)
    result = call("eval", "run", "--name", name, "--test", "test.src", "test.tgt")
    result.refused(2, f"--name: an evaluation cannot be called {name!r}", "--name test")
    assert "translating" not in result.err  # refused before the work
    assert fingerprint(seen) == before


def test_a_hidden_test_file_gives_a_title(call: Call, folder):
    for side in ("src", "tgt"):
        Path(f"test.{side}").rename(f".hidden.{side}")
    scores = json.loads(call("eval", "run", "--test", ".hidden.src", ".hidden.tgt", "--json", "-q").out)
    assert scores["test"] == "hidden"
    assert not unknown_scores(scores)
    assert [p.name for p in Path("run/eval").iterdir()] == ["hidden.json"]


@pytest.mark.parametrize("verb", ["report run", "compare run two --test test.src test.tgt"])
def test_a_broken_evaluation_is_named_and_the_others_remain(call: Call, folder, verb):
    shutil.copytree("run", "two")
    for name, beam in (("good", 2), ("greedy", 1)):
        call("eval", "run", "--test", "test.src", "test.tgt", "--name", name, "--decoding.beam", beam, "-q")
    Path("run/eval/test.json").write_text('{"half', encoding="utf-8")
    result = call(*verb.split())
    assert result.code == 0
    assert "run/eval/test.json: cannot be read" in result.err
    assert "with the same --test and --name test" in result.err
    if verb.startswith("report"):
        report = Path("run/report.html").read_text(encoding="utf-8")
        assert all(f"<td>{name}</td>" in report or f">{name}<" in report for name in ("good", "greedy"))
        listed = call("runs", ".", "--json")
        assert json.loads(listed.out)[0]["evaluated on"] == "good, greedy"
        assert "run/eval/test.json: cannot be read" in listed.err
        assert "cannot be read" in call("eval", "run", "--test", "test.src", "test.tgt", "-q").err
    assert Run.open("run").evaluation("test")  # both compare and eval write it again


def test_a_training_that_goes_on_leaves_nothing_of_before(call: Call, folder, monkeypatch):
    def interrupted(run: Run, plan: object, reporter: object) -> None:
        run.point("best", run.checkpoints()[0], step=2)  # as a new best one would be
        raise Interrupted(5, signal.SIGTERM)

    assert call("eval", "run", "--test", "test.src", "test.tgt", "-q").code == 0
    assert json.loads(call("runs", ".", "--json").out)[0]["evaluated on"] == "test"
    call("report", "run", "-q")
    monkeypatch.setattr("seqloom.workflows.train.fit", interrupted)
    call("train", "small.toml", "--run", "run", "--training.steps", "6", "-q").refused(75, "stopped")
    assert not Path("run/report.html").exists()
    for words in (("report", "run"), ("runs", ".", "--json")):
        result = call(*words)
        outdated = "run/eval/test.json: has the scores of an earlier step-00000004; step-00000002 is best now"
        assert outdated in " ".join(result.err.split())
        assert "evaluate again with the same --test and --name test" in " ".join(result.err.split())
    (row,) = json.loads(result.out)
    assert (row["state"], row["evaluated on"]) == ("resumable", "")
    assert "Exact match" not in Path("run/report.html").read_text(encoding="utf-8").split("Scores")[-1]


def test_eval_warns_before_it_replaces_the_scores_of_other_files(call: Call, folder):
    Path("other").mkdir()
    for name in ("test.src", "test.tgt"):
        shutil.copy(name, "other")
    for _ in range(2):
        assert "--name keeps both" not in call("eval", "run", "--test", "test.src", "test.tgt", "-q").err
    err = call("eval", "run", "--test", "other/test.src", "other/test.tgt", "-q").err
    assert "run/eval/test.json had the scores of test.src test.tgt, which are replaced" in " ".join(err.split())


def test_eval_without_test_data_names_the_option(call: Call, folder):
    call("eval", "run").refused(2, "--test", "the config names no test data", "--test SOURCE REFERENCE")
    assert not Path("run/eval").exists()


def test_eval_warns_that_it_leaves_out_pairs_with_an_empty_side(call: Call, folder):
    Path("x.tsv").write_text("ba\tAB\n\tAB\nko\tOK\n", encoding="utf-8")
    result = call("eval", "run", "--test", "x.tsv", "--json")
    assert json.loads(result.out)["sentences"] == 2
    assert "warning: 1 test pairs with an empty side are left out" in result.err


# verify


def test_verify_reports_whether_the_band_is_reached(call: Call, folder):
    words = ["--run", "run", "--data.test", "test.src", "test.tgt"]
    reached = call("verify", "small.toml", *words, "--accept.bleu", "0", "--accept.minutes", "1000", "--json", "-q")
    assert reached.code == 0
    assert [v["reached"] for v in json.loads(reached.out)] == [True, True]
    missed = call("verify", "small.toml", *words, "--accept.bleu", "101", "--accept.minutes", "1000")
    assert missed.code == 1
    assert "NOT reached" in missed.out
    assert "Traceback" not in missed.err
    late = call("verify", "small.toml", *words, "--accept.minutes", "0", "--json", "-q")
    assert late.code == 1
    assert json.loads(late.out)[0]["metric"] == "minutes"


def test_verify_without_a_band_or_with_an_unknown_metric(call: Call, folder):
    call("verify", "small.toml", *NEW_RUN).refused(2, "has no [accept] table")
    call("verify", "small.toml", *NEW_RUN, "--accept.blue", "3").refused(2, "blue", "did you mean 'bleu'?")
    assert not Path("new").exists()


# init and check


def test_init_writes_a_config_that_check_reads(call: Call, folder):
    assert call("init", "translate").code == 0
    written = Path("translate.toml").read_bytes()
    assert load(TranslateConfig, "translate.toml").model.preset == "small"
    alone = call("init", "translate", "--file", "-").out.encode()
    assert written == b"#:schema ./seqloom-translate.schema.json\n" + alone
    call("init", "translate").refused(2, "translate.toml: exists already", "--file")
    assert Path("translate.toml").read_bytes() == written
    call("check", "translate.toml").refused(2, "train.en: no such file")
    for old, new in (("train", "train"), ("valid", "val")):
        Path(f"{old}.src").rename(f"{new}.en")
        Path(f"{old}.tgt").rename(f"{new}.de")
    small = ["--tokenizer.size", "280", "--model.preset", "tiny", "--training.threads", "1"]
    result = call("check", "translate.toml", *small)
    assert result.code == 0
    for word in ("data", "estimate for this machine", "minutes", "memory", "steps", "disk"):
        assert word in result.out
    assert not Path("runs").exists()


def test_check_as_json(call: Call, folder):
    result = call("check", "small.toml", "--json", "-q")
    assert result.code == 0
    report = json.loads(result.out)
    assert [(row["split"], row["side"], row["pairs"]) for row in report["summary"]] == [
        ("train", "source", 60), ("train", "target", 60), ("valid", "source", 4), ("valid", "target", 4)
    ]  # fmt: skip
    assert report["estimate"]["steps"] == 4
    assert min(report["estimate"][k] for k in ("minutes", "gigabytes", "disk_gigabytes", "tokens_per_second")) > 0


def test_check_finds_every_fault_and_exits_with_3(call: Call, folder):
    lines = Path("train.src").read_bytes().split(b"\n")
    lines[6], lines[9], lines[40] = b"b\xe4", b"mi\0", b"\xff"
    Path("train.src").write_bytes(b"\n".join(lines[:-3]) + b"\n")
    result = call("check", "small.toml")
    result.refused(3, "train.src", "iconv -f WINDOWS-1252 -t UTF-8 < train.src")
    for word in ("undecodable bytes", "NUL characters", "unequal line counts", "train.src:7", "train.src:10"):
        assert (result.out + result.err).count(word) == 1
    report = json.loads(call("check", "small.toml", "--json").out)
    assert sum(f["severity"] == "error" for f in report["findings"]) == 3
    assert "estimate" not in report


# compare


def test_compare_puts_runs_side_by_side(call: Call, folder):
    assert call("train", "small.toml", "--run", "two", "--training.steps", "1", "-q").code == 0
    test = ["--test", "test.src", "test.tgt", "--to", "side"]
    result = call("compare", "run", "two", *test, "--json", "-q")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [row["name"] for row in report["systems"]] == ["run", "two"]
    assert report["systems"][0]["parameters"] == 9056
    assert report["systems"][0]["minutes"] > 0
    assert report["systems"][0]["gigabytes"] > 0.05
    assert json.loads(Path("side/compare.json").read_text(encoding="utf-8")) == report
    page = Path("side/compare.html").read_text(encoding="utf-8")
    for word in ("2 runs on test", "By word frequency", "Sentences that differ most"):
        assert word in page
    made = Path("two/eval/test.json").stat().st_mtime_ns
    table = call("compare", "run", "two", *test)
    assert "BLEU by words of the source" in table.out
    assert Path("two/eval/test.json").stat().st_mtime_ns == made  # a saved evaluation is not repeated


def test_compare_does_without_the_training_data(call: Call, folder):
    shutil.copytree("run", "two")
    for file in Path().glob("train.*"):
        file.unlink()
    result = call("compare", "run", "two", "--test", "test.src", "test.tgt", "--to", "side")
    assert result.code == 0
    assert "warning: no scores by the frequency of words in the training data: no such file" in result.err
    assert "By word frequency" not in Path("side/compare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("changed", [(), ("--data.valid", "test.src", "test.tgt"), ("--tokenizer.size", "261")])
def test_only_scores_on_the_same_validation_data_are_raced_for(call: Call, folder, changed):
    other = bool(changed)
    words = ("--training.steps", "2", "--training.metric", "loss", *changed)
    assert call("train", "small.toml", "--run", "two", *words, "-q").code == 0
    result = call("compare", "two", "run", "--test", "test.src", "test.tgt", "--to", "side")
    assert ("the validation data differ" in result.err) == other
    assert ("to reach" not in result.out) == other
    report = json.loads(Path("side/compare.json").read_text(encoding="utf-8"))
    assert [row["minutes_to_reach"] is None for row in report["systems"]] == [other] * 2
    title = f"on {'validation data, or tokens, of its own' if other else 'the validation data'} by minutes of training"
    assert title in Path("side/compare.html").read_text("utf-8")


def test_compare_uses_no_score_of_other_data_options_or_weights(call: Call, folder):
    assert call("train", "small.toml", "--run", "two", "--training.steps", "1", "-q").code == 0
    words = ("compare", "run", "two", "--test", "test.src", "test.tgt", "--to", "side", "--json")
    assert "evaluating two" in call(*words).err
    assert "evaluating" not in call(*words).err
    with Path("test.tgt").open(encoding="utf-8") as file:
        lines = file.read().split("\n")
    Path("test.tgt").write_text("\n".join([lines[0].lower(), *lines[1:]]), encoding="utf-8")
    assert "evaluating two" in call(*words).err
    assert call("eval", "two", "--test", "test.src", "test.tgt", "--decoding.beam", "2", "-q").code == 0
    again = call(*words)
    assert "evaluating run" not in again.err
    assert "evaluating two" in again.err
    assert call("train", "small.toml", "--run", "two", "--training.steps", "2", "-q").code == 0
    run = Run.open("two")
    run.point("best", run.checkpoints()[-1], step=2)
    assert "evaluating two" in call(*words).err
    assert "evaluating" not in call(*words).err


def test_comparisons_that_cannot_be(call: Call, folder):
    call("compare", "run").refused(2, "at least two runs")
    call("compare", "run", "run").refused(2, "the same run twice")
    call("compare", "run", "nowhere").refused(2, "no such run")
    assert call("train", "small.toml", "--run", "two", "--training.steps", "1", "-q").code == 0
    call("compare", "run", "two").refused(2, "names no test data")


# explain


def test_explain_writes_one_file_that_needs_no_other(call: Call, folder):
    text = "wo <b>ko</b> 世界"
    assert call("explain", "run", text, "--to", "side/one.html", "-q").out == "side/one.html\n"
    page = Path("side/one.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "<b>" not in page
    assert not re.search(r"^(import|export) ", page, re.MULTILINE)
    found = re.search(r'<script type="application/json">(.*?)</script>', page)
    assert found
    kept = json.loads(found[1])
    assert kept["question"] == {"text": text}
    names = {key.split("[")[0] for key in kept["answers"]}
    assert names == {"inside", "lens", "counted", "walk", "weights", "head", "off", "beam"}
    call("explain", "run", " ").refused(2, "blank")
    call("explain", "nowhere", text).refused(2, "no such run")
    Path("mine").mkdir()
    Path("mine/own.html").write_text("mine", encoding="utf-8")
    call("explain", "run", text, "--to", "mine/own.html").refused(2, "no earlier output")


# microscope


def test_microscope_measures_runs_side_by_side(call: Call, folder):
    result = call("microscope", "run", "--untrained", "--sentences", "4", "--to", "side", "--json", "-q")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [run["name"] for run in report["runs"]] == ["run", "run, untrained"]
    assert report["runs"][0]["encoder"]["share"][0] == 1
    assert report["runs"][0]["encoder"] != report["runs"][1]["encoder"]
    assert json.loads(Path("side/microscope.json").read_text(encoding="utf-8")) == report
    assert "run, untrained" in Path("side/microscope.html").read_text(encoding="utf-8")
    table = call("microscope", "run", "--sentences", "4")
    assert "decoder over the source" in table.out
    assert Path("runs/microscope/microscope.html").is_file()


def test_runs_that_cannot_be_measured(call: Call, folder):
    call("microscope").refused(2, "needs one run or more")
    call("microscope", "run", "run").refused(2, "each named once")
    assert "Must be from 1" in call("microscope", "run", "--sentences", "0").err
    call("microscope", "nowhere").refused(2, "no such run")
    call("microscope", "run").refused(3, "64 pairs are asked for, and the validation data has 4", "--sentences 4")
    run = Run.open("run")
    run.write_config((run.path / "config.toml").read_text(encoding="utf-8").replace('"translate"', '"dance"'))
    call("microscope", "run", "--sentences", "4").refused(2, "dance")


# The other verbs


def test_runs_lists_what_there_is(call: Call, folder):
    assert call("train", "small.toml", "--run", "two", "--training.steps", "1", "-q").code == 0
    (folder / "half").mkdir()
    (folder / "half" / ".seqloom").touch()  # its data are being read
    result = call("runs", ".", "--json")
    assert result.err == ""
    rows = json.loads(result.out)
    assert [(row["run"], row["task"], row["steps"], row["state"]) for row in rows] == [
        ("half", "", 0, "not begun"), ("run", "translate", 4, "finished"), ("two", "translate", 1, "finished")
    ]  # fmt: skip
    assert "two" in call("runs", ".").out
    Path("two/best.json").unlink()
    shutil.rmtree("run/checkpoints")
    result = call("runs", ".", "--json")
    assert [row["state"] for row in json.loads(result.out)] == ["not begun", "damaged", "finished"]
    assert "two/best.json: is missing" in result.err
    assert "run: has lost its checkpoints" in result.err
    call("train", "small.toml", "--run", "run").refused(2, "run: has lost its checkpoints", "put the folder")
    call("runs", "nowhere").refused(2, "nowhere: no such folder")


def test_doctor(call: Call):
    facts = json.loads(call("doctor", "--json").out)
    assert {"python", "torch", "seqloom", "cores", "threads", "bf16 is fast", "device"} <= set(facts)
    assert facts["extras"]["tensorboard"] == {"tensorboard": importlib.metadata.version("tensorboard")}


def test_doctor_lists_the_extras_and_what_each_lacks(call: Call, monkeypatch):
    versions = {"numba": "0.62.1", "onnx": "1.19.0"}
    required = ["torch>=2.10", "numba>=0.62; extra == 'words'", "pytest>=8; extra == 'test'"]
    required += ['onnx>=1.19 ; python_version < "3.15" and extra == "export"', "ctranslate2>=4; extra == 'export'"]

    def version(package: str) -> str:
        if package in versions:
            return versions[package]
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "requires", {"seqloom": required}.__getitem__)
    monkeypatch.setattr(importlib.metadata, "version", version)
    facts = json.loads(call("doctor", "--json").out)
    assert facts["extras"] == {"words": {"numba": "0.62.1"}, "export": {"onnx": "1.19.0", "ctranslate2": None}}
    assert facts["babel"] == "not installed"
    lines = [" ".join(line.split()) for line in call("doctor").lines]
    assert "words training word vectors numba 0.62.1" in lines
    assert "export export to CTranslate2 and ONNX onnx 1.19.0, ctranslate2 is missing" in lines


def test_a_report_is_one_file_and_can_be_written_anew(call: Call, folder):
    Path("run/report.html").unlink()
    result = call("report", "run", "ba ko mi")
    assert result.lines == ["run/report.html"]
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "ba ko mi" in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_demo_without_patience(call: Call, folder, monkeypatch):
    from dataclasses import replace

    from seqloom.data.sources.phrases.corpus import Phrases
    from seqloom.tasks.seq2seq import demo

    true = demo.demo_config

    def small(*words: object) -> TranslateConfig:
        config = true(*words)
        small = load(TranslateConfig, "small.toml")
        training = replace(config.training, threads=1)
        data = Phrases(size=100, valid_size=4, test_size=8)
        return replace(config, model=small.model, data=data, training=training, decoding=small.decoding)

    monkeypatch.setattr(demo, "demo_config", small)
    result = call("demo", "--steps", "2", "--run", "demo")
    assert result.code == 0
    assert "expected: " in result.err
    assert "five translations" in result.out
    assert "translate demo" in result.out
    assert Path("demo/report.html").is_file()
    assert Run.open("demo").evaluation("test")["sentences"] == 8
    again = call("demo", "--steps", "2", "--run", "demo")
    assert again.code == 0
    assert "expected: " not in again.err


def test_help_of_every_verb_comes_without_torch():
    script = (
        "import sys\nfrom seqloom.cli import main\n"
        f"for words in [['--help'], ['--version'], *([verb, '--help'] for verb in {VERBS!r})]: main(words)\n"
        "assert 'torch' not in sys.modules\nassert 'numpy' not in sys.modules\n"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")
    for verb in VERBS:
        assert completed.stdout.count(f" {verb} ") >= 2  # in the list, and in its own page


@pytest.mark.parametrize(
    ("verb", "example"),
    [("train", "--training.steps 1000"), ("eval", "--decoding.beam 5"), ("chat", "--decoding.temperature 0.7")],
)
def test_help_gives_an_example_of_a_key_that_fits(call: Call, verb, example):
    arguments = call(verb, "--help").out.partition("OVERRIDES")[2].partition("╰")[0]
    assert " ".join(arguments.replace("│", " ").split()).endswith(f"(e.g. {example}).")


def test_help_of_fill_names_both_masks(call: Call):
    assert "[MASK] or <mask>" in call("fill", "--help").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "x"], 'did you mean "train"?'),
        (["train"], "config"),
        (["eval"], "run"),
        (["init", "transalte"], "translate"),
        (["runs", "--jsno"], "--json"),
        (["demo", "--steps", "many"], "many"),
    ],
)
def test_a_call_that_is_wrong_exits_with_2_and_a_hint(call: Call, words, message):
    result = call(*words)
    assert result.code == 2
    assert message in result.err.lower()
    assert "Traceback" not in result.err
    assert result.out == ""
