"""Models that read whole texts through the command line, as a user meets them: labels, tags, answers, masked words."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from calls import READING, Call, fingerprint, unknown_scores
from made_up import WORDS, sentences

import seqloom
from seqloom.cli import main
from seqloom.errors import UsageError
from seqloom.evaluation.preferences import wilson
from seqloom.inspection.inside.attribution import integrated_gradients, why
from seqloom.inspection.inside.lens import logit_lens
from seqloom.measures import MEASURES, measured
from seqloom.run import Run
from seqloom.tasks import read_config


def data(task: str, name: str, header: str = "") -> str:
    files = "\n".join(f'{split} = ["{name.format(split)}"]' for split in ("train", "valid", "test"))
    return f'task = "{task}"\n\n[data]\n{files}\n{header}\n{READING}'


def label(sentence: str) -> str:
    return "many" if len(sentence.split()) > 3 else "few"


def squad(lines: list[str], seed: int) -> str:
    """Which word comes after another: the passage has each word once."""
    chance, paragraphs = random.Random(seed), []
    for n in range(len(lines)):
        words = chance.sample(WORDS, 6)
        at = chance.randrange(5)
        context, after = " ".join(words), words[at + 1]
        answers = [{"text": after, "answer_start": len(" ".join(words[: at + 1])) + 1}]
        qas = [{"id": f"{seed}.{n}", "question": words[at], "answers": answers}]
        paragraphs.append({"context": context, "qas": qas})
    return json.dumps({"data": [{"paragraphs": paragraphs}]})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and configs of all tasks, and the runs they make."""
    folder = tmp_path_factory.mktemp("reading")
    for split, count, seed in (("train", 80, 1), ("valid", 12, 2), ("test", 14, 3)):
        lines = sentences(count, seed)
        table = "".join(f"{label(s)}\t{s}\t{len(s.split()) / 2}\n" for s in lines)
        (folder / f"{split}.tsv").write_text(f"label\tsentence\tscore\n{table}", encoding="utf-8")
        tags = "\n".join("".join(f"{w} {'B-X' if w < 'l' else 'O'}\n" for w in s.split()) for s in lines)
        (folder / f"{split}.conll").write_text(tags, encoding="utf-8")
        (folder / f"{split}.json").write_text(squad(lines, seed), encoding="utf-8")
        parts = [lines[i : i + 8] for i in range(0, count, 8)]
        (folder / f"{split}.txt").write_text("\n\n".join("\n".join(part) for part in parts) + "\n", encoding="utf-8")
    configs = {
        "label": data("classify", "{}.tsv", 'text = "sentence"'),
        "tags": data("tag", "{}.conll"),
        "span": data("answer", "{}.json").replace("length = 32", "length = 12\nstride = 2\nlong = 'windows'"),
        "words": data("masked_words", "{}.txt").replace("length = 32", "length = 20\nnext_sentence = true"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQLOOM_KEEP_MEMORY", "0")
        for name, text in configs.items():
            (folder / f"{name}.toml").write_text(text, encoding="utf-8")
            main(["train", f"{name}.toml", "--run", name, "-q"])
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_classify_from_words_file_and_standard_input(call: Call, here):
    texts = [row.split("\t")[1] for row in Path("test.tsv").read_text(encoding="utf-8").split("\n")[1:-1]]
    result = call("classify", "label", *texts)
    Path("texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert call("classify", "label", "--file", "texts.txt").out == result.out
    assert call("classify", "label", stdin="\n".join(texts).encode()).out == result.out
    rows = [json.loads(line) for line in call("classify", "label", *texts, "--json").lines]
    assert [row["text"] for row in rows] == texts
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    assert [vars(judged) for judged in seqloom.load("label")(texts)] == rows
    predictions = [line.split("\t")[0] for line in result.lines]
    correct = sum(one == label(text) for one, text in zip(predictions, texts, strict=True))
    assert json.loads(call("eval", "label", "--json", "-q").out)["accuracy"] == pytest.approx(
        100 * correct / len(texts)
    )


def test_eval_prints_tables_and_saves(call: Call, here):
    shown = call("eval", "label").out
    for words in ("accuracy of the most frequent label", "Matthews", "calibration error", "true \\ predicted"):
        assert words in shown
    scores = Run.open("label").evaluation("test")
    assert sum(map(sum, scores["confusion"])) == scores["examples"] == 14
    assert call("report", "label", "-q").code == 0
    page = Path("label/report.html").read_text(encoding="utf-8")
    assert "Examples a second" in page
    assert "best accuracy, %" in page
    assert "Calibration: test" in page
    assert "true \\ predicted" in page
    assert "self-attention" in page


@pytest.mark.parametrize(
    ("name", "metric"), [("label", "accuracy"), ("tags", "f1"), ("span", "exact_match"), ("words", "next_accuracy")]
)
def test_every_task_checks_evaluates_and_is_looked_at(call: Call, here, name, metric):
    scores = json.loads(call("eval", name, "--json", "-q").out)
    assert scores == Run.open(name).evaluation("test")
    assert 0 <= scores[metric] <= 100
    assert not unknown_scores(scores)
    shown = call("eval", name).out
    assert all(MEASURES[key].name in " ".join(shown.split()) for key in measured(scores))
    assert "value" in shown
    assert call("report", name, "-q").code == 0
    result = json.loads(call("check", f"{name}.toml", "--json", "-q").out)
    assert result["estimate"]["parameters"] == Run.open(name).info()["training"]["parameters"]
    assert [row["split"] for row in result["summary"]] == ["train", "valid", "test"]
    first, last = (row["loss"] for row in Run.open(name).rows("metrics.jsonl") if row["kind"] == "valid")
    assert last < first + 0.5


@pytest.mark.parametrize("name", ["label", "tags", "span", "words"])
def test_every_task_shows_what_its_model_does_with_an_input(here, name):
    text = Path("test.txt").read_text(encoding="utf-8").split("\n")[0]
    reader = seqloom.load(name, precision="fp32")
    texts = (text.split()[0], text) if name == "span" else (text,)
    seen = reader.look(texts[0] if len(texts) == 1 else texts)
    side, data = seen.sides["encoder"], json.loads(json.dumps(seen.data()))
    assert [*side.texts] == [*texts]
    assert [word for word, _ in side.words(len(texts) - 1)] == texts[-1].split()
    assert all(positions for _, positions in side.words())
    lens, found = logit_lens(seen), integrated_gradients(seen, why(seen, 0))
    assert (lens[-1] - seen.scores).abs().max() < 1e-5
    assert abs(found.error) <= 0.01 * max(1, abs(found.change))
    assert len(found.values["encoder"]) == len(side.names) == len(data["attention"][0]["rows"])
    assert [each["title"] for each in data["attention"]] == ["encoder self-attention"]
    expected = {"label": 1, "tags": len(side.names), "span": 2, "words": len(side.names)}
    assert len(data["predictions"]) == expected[name]
    if name == "label":
        assert data["predictions"][0]["asked"] == reader([text])[0].label
    if name == "tags":
        firsts = [positions[0] for _, positions in side.words()]
        assert [data["predictions"][i]["asked"] for i in firsts] == [*reader([text])[0].labels]


def test_tags_of_words(call: Call, here):
    (line,) = call("classify", "tags", "ba ko vu").lines
    assert [part.split("/")[0] for part in line.split()] == ["ba", "ko", "vu"]
    row = json.loads(call("classify", "tags", "ba ko", "--json").out)
    assert row["words"] == ["ba", "ko"]
    assert len(row["labels"]) == 2
    long = " ".join(WORDS * 9)  # more than can be read at once
    assert json.loads(call("classify", "tags", long, "--json").out)["words"] == long.split()


def test_answers_stand_in_the_passage(call: Call, here, tmp_path):
    passage = tmp_path / "passage.txt"
    passage.write_text(" ".join(WORDS) + "\n" + " ".join(reversed(WORDS)) + "\n", encoding="utf-8")
    rows = [json.loads(line) for line in call("answer", "span", "--passage", passage, "ba", "mi", "--json").lines]
    text = passage.read_text(encoding="utf-8").removesuffix("\n")
    assert [row["question"] for row in rows] == ["ba", "mi"]
    assert all(row["text"] == text[row["start"] : row["end"]] and row["text"] for row in rows)
    assert call("answer", "span", "--passage", passage, "ba").out == " ".join(rows[0]["text"].split()) + "\n"


def test_fill_gives_probable_words(call: Call, here):
    (line,) = call("fill", "words", "ba <mask> mi <mask>", "--count", "3").lines
    assert [len(part.split()) for part in line.split("\t")] == [3, 3]
    assert call("fill", "words", "ba [MASK] mi <mask>", "--count", "3").lines == [line]
    assert line.split("\t")[0].split()[0] in call("fill", "words", "ba <mask> mi <mask>", "--count", "1000000").lines[0]
    words = json.loads(call("fill", "words", "ba <mask> mi", "--json").out)["words"][0]
    assert len(words) == 5
    assert sorted((w["probability"] for w in words), reverse=True) == [w["probability"] for w in words]


@pytest.mark.parametrize("name", ["label", "tags", "span", "words"])
def test_embed_gives_a_vector_a_text(call: Call, here, tmp_path, name):
    rows = [json.loads(line) for line in call("embed", name, "ba ko", "mi", "--normalize").lines]
    assert all(np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-5) for row in rows)
    to = tmp_path / "v.npy"
    assert call("embed", name, "ba ko", "mi", "--normalize", "--to", to).out.startswith(f"{to} written: 2 texts, ")
    assert np.load(tmp_path / "v.npy") == pytest.approx(np.array([row["vector"] for row in rows]), abs=1e-6)
    assert call("embed", name, "mi", "--to", tmp_path / "v.json").code == 0
    assert json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))[0]["text"] == "mi"
    assert call("embed", name, "mi", "--to", tmp_path / "v.json").code == 0  # what embed wrote is replaced
    (tmp_path / "mine.json").write_text("mine", encoding="utf-8")
    call("embed", name, "mi", "--to", tmp_path / "mine.json").refused(2, "holds mine.json, which is no earlier output")
    assert (tmp_path / "mine.json").read_text(encoding="utf-8") == "mine"
    assert call("embed", name, "mi", "--pooling", "own").out != call("embed", name, "mi").out


def test_a_blank_line_in_a_blank_line_out(call: Call, here, tmp_path):
    """Every verb that reads lines prints as many, with nothing for a line on which nothing can be seen."""
    (tmp_path / "x.txt").write_text("ba <mask>\n\u200b\n\nko <mask> mi\n  \n", encoding="utf-8")
    data, blank = (tmp_path / "x.txt").read_bytes(), [1, 2, 4]
    for verb, name in (("classify", "label"), ("classify", "tags"), ("fill", "words")):
        lines = call(verb, name, stdin=data).lines
        assert [i for i, line in enumerate(lines) if not line] == blank
        assert len(lines) == 5
        rows = [json.loads(line) for line in call(verb, name, "--json", stdin=data).lines]
        assert [i for i, row in enumerate(rows) if not (row or {}).get("words", row)] == blank
    assert call("answer", "span", "--passage", tmp_path / "x.txt", stdin=data).lines[1] == ""
    rows = [json.loads(line) for line in call("embed", "label", stdin=data).lines]
    assert [i for i, row in enumerate(rows) if not any(row["vector"])] == blank
    call("embed", "label", "--file", tmp_path / "x.txt", "--to", tmp_path / "v.npy")
    assert np.load(tmp_path / "v.npy").shape[0] == 5


def test_fine_tuning_starts_from_the_weights_of_another_run(call: Call, here, tmp_path):
    config = data("classify", "{}.tsv", 'text = "sentence"').split("[model.encoder]")[0]
    Path("tuned.toml").write_text('start = "words"\n' + config.replace('kind = "words"', 'kind = "bpe"\nsize = 300'))
    run = tmp_path / "tuned"
    quick = ("--run", run, "--training.steps", "1", "--training.threads", "1", "--optimizer.lr", "1e-9")
    result = call("train", "tuned.toml", *quick, "--batches.length", "20")
    assert result.code == 0, result.err
    assert "newly initialized: heads.label" in result.err
    assert " examples/s" in result.err
    # its encoder is as good as unchanged, and what it makes of a text too
    texts = ("ba ko mi", "ve")
    rows = [[json.loads(line)["vector"] for line in call("embed", r, *texts).lines] for r in ("words", run)]
    assert np.array(rows[0]) == pytest.approx(np.array(rows[1]), abs=2e-2)
    shutil.copytree(run, tmp_path / "alone")
    Path("words").rename("away")
    try:  # a run does not need the one it started from
        assert call("classify", tmp_path / "alone", "ba").code == 0
    finally:
        Path("away").rename("words")


def test_a_ladder_of_readers_is_trained_and_compared(call: Call, here, tmp_path):
    config = data("classify", "{}.tsv", 'text = "sentence"').split("[model.encoder]")
    members = '[members.bag]\nmodel.preset = "bag"\n\n[members.tuned]\nstart = "words"\nbatches.length = 20\n'
    text = config[0].replace('[tokenizer]\nkind = "words"\n', "") + READING.split("heads = 2\n")[1] + members
    Path("ladder.toml").write_text(text, encoding="utf-8")
    result = call("lineage", "ladder.toml", "--run", tmp_path / "ladder", "--json", "-q")
    assert result.code == 0, result.err
    comparison = json.loads(result.out)
    assert [row["name"] for row in comparison["systems"]] == ["bag", "tuned"]
    for row in comparison["systems"]:
        scores = Run.open(tmp_path / "ladder" / row["name"]).evaluation("test")
        assert row["scores"]["accuracy"] == scores["accuracy"]
        assert (scores["examples"], row["intervals"]) == (14, {"accuracy": None})
        assert row["minutes_to_reach"] <= row["minutes"] + 0.001 / 60  # the curve is in milliseconds
    bag, tuned = comparison["systems"]
    assert "difference" not in bag
    assert tuned["difference"] == pytest.approx(tuned["scores"]["accuracy"] - bag["scores"]["accuracy"])
    assert tuned["difference_interval"] is None
    runs = [tmp_path / "ladder" / name for name in ("bag", "tuned")]
    words = ("compare", *runs, "--to", tmp_path / "both", "-q")
    few = " ".join(call(*words, "--test", "valid.tsv").out.split())
    assert "valid, 12 examples, most frequent label" in few
    assert "fewer than the 20 that intervals need" in few
    assert "±" not in few
    first, *rest = Path("valid.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "valid.tsv").write_text(first + "".join(rest * 3), encoding="utf-8")
    shown = call(*words, "--test", tmp_path / "valid.tsv").out
    assert "valid, 36 examples, most frequent label" in shown
    assert "fewer than" not in shown
    assert "against bag" in shown
    for row in json.loads((tmp_path / "both" / "compare.json").read_text(encoding="utf-8"))["systems"]:
        low, high = wilson(round(row["scores"]["accuracy"] * 0.36), 36)
        assert row["intervals"]["accuracy"] == pytest.approx((high - low) / 2)
        assert f"±{(high - low) / 2:.1f}" in shown
    page = (tmp_path / "both" / "compare.html").read_text(encoding="utf-8")
    assert "2 runs on valid" in page
    assert "the difference of the accuracies, in points, on the same examples" in page
    assert "accuracy on the validation data by minutes of training" in page
    call("compare", runs[0], "span", "-q").refused(2, "runs of the tasks 'classify' and 'answer'")


def test_what_writes_is_no_start_for_what_reads(call: Call, here, tmp_path):
    (tmp_path / "config.toml").write_text('[model]\nkind = "decoder-only"\n', encoding="utf-8")
    result = call("train", "label.toml", "--start", tmp_path, "--run", "new")
    result.refused(2, "whose model is of the kind 'encoder-only', not 'decoder-only'", cured=False)


def test_numbers_and_pairs(call: Call, here, tmp_path):
    columns = ("--data.label", "score", "--data.second", "label", "--objective.kind", "numbers")
    words = ("train", "label.toml", *columns, "--training.metric", "pearson", "--run", tmp_path / "run", "-q")
    assert call(*words).code == 0
    assert 0 < json.loads(call("eval", tmp_path / "run", "--json", "-q").out)["rmse"] < 5
    row = json.loads(call("classify", tmp_path / "run", "ba ko\tfew", "--json").out)
    assert isinstance(row["label"], float)
    call("classify", tmp_path / "run", "ba ko").refused(2, "this run is for pairs of texts")


def test_a_tenth_is_held_out_where_there_is_no_validation(call: Call, here, tmp_path):
    text = Path("label.toml").read_text(encoding="utf-8").replace('valid = ["valid.tsv"]\n', "")
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    result = json.loads(call("check", tmp_path / "c.toml", "--json", "-q").out)
    assert {row["split"]: row["examples"] for row in result["summary"]} == {"train": 72, "valid": 8, "test": 14}


def test_a_label_with_a_single_example_stays_in_training(call: Call, here, tmp_path):
    """In every seed; the check has a note, and training runs."""
    text = Path("label.toml").read_text(encoding="utf-8").replace('valid = ["valid.tsv"]\n', "")
    text = text.replace('"train.tsv"', f'"{tmp_path / "rare.tsv"}"')
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    rare = "".join(f"rare{i}\tba ko {word}\t1\n" for i, word in enumerate(WORDS[:3]))
    (tmp_path / "rare.tsv").write_text(Path("train.tsv").read_text(encoding="utf-8") + rare, encoding="utf-8")
    for seed in "123":
        result = call("check", tmp_path / "c.toml", "--seed", seed, "--json")
        (finding,) = [f for f in json.loads(result.out)["findings"] if f["what"] == "labels with a single example"]
        assert "rare0, rare1, rare2" in finding["detail"]
        assert "3 labels with a single example kept in training: rare0, rare1, rare2" in result.err


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("label", "label\tsentence\nfew\tba\nsome\tko\n", "bad:3: the label 'some' is not in the training data"),
        ("tags", "ba O\nko B-Y\n", "the label 'B-Y' is not in the training data"),
        ("span", '{"question": "ba", "context": "ko", "answers": [{"text": "mi", "answer_start": 0}]}', "not JSON"),
    ],
)
def test_data_that_cannot_be_evaluated(call: Call, here, tmp_path, name, content, message):
    path = tmp_path / {"span": "bad.txt"}.get(name, "bad")
    path.write_text(content + ("x" if name == "span" else ""), encoding="utf-8")
    call("eval", name, "--test", path, "-q").refused(3, message)


def test_training_data_that_makes_no_sense(call: Call, here, tmp_path):
    before = fingerprint(tmp_path)
    words = ("label.toml", "--run", tmp_path / "new", "-q")
    call("train", *words, "--data.label", "lable").refused(3, "train.tsv:2: no column 'lable'", "'label'")
    numbers = ("--objective.kind", "numbers", "--training.metric", "loss")
    call("train", *words, *numbers).refused(3, "'few' is not a number")
    result = call("check", "label.toml", "--data.label", "lable", "-q")
    result.refused(3, "no column 'lable'")
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "nowhere", "ba"), "no such run"),
        (("classify", "words", "ba"), "words: is a run of the task 'masked_words'"),
        (("fill", "label", "ba <mask>"), "label: is a run of the task 'classify'"),
        (("fill", "words", "ba"), "no word is masked"),
        (("fill", "words", " ".join(["<mask>"] * 30)), "the most is 20"),
        (("embed", "words", "ba", "--to", "v.txt"), "must end in .npy or .json"),
        (("answer", "span", "--passage", "nowhere.txt", "ba"), "no such file"),
        (("eval", "label", "--decoding.beam", "3"), "this task does not decode"),
        (("train", "label.toml", "--training.metric", "bleu", "-q"), "must be 'accuracy' or 'f1'"),
        (("train", "label.toml", "--batches.length", "3", "-q"), "--batches.length: expected a whole number from 8"),
        (("train", "label.toml", "--start", "nowhere", "--run", "new", "-q"), "nowhere: no such run"),
        (
            ("train", "label.toml", "--start", "words", "--model.encoder.width", "24", "--run", "new", "-q"),
            "do not fit",
        ),
        (
            ("train", "label.toml", "--model.encoder.positions", "learned", "--model.encoder.positions.length", "9"),
            "--model.encoder.positions",
        ),
        (("train", "label.toml", "--model.preset", "bert-tiny", "--batches.length", "600", "-q"), "512 positions"),
        (("translate", "label", "ba"), "label: is a run of the task 'classify'"),
    ],
)
def test_calls_that_are_wrong(call: Call, here, words, message):
    result = call(*words)
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert message in result.err
    assert not Path("new").exists()


def test_one_text_is_no_list_of_texts(here):
    for predictor in (seqloom.load("label"), seqloom.load("tags")):
        with pytest.raises(UsageError, match="expected a list, got one text"):
            predictor("ba ko")


@pytest.mark.parametrize("task", ["classify", "tag", "answer", "masked_words", "reward", "prefer", "reinforce"])
def test_init_writes_a_config_that_is_read(call: Call, tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    assert call("init", task).code == 0
    assert read_config(f"{task}.toml").task == task
    call("check", f"{task}.toml").refused(2, ": no such file")
