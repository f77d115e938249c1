"""A language model through the command line, as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from calls import LANGUAGE_MODEL as CONFIG
from calls import Call, fingerprint, train_in, unknown_scores
from made_up import sentences

from seqloom.data.sources.standard_library import StandardLibrary
from seqloom.data.sources.text import TextFiles
from seqloom.nn import linear
from seqloom.run import Run
from seqloom.tasks import read_config

WITHOUT_DATA = CONFIG[: CONFIG.index("[data]")] + CONFIG[CONFIG.index("[tokenizer]") :]
TRANSFORMER = ("--model.preset", "small-transformer", "--model.decoder.heads", "2", "--model.decoder.inner", "8")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, small.toml, and the run it makes: run/."""
    folder = tmp_path_factory.mktemp("texts")
    for name, count, seed in (("train", 60, 1), ("valid", 8, 2), ("test", 9, 3)):
        (folder / f"{name}.txt").write_text("".join(f"{s}\n" for s in sentences(count, seed)), encoding="utf-8")
    (folder / "small.toml").write_text(CONFIG, encoding="utf-8")
    train_in(folder)
    return folder


@pytest.fixture
def texts(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(written)
    return written


def test_generate_is_a_function_of_prompt_and_seed(call: Call, texts):
    outputs = [call("generate", "run", *words).out for words in (("ba", "ko"), ("--prompt", "ba ko"), ("ba ko",))]
    assert outputs[0].startswith("ba ko")
    assert len(set(outputs)) == 1
    assert call("generate", "run", "ba", "--seed", "7").out != call("generate", "run", "ba", "--seed", "8").out
    assert call("generate", "run").code == 0
    longer = call("generate", "run", "ba", "--length", "40", "--decoding.min-length", "40").out
    assert len(longer) > len(call("generate", "run", "ba", "--length", "1").out)


def test_generate_several_as_json(call: Call, texts):
    rows = call("generate", "run", "ba", "--decoding.n-best", "3", "--decoding.temperature", "1.5", "--json").lines
    assert [json.loads(row)["prompt"] for row in rows] == ["ba"] * 3
    assert all(json.loads(row)["text"].startswith("ba") and json.loads(row)["log_p"] < 0 for row in rows)


def test_eval_check_report_and_runs(call: Call, texts):
    scores = json.loads(call("eval", "run", "--json", "-q").out)
    assert scores == Run.open("run").evaluation("test")
    assert scores["bytes"] == len(Path("test.txt").read_bytes()) + 1
    assert not unknown_scores(scores)
    assert "its state carries over" in call("eval", "run", "--test", "valid.txt", "--name", "other").out
    assert call("report", "run", "-q").out == "run/report.html\n"
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "bits per byte" in page
    assert 'id="attention"' not in page
    result = json.loads(call("check", "small.toml", "--json", "-q").out)
    assert [(row["split"], row["lines"], row["texts"]) for row in result["summary"]] == [
        ("train", 60, 1), ("valid", 8, 1), ("test", 9, 1)
    ]  # fmt: skip
    assert result["estimate"]["parameters"] == Run.open("run").info()["training"]["parameters"]
    assert "tokens/s" in call("check", "small.toml").out
    (row,) = json.loads(call("runs", ".", "--json").out)
    assert (row["task"], row["metric"]) == ("language_model", "loss")
    assert row["best"] == min(r["loss"] for r in Run.open("run").rows("metrics.jsonl") if r["kind"] == "valid")
    assert f"loss {row['best']:.3f}" in call("runs", ".").out


def test_a_transformer_has_attention_in_its_report(call: Call, texts, tmp_path):
    run = tmp_path / "transformer"
    assert call("train", "small.toml", *TRANSFORMER, "--run", run).code == 0
    assert 'id="attention"' in (run / "report.html").read_text(encoding="utf-8")
    assert "windows of 11, 6 apart" in call("eval", run).out
    scores = [json.loads(call("eval", run, *more, "-q", "--json").out) for more in ((), ("--batches.stride", "1"))]
    assert [row["stride"] for row in scores] == [6, 1]
    assert scores[0]["tokens"] == scores[1]["tokens"]
    assert scores[0]["loss"] != scores[1]["loss"]
    call("eval", run, "--batches.stride", "12").refused(2, "stride must be at most batches.length = 11", cured=False)


def test_verify_reads_the_band(call: Call, texts, tmp_path):
    easy = ("--run", tmp_path / "new", "--accept.perplexity", "100000", "-q", "--json")
    assert [v["reached"] for v in json.loads(call("verify", "small.toml", *easy).out)] == [True]
    assert call("verify", "small.toml", *easy[:2], "--accept.perplexity", "1.5", "-q").code == 1


# Bad input


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", 3, "the file is empty"),
        (b"\n\n", 3, "all its lines are blank"),
        (b"ba\nb\xff\n", 3, "bad.txt:2: not UTF-8"),
        (b"ba\n", 3, "fewer than batches.lanes"),
        (None, 2, "bad.txt: no such file"),
    ],
)
def test_text_that_cannot_be_trained_on(call: Call, texts, tmp_path, content, code, message):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    before = fingerprint(tmp_path)
    words = ("small.toml", "--data.train", path, "--run", tmp_path / "new", "-q")
    call("train", *words, *(["--batches.lanes", "99"] if content == b"ba\n" else [])).refused(code, message)
    assert fingerprint(tmp_path) == before
    if content != b"ba\n":
        result = call("check", "small.toml", "--data.train", path, "-q")
        result.refused(code, *(["no text"] if code == 3 and b"\xff" not in content else ["bad.txt"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("generate", "nowhere"), "no such run"),
        (("generate", "run", "ba", "--decoding.temprature", "1"), "did you mean 'temperature'?"),
        (("generate", "run", "ba", "--decoding.temperature", "0"), "set decoding.kind = 'greedy'"),
        (("eval", "run", "--decoding.beam", "3"), "this task does not decode"),
        (("eval", "run", "--batches.stride", "3"), "its state carries over"),
        (("eval", "run", "--test", "nowhere.txt"), "no such file"),
        (("train", "small.toml", "--model.decoder.attention.score", "dot", "-q"), "need an encoder's memory"),
        (("train", "small.toml", "--batches.lenght", "3", "-q"), "did you mean 'length'?"),
        (("train", "small.toml", "--training.metric", "bleu", "-q"), "training.metric must be 'loss'"),
    ],
)
def test_calls_that_are_wrong(call: Call, texts, words, message):
    cured = not any(word in message for word in ("memory", "metric"))
    call(*words).refused(2, message, cured=cured)


def test_a_prompt_that_is_no_utf8(call: Call, texts):
    call("generate", "run", "b\udcff").refused(2, "argument 3: is not UTF-8")
    call("report", "run", "b\udcff").refused(2, "argument 3: is not UTF-8")


def test_init_writes_a_config_that_train_reads(call: Call, texts, tmp_path, monkeypatch):
    words = ("train", "language_model.toml", "-q", "--tokenizer.size", "280", "--training.minutes", "0")
    lines = (texts / "train.txt").read_bytes(), (texts / "valid.txt").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert call("init", "language_model").code == 0
    for name, text in zip(("train", "valid"), lines, strict=True):
        Path(f"{name}.txt").write_bytes(text)
    assert call(*words, "--training.steps", "1", "--batches.lanes", "4").code == 0
    assert Run.open("runs/language_model").info()["task"] == "language_model"


@pytest.mark.parametrize("words", [["translate", "run", "ba"], ["microscope", "run"]], ids=" ".join)
def test_what_is_for_pairs_refuses_a_language_model(call: Call, texts, words):
    call(*words).refused(2, "run: is a run of the task 'language_model'")


def test_chat_refuses_a_model_that_has_seen_no_conversations(call: Call, texts):
    call("chat", "run", stdin=b"").refused(2, "run: was not trained on conversations")


def test_generate_goes_on_from_the_lines_of_a_file(call: Call, texts, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("ba ko\nmi\n", encoding="utf-8")
    together = call("generate", "run", "--file", prompts, "--decoding.sample", "false", "--length", "3").out
    alone = [call("generate", "run", p, "--decoding.sample", "false", "--length", "3").out for p in ("ba ko", "mi")]
    assert together == "".join(alone)


def test_generate_ends_before_a_stop(call: Call, texts):
    words = ["generate", "run", "ba", "--seed", "3", "--length", "20"]
    whole = call(*words).out
    stop = whole[4:7]
    assert call(*words, "--stop", stop).out == whole[: whole.index(stop, 2)] + "\n"


def test_generate_with_a_draft(call: Call, texts, tmp_path):
    assert call("train", "small.toml", "--run", tmp_path / "small", *TRANSFORMER, "-q").code == 0
    words = ["generate", tmp_path / "small", "ba", "--decoding.sample", "false"]
    assert call(*words, "--draft", tmp_path / "small").out == call(*words).out
    refused = call("generate", "run", "ba", "--draft", tmp_path / "small")
    refused.refused(2, "--draft: the model or the draft is not a")
    assert refused.out == ""


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"context": "ba", "choices": ["ko mi", "xyz xyz xyz"], "answer": i % 2 and "ko mi"} for i in range(4)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_eval_takes_the_likeliest_of_choices(call: Call, texts, questions):
    assert call("eval", "run", "--choices", questions, "-q").code == 0
    before = Run.open("run").evaluation("questions")
    scores = json.loads(call("eval", "run", "--choices", questions, "--shots", "1", "--json").out)
    assert (scores["test"], scores["cut"]) == ("questions.1-shot", 0)
    assert Run.open("run").evaluation("questions") == before  # other examples have another name
    assert (scores["questions"], scores["accuracy"], scores["by_chance"]) == (3, 100, 50)
    assert scores["answers"][0]["chosen"] == "ko mi"
    assert not unknown_scores(scores)
    assert "after 1 examples" in call("eval", "run", "--choices", questions, "--shots", "1").out
    for choices, answer in (('["a", "b"]', "2"), ('"yes"', "0"), ('{"a": 1, "b": 2}', "0"), ('["a", "b"]', "1.0")):
        row = f'{{"context": "ba", "choices": {choices}, "answer": {answer}}}'
        questions.write_text(row, encoding="utf-8")
        call("eval", "run", "--choices", questions).refused(3, f"{questions}:1: not a question")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--test", "test.txt"], "--choices: its questions are answered by our own engine, and nothing else is read"),
        (["--test", "test.txt", "--batches.stride", "5"], "leave --batches.stride and --test out"),
        (["--decoding.beam", "2"], "leave --decoding.beam out"),
        (["--task", "films"], "run: has one task alone"),
    ],
)
def test_what_means_nothing_beside_choices_is_refused(call: Call, texts, questions, words, told):
    call("eval", "run", "--choices", questions, *words).refused(2, told)


def test_examples_belong_to_choices(call: Call, texts):
    call("eval", "run", "--shots", "3").refused(2, "--shots: examples are questions")


@pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines,
    reason="NOT TESTED: 8 bits, for which torch has no kernels",
)
@pytest.mark.parametrize(("choices", "name"), [(False, "test"), (True, "questions")])
def test_eval_in_8_bits(call: Call, texts, questions, monkeypatch, choices, name):
    used: list[int] = []
    product = linear.Rounded.product
    monkeypatch.setattr(linear, "_ROUNDED", 1)
    monkeypatch.setattr(linear.Rounded, "product", lambda *given: used.append(1) or product(*given))
    words = ["eval", "run", "--json", "-q", *(["--choices", questions] if choices else [])]
    exact = json.loads(call(*words).out)
    assert used == []
    rounded = json.loads(call(*words, "--int8").out)
    assert used
    assert (exact["test"], rounded["test"]) == (name, f"{name}.int8")
    assert Run.open("run").evaluation(f"{name}.int8")["basis"] == rounded["basis"] != exact["basis"]
    if choices:
        assert rounded["answers"][0]["chosen"] == "ko mi"
    else:
        assert rounded["perplexity"] != exact["perplexity"] == pytest.approx(rounded["perplexity"], rel=0.05)


def test_language_models_are_compared_in_bits_a_byte(call: Call, texts, tmp_path):
    shutil.copytree("run", tmp_path / "two")
    words = ("compare", "run", tmp_path / "two", "--test", "valid.txt", "--to", tmp_path / "both")
    result = json.loads(call(*words, "--json", "-q").out)
    one, two = (row["scores"] for row in result["systems"])
    assert one == two
    assert one["bits_per_byte"] == Run.open("run").evaluation("valid")["bits_per_byte"]
    call("microscope", "run", tmp_path / "two").refused(2, "run: is a run of the task 'language_model'")


def test_the_recipe_takes_text_or_python_itself(texts):
    recipe = Path(__file__).parents[2] / "recipes" / "gpt.toml"
    assert read_config(recipe).data == StandardLibrary()
    assert read_config(recipe, ["--data.train", "train.txt"]).data == TextFiles(("train.txt",))


def test_a_run_is_tuned_on_conversations(call: Call, texts, tmp_path):
    rows = [{"instruction": f"Say {n}", "output": f"{n}!"} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (texts / "gpt.toml").write_text(WITHOUT_DATA)
    words = ("gpt.toml", "--start", "run", "--data.kind", "conversations", "--data.train", tmp_path / "a.jsonl")
    result = call("train", *words, "--batches.length", "40", "--run", tmp_path / "chat")
    assert result.code == 0, result.err
    assert "the last 2 conversations held out" in result.err
    assert "starting from run/checkpoints/" in result.err
    scores = json.loads(call("eval", tmp_path / "chat", "--test", tmp_path / "a.jsonl", "--json", "-q").out)
    assert scores["words"] == 80
    result = json.loads(call("check", *words, "--run", tmp_path / "chat", "--json", "-q").out)
    assert [row["texts"] for row in result["summary"]] == [38, 2]
    (tmp_path / "a.jsonl").write_text('{"instruction": "a"}\n')
    call("train", *words, "--run", tmp_path / "new", "-q").refused(3, "a.jsonl:1: no conversation")
    call("check", *words, "-q").refused(3, "not a conversation")


def test_the_end_of_a_text_is_held_out(call: Call, texts, tmp_path):
    words = ("train", "gpt.toml", "--data.train", "train.txt", "--run", tmp_path / "new")
    (texts / "gpt.toml").write_text(WITHOUT_DATA)
    result = call(*words)
    assert result.code == 0, result.err
    assert "the last 3 of 60 lines held out as validation data" in result.err
