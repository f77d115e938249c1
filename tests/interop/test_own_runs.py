"""Runs trained here, in the formats of others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up import sentences, translated, write_corpus
from published import transformers
from toys import Listener

from seqloom.cli import main
from seqloom.errors import UsageError
from seqloom.run import Run
from seqloom.tasks import load
from seqloom.tasks.building import load_model
from seqloom.tasks.language_model.task import LanguageModelConfig
from seqloom.tasks.task import config_of
from seqloom.text.chat import Message, chat_prompt
from seqloom.training.log import Reporter
from seqloom.workflows.export import Target, export_run
from seqloom.workflows.import_ import import_run
from seqloom.workflows.parity import compare_export, example, greedy

__all__ = ["transformers"]
QUIET = Reporter(0)
TRAINING = "[training]\nsteps = 2\nevaluate_every = 2\nthreads = 1\n"
LANGUAGE = """\
task = "language_model"
data = {train = ["text.txt"], valid = ["text.txt"]}
tokenizer = {size = 280}
batches = {length = 16, lanes = 2}
[model]
preset = "nano"
decoder = {layers = 2, width = 12, inner = 20, heads = 2, positions = {kind = "learned", length = 32}}
"""
LLAMA = 'positions = {kind = "rotary"}, norm = "rms", activation = "swiglu", bias = false'
TRANSLATION = """\
data = {kind = "files", train = ["train.src", "train.tgt"], valid = ["valid.src", "valid.tgt"]}
tokenizer = {size = 280}
batches = {tokens = 100}
[model]
encoder = {layers = 1, width = 12, inner = 16, heads = 2, FORM}
decoder = {layers = 2, width = 12, inner = 16, heads = 2, FORM}
"""
MARIAN = 'norm_position = "after", positions = {kind = "sinusoidal", interleaved = false}'


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def train(config: str, *options: str) -> str:
        (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in sentences(40, 1)), encoding="utf-8")
        write_corpus(tmp_path, "train", 30, 1)
        write_corpus(tmp_path, "valid", 4, 2)
        (tmp_path / "config.toml").write_text(config + TRAINING, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        main(["train", "config.toml", "--run", "run", "-q", *options])
        return "run"

    return train


def agrees(run: str, to: Target, out: str) -> None:
    export_run(run, to, out, QUIET)
    differences = compare_export(run, to, out, QUIET)
    assert differences["greedy output"] == "the same"
    assert not any(str(value).startswith("DIFFERENT") for value in differences.values()), differences
    assert all(value <= 1e-4 for value in differences.values() if isinstance(value, float))


def test_a_language_model(trained: Any, transformers: Any) -> None:
    run = trained(LANGUAGE, "--training.steps", "80", "--training.evaluate_every", "80", "--optimizer.lr", "0.02")
    model, _, pair = load_model(Run.open(run), QUIET)
    written = greedy(model, pair, example(model, pair).tolist())
    assert all(pair[1].end in row[:-1] for row, _ in written)  # the end of a line is not that of the text
    agrees(run, "hf", "hf")
    texts = ["ba ko mi", "püt  ve!"]
    ours = load(run).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained("hf")
    assert [ids.tolist() for ids in ours.encode(texts)] == [
        theirs(t, add_special_tokens=False).input_ids for t in texts
    ]
    assert theirs.eos_token_id == ours.stop
    pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: nothing is compared")
    agrees(run, "ctranslate2", "ctranslate2")


def test_a_language_model_comes_back_with_its_length_and_learns_on_at_that_of_its_positions(
    trained: Any, transformers: Any
) -> None:
    trained(LANGUAGE)
    export_run("run", "hf", "hf", QUIET)
    assert transformers.AutoTokenizer.from_pretrained("hf").model_max_length == 16
    again = import_run("hf", "again", QUIET)
    config = config_of(again, LanguageModelConfig)
    assert (config.batches.length, config.model.decoder.limit) == (16, 32)
    agrees("again", "hf", "hf2")
    options = "--start", "again", "--training.steps", "1"
    text = " ".join(sentences(40, 1))
    for length in (16, 32):
        main(["train", "config.toml", "--run", f"r{length}", "-q", *options, f"--batches.length={length}"])
        assert len(load(f"r{length}")(text, max_length=20)) > len(text)
    with pytest.raises(SystemExit):
        main(["train", "config.toml", "--run", "r33", "-q", *options, "--batches.length=33"])


@pytest.mark.parametrize("kind", ["bpe", "words", "characters"])
def test_a_text_keeps_its_lines_outside_and_when_it_comes_back(kind: str, trained: Any, transformers: Any) -> None:
    size = "{size = 280}" if kind == "bpe" else f'{{kind = "{kind}"}}'
    steps = "--training.steps", "80", "--training.evaluate_every", "80", "--optimizer.lr", "0.02"
    trained(LANGUAGE.replace("{size = 280}", size), *steps)
    agrees("run", "hf", "hf")
    import_run("hf", "again", QUIET)
    written, perplexities = [], []
    for run in ("run", "again"):
        generator = load(run)
        written.append(generator("ba ko\n mi\n\nve", max_length=30, kind="greedy"))
        main(["eval", run, "--test", "text.txt", "-q"])
        perplexities.append(Run.open(run).evaluation("text")["perplexity"])
    assert written[0] == written[1]
    assert written[0].count("\n") > 4
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-5)
    text = "ba ko\nmi \n\n ve"
    theirs = transformers.AutoTokenizer.from_pretrained("hf")
    assert theirs(text).input_ids == load("run").encode(text)
    shown = text if kind != "words" else "ba ko\nmi\n\nve"
    assert (
        theirs.decode(theirs(text).input_ids, skip_special_tokens=True)
        == shown
        == load("run").decode(load("run").encode(text))
    )
    main(
        [
            "train",
            "config.toml",
            "--run",
            "file",
            "-q",
            "--tokenizer.kind",
            "file",
            "--tokenizer.path",
            "hf/tokenizer.json",
        ]
    )
    assert load("file").tokenizer.line_end == load("run").tokenizer.line_end


CHATS = "data = {kind = 'conversations', train = ['chats.jsonl']}"


def test_conversations_leave_with_their_format_and_their_end(trained: Any, transformers: Any, tmp_path: Path) -> None:
    rows = [{"prompt": line, "response": f"{line}\n\n ba."} for line in sentences(40, 1)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chats = re.sub("length = [0-9]+", "length = 64", re.sub("data = .*", CHATS, LANGUAGE))
    run = trained(chats)
    agrees(run, "hf", "hf")
    theirs = transformers.AutoTokenizer.from_pretrained("hf")
    messages = [Message("user", "ba ko"), Message("assistant", "mi\n ve"), Message("user", "gor")]
    asked = [{"role": message.role, "content": message.text} for message in messages]
    ids = theirs.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    tokenizer = load(run).tokenizer
    assert ids == chat_prompt(messages, tokenizer)
    assert tokenizer.stops[0] in transformers.GenerationConfig.from_pretrained("hf").eos_token_id
    again = import_run("hf", "again", QUIET)
    assert load(again.path).tokenizer.stops == tokenizer.stops
    # a training that starts from either counts the same words
    words = []
    for start in (run, "again"):
        main(["train", "config.toml", "--run", f"from-{start}", "-q", "--start", start])
        main(["eval", f"from-{start}", "--test", "chats.jsonl", "-q"])
        words.append(Run.open(f"from-{start}").evaluation("chats")["words"])
    assert words[0] == words[1] > 5 * len(rows)


def test_exports_of_two_formats_are_not_mixed(trained: Any) -> None:
    pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: nothing is written")
    run = trained(LANGUAGE)
    export_run(run, "hf", "out", QUIET)
    export_run(run, "hf", "out", QUIET)
    with pytest.raises(UsageError, match=r"holds model\.safetensors, an export of another format"):
        export_run(run, "ctranslate2", "out", QUIET)


@pytest.mark.parametrize(
    ("more", "family"),
    [
        ("", "llama"),
        ('qkv_bias = "yes"', "llama"),
        ("bias = true", "llama"),
        ("qk_norm = true", "qwen3"),
        ("window = 5", "mistral"),
    ],
)
def test_language_models_of_llama_s_form(more: str, family: str, trained: Any, transformers: Any) -> None:
    form = ', norm = "rms", activation = "swiglu", positions = {kind = "rotary"}, dropout = 0.0, '
    plain = "" if more == "bias = true" else "bias = false" + ", " * bool(more)
    config = LANGUAGE.replace(', positions = {kind = "learned", length = 32}}', f"{form}{plain}{more}}}")
    trained(config + "embedder = {scaled = false}\n")
    agrees("run", "hf", "hf")
    assert transformers.AutoConfig.from_pretrained("hf").model_type == family
    import_run("hf", "again", QUIET)
    agrees("again", "hf", "hf2")


def test_a_language_model_for_llama_cpp(trained: Any, transformers: Any) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed: nothing is written")

    reporter = Listener()
    positions = 'positions = {kind = "learned", length = 32}'
    run = trained(LANGUAGE.replace(positions, LLAMA), "--training.steps", "30", "--training.evaluate_every", "30")
    export_run(run, "gguf", "model.gguf", reporter, "fp16")
    assert reporter.warnings == ["llama.cpp puts no space before a line: begin each line of a prompt with one"]
    agrees(run, "gguf", "model.gguf")
    again = import_run("model.gguf", "again", QUIET)
    models = [load_model(Run.open(path), QUIET) for path in (run, again.path)]
    rows = example(models[0][0], models[0][2]).tolist()
    assert greedy(models[0][0], models[0][2], rows) == greedy(models[1][0], models[1][2], rows)
    ours, theirs = load(run).tokenizer, load(again.path).tokenizer
    texts = ["ba ko mi 123", "püt  ve!"]
    lines = "ba ko\n mi \n\nve"
    assert ours.encode_lines([lines])[0].tolist() == theirs.encode_lines([lines])[0].tolist()
    assert load(again.path).decode(theirs.encode([lines])[0]) == lines
    assert [ids.tolist() for ids in theirs.encode(texts)] == [ids.tolist() for ids in ours.encode(texts)]
    assert (theirs.start, theirs.stop, theirs.pad, theirs.unknown) == (ours.start, ours.stop, ours.pad, ours.unknown)
    assert theirs.template.before == (ours.start,)


def test_a_translator_of_marian_s_form(trained: Any, transformers: Any) -> None:
    run = trained(TRANSLATION.replace("FORM", MARIAN))
    agrees(run, "hf", "hf")
    import_run("hf", "again", QUIET)
    agrees("again", "hf", "hf")


def test_a_translator_of_the_usual_form(trained: Any) -> None:
    pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed: nothing is compared")
    agrees(trained(TRANSLATION.replace(", FORM", "")), "ctranslate2", "ctranslate2")


LINES = sentences(30, 1)
FILES = {
    "translate": {
        f"{split}.{end}": "".join(f"{line}\n" for line in lines)
        for split in ("train", "val")
        for end, lines in (("en", LINES), ("de", [translated(line) for line in LINES]))
    },
    "classify": dict.fromkeys(
        ("train.tsv", "valid.tsv"), "label\ttext\n" + "".join(f"{len(s.split()) > 3}\t{s}\n" for s in LINES)
    ),
    "tag": dict.fromkeys(
        ("train.txt", "valid.txt"),
        "\n".join("".join(f"{word} {'B-X' if word < 'l' else 'O'}\n" for word in s.split()) for s in LINES),
    ),
    "answer": dict.fromkeys(
        ("train.json", "valid.json"),
        '{"data": [{"paragraphs": [{"context": "ba ko mi", "qas": ['
        '{"id": "1", "question": "ko", "answers": [{"text": "mi", "answer_start": 6}]}]}]}]}',
    ),
    **dict.fromkeys(
        ("language_model", "masked_words"), dict.fromkeys(("train.txt", "valid.txt"), "\n".join(LINES) + "\n")
    ),
}
ASKED: dict[str, tuple[Any, ...]] = {
    "translate": (["ba ko mi", "gor"],),
    "language_model": ("ba ko",),
    "classify": (["ba ko mi", "gor"],),
    "tag": ([["ba", "ko"], ["gor"]],),
    "answer": ([("ko", "ba ko mi")],),
    "masked_words": ("ba <mask> mi",),
}


def made_small(half: str, **more: int) -> list[str]:
    sizes = {"layers": 1, "width": 12, "inner": 16, "heads": 2, **more}
    return [word for key, value in sizes.items() for word in (f"--model.{half}.{key}", str(value))]


SIZES = {"translate": [*made_small("encoder"), *made_small("decoder")], "language_model": made_small("decoder")}


@pytest.mark.parametrize("task", FILES)
def test_what_init_s_config_trains_can_leave_and_come_back(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transformers: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", task])
    for name, text in FILES[task].items():
        Path(name).write_text(text, encoding="utf-8")
    short = ["--training.steps", "2", "--training.minutes", "0", "--training.epochs", "0", "--training.threads", "1"]
    main(["train", f"{task}.toml", "-q", *short, "--tokenizer.size", "280", *SIZES.get(task, made_small("encoder"))])
    run = f"runs/{task}"
    main(["export", run, "hf", "--to", "hf", "--verify", "-q"])
    main(["import", "hf", "again", "-q"])
    options = {"max_length": 9} if task == "language_model" else {}
    if task == "classify":
        table = LINES[0].join(("sentence\tclass\n", "\tTrue\n"))
        Path("other.tsv").write_text(table, encoding="utf-8")
        main(["eval", "again", "--test", "other.tsv", "-q", "--data.text", "sentence", "--data.label", "class"])
    assert repr(load("again")(*ASKED[task], **options)) == repr(load(run)(*ASKED[task], **options))
