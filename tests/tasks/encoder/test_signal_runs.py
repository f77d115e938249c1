"""Runs of signals and of DNA, made small: they learn, resume to the bit, and classify files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starts import check_resuming
from toys import Listener

import seqloom
from seqloom.cli import main
from seqloom.config import build, load, to_toml
from seqloom.data.batches.windows import Item
from seqloom.data.rows import Example, LabelledArray, TaggedArray
from seqloom.errors import ConfigError, DataError, RunError, UsageError
from seqloom.interop.own_tokenizer import write_tokenizers
from seqloom.nn.embedders import FrameConfig
from seqloom.tasks.assets import Assets
from seqloom.tasks.encoder.classify import ClassifyConfig
from seqloom.tasks.encoder.embed import load_encoder
from seqloom.tasks.encoder.media import TextMedium
from seqloom.tasks.encoder.signals import SignalMedium
from seqloom.tasks.encoder.tag import StepTagger, TagConfig
from seqloom.text.dna import Kmers, kmers, reverse_complement
from seqloom.text.tokenizer import Characters, Tokenizer
from seqloom.text.training import train_tokenizer
from seqloom.workflows.export import export_run
from seqloom.workflows.train import train_run

Tree = dict[str, Any]
MODEL = {"layers": 1, "width": 16, "inner": 16, "heads": 2, "dropout": 0.0}


def waves(count: int, seed: int, steps: int = 24) -> tuple[np.ndarray, list[str]]:
    """Slow and fast waves (N T 2) beside noise, with some missing values."""
    random = np.random.default_rng(seed)
    labels = ["slow" if i % 2 else "fast" for i in range(count)]
    rates = np.array([0.3 if label == "slow" else 1.1 for label in labels])
    phase = random.uniform(0, 6, count)[:, None]
    wave = 40 + 5 * np.sin(rates[:, None] * np.arange(steps) + phase)
    values = np.stack((wave, random.normal(size=wave.shape)), -1)
    values[random.random(values.shape) < 0.02] = np.nan
    return values.astype(np.float32), labels


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name, count, seed in (("train", 80, 1), ("valid", 20, 2), ("test", 20, 3)):
        values, labels = waves(count, seed)
        np.savez(tmp_path / f"{name}.npz", values=values, label=np.array(labels))
    data = {name: [str(tmp_path / f"{name}.npz")] for name in ("train", "valid", "test")}
    return {
        "task": "classify",
        "run": str(tmp_path / "run"),
        "data": {"kind": "signals", **data},
        "model": {"encoder": MODEL, "front": {"strides": [2, 1], "kernel": 3}},
        "optimizer": {"lr": 0.005},
        "batches": {"tokens": 400, "length": 24},
        "schedule": {"warmup": 5},
        "training": {"steps": 60, "evaluate_every": 30, "threads": 1, "precision": "fp32"},
    }


def test_a_run_learns_and_is_used(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = build(ClassifyConfig, tree)
    assert isinstance(made.model.embedder, FrameConfig)
    (tmp_path / "c.toml").write_text(to_toml(made), encoding="utf-8")
    assert load(ClassifyConfig, tmp_path / "c.toml") == made
    run = train_run(made, Listener())
    (tmp_path / "wide.csv").write_text("at,x,y,label\n0,1,2,slow\n1,2,3,fast\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"wide.csv:2: 3 channels, and the model reads 2\n  leave columns .*: at, x, y"):
        seqloom.load(run.path)([str(tmp_path / "wide.csv")])
    facts = json.loads((run.path / "labels.json").read_text(encoding="utf-8"))
    assert facts["sizes"] == {"channels": 2}
    assert facts["scale"]["mean"] == pytest.approx([40, 0], abs=0.3)
    main(["eval", str(run.path), "-q", "--json"])
    assert json.loads(capsys.readouterr().out)["accuracy"] >= 90
    values, labels = waves(6, 7)
    assert [each.label for each in seqloom.load(run.path)(list(values))] == labels
    main(["report", str(run.path), "-q"])
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert page.count("attention: rollout") == 2
    assert "channel 2" in page
    lines = [json.dumps({"series": np.nan_to_num(v).astype(float).tolist()}) for v in values]  # without labels
    (tmp_path / "new.jsonl").write_text("\n".join(lines), encoding="utf-8")
    capsys.readouterr()
    main(["classify", str(run.path), str(tmp_path / "new.jsonl"), str(tmp_path / "test.npz")])
    found = [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [row[0] for row in found[:6]] == labels
    assert found[2][2] == f"{tmp_path / 'new.jsonl'}:3"
    assert len(found) == 26
    with pytest.raises(UsageError, match=r"has 6 series\n  name one, like .*new.jsonl:1"):
        seqloom.load(run.path)([str(tmp_path / "new.jsonl")])
    (tmp_path / "names").write_text(f"{tmp_path / 'new.jsonl'}:1\n\n", encoding="utf-8")
    main(["classify", str(run.path), "--file", str(tmp_path / "names")])
    assert [line.split("\t")[0] for line in capsys.readouterr().out.split("\n")[:-1]] == [labels[0], ""]
    with pytest.raises(UsageError, match="reads signals, as no format here does"):
        export_run(run, "onnx", str(tmp_path / "out" / "x.onnx"), Listener())
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="not a series"):
        seqloom.load(run.path)([np.zeros((2, 3, 4))])
    with pytest.raises(DataError, match="3 channels, and the model reads 2"):
        seqloom.load(run.path)([np.zeros((9, 3))])
    with pytest.raises(RunError, match="reads signals, and vectors are those of texts"):
        load_encoder(run.path)
    with pytest.raises(
        UsageError, match=r"is no Transformer that continues texts, .* GGUF file holds\n .* small-llama"
    ):
        export_run(str(run.path), "gguf", str(tmp_path / "a.gguf"), Listener())
    with pytest.raises(
        DataError, match=r"all examples have the label 'slow'\n  name examples with two labels or more;"
    ):
        made.facts([LabelledArray(values[0], "slow")])


def test_a_run_that_was_stopped_has_the_same_bits(tree: Tree, tmp_path: Path) -> None:
    made = build(ClassifyConfig, {**tree, "training": {**tree["training"], "steps": 8, "evaluate_every": 2}})
    check_resuming(made, tmp_path)


def medium(tree: Tree, **batches: Any) -> SignalMedium:
    config = build(ClassifyConfig, {**tree, "batches": {**tree["batches"], **batches}})
    scale = {"mean": [0.0, 0.0], "deviation": [1.0, 1.0]}
    return SignalMedium(config, Assets(facts={"labels": ["a", "b"], "sizes": {"channels": 2}, "scale": scale}))


def test_long_series_are_cut_or_read_in_windows(tree: Tree) -> None:
    rows = [LabelledArray(np.arange(2.0 * n).reshape(n, 2).astype(np.float32)) for n in (60, 10)]
    cut = medium(tree)
    assert [len(w.values) for windows in cut.windows(rows) for w in windows] == [24, 10]
    assert cut.lost.startswith("1 series cut after 24 steps")
    whole = medium(tree, long="windows", stride=16)
    windows = whole.windows(rows)
    assert [[w.first_token for w in each] for each in windows] == [[0, 16, 32, 48], [0]]
    np.testing.assert_array_equal(windows[0][3].values, rows[0].values[48:])
    assert not whole.lost


def test_channels_must_agree_and_missing_values_count_for_nothing(tree: Tree, tmp_path: Path) -> None:
    source = build(ClassifyConfig, tree).data
    rows = [LabelledArray(np.array([[1.0, np.nan], [3.0, np.nan]], np.float32), "a", "x")]
    assert source.learned(rows)["scale"] == {"mean": [2.0, 0.0], "deviation": [1.0, 1.0]}
    with pytest.raises(DataError, match="y: 3 channels, and x has 2 channels"):
        source.learned([*rows, LabelledArray(np.zeros((4, 3)), "b", "y")])
    stated = build(ClassifyConfig, {**tree, "model": {**tree["model"], "embedder": {"channels": 5}}})
    with pytest.raises(ConfigError, match=r"model.embedder.channels: is 5, that of the data 2"):
        stated.build(Assets(facts={"labels": ["a", "b"], "sizes": {"channels": 2}}))
    model = {"encoder": {**MODEL, "positions": {"kind": "learned", "length": 11}}, "front": {"strides": [2]}}
    with pytest.raises(ConfigError, match=r"batches.length 24 is more than the model's 22 positions"):
        build(ClassifyConfig, {**tree, "model": model})


def test_a_start_that_does_not_exist_is_named(tree: Tree) -> None:
    del tree["model"]
    made = build(ClassifyConfig, {**tree, "start": "runs/nope"})
    with pytest.raises(UsageError, match="runs/nope: no such run"):
        train_run(made, Listener())


def test_the_other_strand() -> None:
    assert reverse_complement("ACGTTNrk") == "myNAACGT"
    assert reverse_complement(reverse_complement("ACGTURYSWKMBDHVN".replace("U", "T"))) == "ACGTTRYSWKMBDHVN"
    with pytest.raises(DataError, match="x:3: 'J' is no nucleotide"):
        reverse_complement("ACJ", "x:3")


@pytest.mark.parametrize("stride", [1, 3])
def test_words_of_k_letters(stride: int, tmp_path: Path) -> None:
    assert kmers("ACGTACGT", 3, stride).split() == [*(["ACG", "CGT", "GTA", "TAC", "ACG", "CGT"][::stride])]
    made = train_tokenizer(Kmers(3, stride), ["ACGTACGT", "TTT"])
    ids = made.encode(["ACGTAAA", "AC"])
    assert made.tokens(ids[0]) == ["ACG", "CGT", "GTA", "<unk>", "<unk>"][::stride]
    assert ids[1].tolist() == [made.unknown]
    (tmp_path / "tokenizer.json").write_text(made.to_json(), encoding="utf-8")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.encode(["ACGTAAA"])[0].tolist() == ids[0].tolist()
    assert again.digest() == made.digest()
    with pytest.raises(UsageError, match="have no places"):
        again.encode_places(["ACGT"])


@pytest.fixture
def dna(tmp_path: Path) -> Tree:
    random = np.random.default_rng(1)
    rows = ["label\ttext"]
    for i in range(60):
        letters = list("".join(random.choice(list("ACGT"), 18)))
        letters[6:11] = "GATTA" if i % 2 else "CCCAC"
        rows.append(f"{i % 2}\t{''.join(letters)}")
    (tmp_path / "dna.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {
        "task": "classify",
        "run": str(tmp_path / "run"),
        "data": {"train": [str(tmp_path / "dna.tsv")], "strands": "both"},
        "tokenizer": {"kind": "kmers", "size": 3},
        "model": {"encoder": {"kind": "bag", "width": 16}, "pooling": "max", "front": {"strides": [1], "kernel": 5}},
        "optimizer": {"lr": 0.01},
        "batches": {"tokens": 600, "length": 32},
        "schedule": {"warmup": 5},
        "training": {"steps": 40, "evaluate_every": 20, "threads": 1, "precision": "fp32"},
    }


def test_lower_case_is_folded_where_all_letters_are_nucleotides() -> None:
    for kind in (Kmers(3), Characters()):
        made = train_tokenizer(kind, ["ACGTACGT", "TTTA"])
        assert made.encode(["acgTT"])[0].tolist() == made.encode(["ACGTT"])[0].tolist()
    made = train_tokenizer(Characters(), ["ACGTacgt"])
    assert made.encode(["a"])[0].tolist() != made.encode(["A"])[0].tolist()


@pytest.mark.parametrize(("strands", "reads"), [("both", "both strands"), ("one", "words of k letters")])
def test_dna_is_not_exported(strands: str, reads: str, dna: Tree, tmp_path: Path) -> None:
    few = {**dna["training"], "steps": 1, "evaluate_every": 1}
    tree = {**dna, "data": {**dna["data"], "strands": strands}, "training": few}
    run = train_run(build(ClassifyConfig, tree), Listener())
    with pytest.raises(UsageError, match=f"reads {reads}, as no format here does"):
        export_run(run, "onnx", str(tmp_path / "out" / "x.onnx"), Listener())
    assert not (tmp_path / "out").exists()


def test_both_strands_have_one_answer(dna: Tree, tmp_path: Path) -> None:
    run = train_run(build(ClassifyConfig, dna), Listener())
    texts = ["ACGTACGATTACGTACGT", "ACGTACCCCACCGTACGT"]
    predictor = seqloom.load(run.path)
    one, other = predictor(texts), predictor([reverse_complement(text) for text in texts])
    assert [each.label for each in one] == ["1", "0"]
    small = predictor([text.lower() for text in texts])
    assert [each.probabilities for each in small] == [each.probabilities for each in one]
    with pytest.raises(UsageError, match="reads both strands, as no format here does"):
        export_run(run, "onnx", str(tmp_path / "x.onnx"), Listener())
    with pytest.raises(DataError, match="'X' is no nucleotide") as error:
        predictor(["ACGXT"])
    assert "ACGXT" in error.value.where
    for a, b in zip(one, other, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
    tokenizer = predictor.reader.tokenizer
    with pytest.raises(UsageError, match="words of k letters has no published format"):
        write_tokenizers(tmp_path, (tokenizer, tokenizer), predictor.model, None)
    with pytest.raises(DataError, match="'ACGXT': 'X' is no nucleotide"):
        predictor(["ACGT", "ACGXT"])
    with pytest.raises(ConfigError, match="for single texts"):
        build(ClassifyConfig, {**dna, "data": {**dna["data"], "second": "label"}})


def test_training_reads_one_strand_drawn_each_time(dna: Tree) -> None:
    config = build(ClassifyConfig, dna)
    tokenizer = train_tokenizer(Kmers(3), ["ACGT" * 9, "TTTACG"])
    read = TextMedium(config, Assets((tokenizer, tokenizer), {"labels": ["0", "1"]}))
    windows = read.windows([Example("ACGTAC"), Example("GGT")])
    assert [len(each) for each in windows] == [2, 2]
    change = read.change()
    assert change is not None
    items = [Item(each) for each in windows] * 20
    drawn = change(items, np.random.default_rng(3))
    assert {len(item.windows) for item in drawn} == {1}
    firsts = [item.windows[0] is whole.windows[0] for item, whole in zip(drawn, items, strict=True)]
    assert 8 < sum(firsts) < 32


def phases(steps: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """A recording (T 2) of stretches of rest and of waves, with a label for each step."""
    random = np.random.default_rng(seed)
    labels: list[str] = []
    while len(labels) < steps:
        labels += ["wave" if labels and labels[-1] == "rest" else "rest"] * int(random.integers(5, 12))
    labels = labels[:steps]
    wave = 3 * np.sin(1.3 * np.arange(steps)) * (np.array(labels) == "wave")
    return np.stack((7 + wave, random.normal(size=steps)), -1).astype(np.float32), labels


def table(path: Path, values: np.ndarray, labels: list[str]) -> str:
    rows = [f"{x}\t{y}\t{label}" for (x, y), label in zip(values.tolist(), labels, strict=True)]
    path.write_text("\n".join(["x\ty\tphase", *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def steps(tree: Tree, tmp_path: Path) -> Tree:
    """A config of labels of time steps."""
    files = {name: [table(tmp_path / f"{name}.tsv", *phases(n, n))] for name, n in (("train", 331), ("test", 97))}
    return {
        **tree,
        "task": "tag",
        "data": {"kind": "signals", "label": "phase", **files},
        "model": {"encoder": {"width": 16}, "front": {"strides": [1, 1], "kernel": 5}},
        "batches": {"tokens": 100, "length": 24, "long": "windows", "stride": 9},
    }


def test_each_step_has_a_label(steps: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, listener = build(TagConfig, steps), Listener()
    run = train_run(made, listener)
    assert any("the last 33 steps held out" in line for line in listener.said)
    main(["eval", str(run.path), "-q", "--json"])
    scores = json.loads(capsys.readouterr().out)
    assert scores["steps"] == 97
    assert scores["accuracy"] > scores["majority"] + 20
    assert 0 < scores["macro_f1"] <= 100
    main(["report", str(run.path), "-q"])
    assert "channel 2" in (run.path / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    main(["classify", str(run.path), str(tmp_path / "test.tsv")])
    lines = [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]
    assert {line[0] for line in lines} == {f"{tmp_path / 'test.tsv'}:2"}
    spans = [(*map(int, line[1].split("-")), line[2]) for line in lines]
    assert [first for first, _, _ in spans] == [1, *(last + 1 for _, last, _ in spans[:-1])]
    values, _ = phases(97, 97)
    (found,) = seqloom.load(run.path)([values])
    assert [label for a, b, label in spans for _ in range(a, b + 1)] == list(found.labels)
    rows = {row["split"]: row for row in made.prepare(Listener()).summary()}
    assert 50 < rows["test"]["nearest neighbour, %"] <= 100


def test_a_run_of_steps_that_was_stopped_has_the_same_bits(steps: Tree, tmp_path: Path) -> None:
    made = build(TagConfig, {**steps, "training": {**steps["training"], "steps": 8, "evaluate_every": 2}})
    check_resuming(made, tmp_path)


def tagger(steps: Tree, **batches: Any) -> StepTagger:
    config = build(TagConfig, {**steps, "batches": {**steps["batches"], **batches}})
    scale = {"mean": [0.0, 0.0], "deviation": [1.0, 1.0]}
    return StepTagger(config, Assets(facts={"labels": ["rest", "wave"], "sizes": {"channels": 2}, "scale": scale}))


@pytest.mark.parametrize("length", [1, 23, 24, 25, 61])
def test_windows_cover_each_step_and_are_put_together_again(length: int, steps: Tree) -> None:
    values, labels = phases(length, 5)
    reader = tagger(steps)
    (item,) = reader.items([TaggedArray(values, "", "x", tuple(labels))], learn=True)
    assert item.targets is not None
    names = np.array(labels)
    np.testing.assert_array_equal(
        np.concatenate([names[w.first_token :][: w.length] for w in item.windows]),
        np.array(["rest", "wave"])[item.targets],
    )
    parts = reader.learned(item)
    assert [len(part.windows) for part in parts] == [1] * len(item.windows)
    np.testing.assert_array_equal(np.concatenate([part.targets for part in parts]), item.targets)
    # Where all windows agree on a step, their mean is what each of them has.
    truth = np.random.default_rng(1).normal(size=(length, 2))
    scores = [truth[w.first_token :][: w.length] for w in item.windows]
    np.testing.assert_allclose(reader.scores(item, scores), truth)
    scores[-1] = scores[-1] + 1
    last = item.windows[-1].first_token
    shown = np.array([sum(w.first_token <= t < w.first_token + w.length for w in item.windows) for t in range(length)])
    moved = reader.scores(item, scores) - truth
    np.testing.assert_allclose(moved, np.where(np.arange(length) >= last, 1 / shown, 0)[:, None] * [[1, 1]], atol=1e-12)


def test_a_front_that_shortens_time_has_no_label_for_each_step(steps: Tree) -> None:
    made = build(TagConfig, {**steps, "model": {**steps["model"], "front": {"strides": [2, 1]}}})
    with pytest.raises(ConfigError, match=r"model.front.strides: shortens what is read\n.* each stride must be 1"):
        train_run(made, Listener())


def test_whole_recordings_are_held_out(steps: Tree, tmp_path: Path) -> None:
    files = [table(tmp_path / f"{n}.tsv", *phases(30, n)) for n in range(1, 5)]
    source = build(TagConfig, {**steps, "data": {**steps["data"], "train": files}}).data
    splits = source.splits(lambda text: None, 1)
    places = [{row.where for row in splits[name]} for name in ("train", "valid")]
    assert [len(part) for part in places] == [3, 1]
    assert not places[0] & places[1]
    assert {len(row.values) for name in ("train", "valid") for row in splits[name]} == {30}


def test_each_series_is_standardized_by_itself(steps: Tree) -> None:
    config = build(TagConfig, {**steps, "data": {**steps["data"], "scale": "series"}})
    reader = tagger(steps)
    reader.medium.config = config
    values, _ = phases(50, 3)
    one, other = reader.medium.windows([LabelledArray(values), LabelledArray(100 + 9 * values)])
    for a, b in zip(one, other, strict=True):
        assert a.scale is not None
        assert b.scale is not None
        np.testing.assert_allclose(a.scale(a.values), b.scale(b.values), atol=1e-4)
    whole = np.concatenate((one[0].scale(one[0].values)[:9], *(w.scale(w.values)[:9] for w in one[1:-1])))  # type: ignore[misc]
    assert abs(float(whole.mean())) < 0.3


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.tsv", ["x\ty\tphase", "1\t2\trest", "1\t2\t"], r"a.tsv:3: a time step without a label"),
        ("a.tsv", ["x\ty\tphase", "1\t2\trest", "1\t2"], r"a.tsv:3: 2 columns instead of 3"),
        ("a.tsv", ["x\ty\tphase", "1\tinf\trest"], r"a.tsv:2: a value that is infinite"),
        ("a.tsv", ["x\ty\tphase", "nan\t\trest"], r"a.tsv:2: a series without values"),
        ("a.tsv", ["x\ty", "1\t2"], r"a.tsv:2: 1 time step and 0 labels"),
        ("a.jsonl", ['{"phase": ["rest"], "series": [1, 2]}'], r"a.jsonl:1: 2 time steps and 1 label\b"),
        ("a.jsonl", ['{"phase": ["rest", "wave"], "series": [[1, 2], [3]]}'], r"a.jsonl:1: a series of steps that"),
        ("a.jsonl", ['{"phase": "rest", "series": [1, 2]}'], r"a.jsonl:1: 2 time steps and 1 label\b"),
    ],
)
def test_what_is_wrong_with_labels_of_steps_is_said(
    name: str, lines: list[str], message: str, steps: Tree, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {**steps["data"], "train": [str(tmp_path / name)]}
    with pytest.raises(DataError, match=message):
        train_run(build(TagConfig, {**steps, "data": data}), Listener())
    assert not (tmp_path / "run" / "config.toml").exists()


def test_labels_out_of_range_and_unknown_ones_are_said(steps: Tree, tmp_path: Path) -> None:
    numbers = table(tmp_path / "n.tsv", *phases(4, 1)[:1], ["0", "1", "2", "0"])
    data = {**steps["data"], "train": [numbers], "names": ["rest", "wave"]}
    with pytest.raises(DataError, match=r"n.tsv:4: the label '2' is out of range"):
        train_run(build(TagConfig, {**steps, "data": data}), Listener())
    other = table(tmp_path / "o.tsv", phases(3, 1)[0], ["rest", "rest", "jump"])
    with pytest.raises(DataError, match=r"o.tsv:2, step 3: the label 'jump' is not in the training data"):
        train_run(build(TagConfig, {**steps, "data": {**steps["data"], "valid": [other]}}), Listener())
    np.savez(tmp_path / "a.npz", values=np.zeros((2, 5, 2)), phase=np.zeros((2, 4), int))
    with pytest.raises(DataError, match=r"a.npz: 5 steps and 4 labels"):
        train_run(
            build(TagConfig, {**steps, "data": {**steps["data"], "train": [str(tmp_path / "a.npz")]}}), Listener()
        )
    np.savez(tmp_path / "a.npz", values=np.zeros((2, 5, 2)), phase=np.zeros((2, 5), int))
    classify = {
        **steps,
        "task": "classify",
        "data": {"kind": "signals", "label": "phase", "train": [str(tmp_path / "a.npz")]},
    }
    with pytest.raises(DataError, match=r"a.npz:1: a label for each step.*\n.*task = 'tag'"):
        train_run(build(ClassifyConfig, classify), Listener())
