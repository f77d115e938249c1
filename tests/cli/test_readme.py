"""The README's commands and Python, pasted as they stand. What does not run here is listed with the reason."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from calls import SMALL, Call
from made_up import WORDS, sentences, write_corpus

from seqloom.cli import main
from seqloom.media.images import png_uri

README = Path(__file__).parents[2] / "README.md"
LONG, NETWORK, DATA = "trains for minutes or more", "needs the network", "needs the data sets of the recipes"
NOT_RUN = {
    "make demo": LONG,
    "make test": "runs these tests",
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt . && .venv/bin/seqloom demo": NETWORK,
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]' && .venv/bin/pytest": NETWORK,
    "seqloom check translate.toml": "times steps of the preset small; test_commands.py does so with tiny",
    "seqloom train translate.toml": LONG,
    "seqloom train recipes/translate.toml --data.train train.en train.de --data.valid val.en val.de"
    " --model.preset tiny": LONG,
    "seqloom verify recipes/multi30k-en-de.toml": DATA,
    "seqloom lineage": LONG,
    "seqloom lineage translate.toml": LONG,
    "seqloom lineage recipes/multi30k-lineage.toml": DATA,
    "seqloom train recipes/gpt.toml": LONG,
    "seqloom train recipes/gpt.toml --data.train book.txt more.jsonl.gz --run runs/mine": LONG,
    "seqloom train recipes/gpt.toml --start runs/mine --run runs/chat --data.kind conversations"
    " --data.train talks.jsonl": LONG,
    "seqloom train reward.toml --data.train pairs.jsonl": LONG,
    "seqloom train recipes/bert-words.toml": DATA,
    "seqloom train recipes/bert.toml": DATA,
    "seqloom train recipes/sst2.toml --member bert": DATA,
    "seqloom lineage recipes/imdb-long.toml": DATA,
    "seqloom train recipes/digits.toml": LONG,
    "seqloom train recipes/captions.toml": DATA,
    "seqloom train recipes/unit.toml --member shared": DATA,
    "seqloom train recipes/glyphs.toml": LONG,
    "seqloom import openai-community/gpt2 runs/gpt2 --verify": NETWORK,
    "seqloom export runs/gpt2 --to hf gpt2-again --verify": "needs the imported run",
    "seqloom export runs/gpt2 --to ctranslate2 gpt2-fast": "needs the imported run",
    "seqloom export runs/bert --to onnx bert.onnx": "tests/interop runs it, in a process without checks of shapes",
    "seqloom import SmolLM2-135M-Instruct.Q4_1.gguf runs/smol": NETWORK,
    "seqloom export runs/smol smol.gguf --to gguf --precision q8_0": "needs the imported run",
    "pip install 'seqloom[words]'": NETWORK,
    "pip install 'seqloom[serve]'": NETWORK,
    "seqloom serve runs/mine runs/translate": "never ends; tests/serving/test_serve_verb.py runs it",
    "seqloom train recipes/words.toml --data.train corpus.txt --run runs/words": LONG,
}

TRAINING = "[training]\nsteps = 2\nevaluate_every = 2\nthreads = 1\n"
TINY = f'[tokenizer]\nsize = 280\n\n[model]\npreset = "PRESET"\n\n{TRAINING}'
ENCODER = "encoder.layers = 1\nencoder.width = 8\nencoder.inner = 8\nencoder.heads = 2\n"
DECODER = "decoder.layers = 1\ndecoder.width = 8\ndecoder.inner = 8\ndecoder.heads = 2\n"
READING = TINY.replace('preset = "PRESET"\n', ENCODER)
WRITING = TINY.replace("PRESET", "small-transformer").replace("\n\n[training]", f"\n{DECODER}\n[training]")
UNIT = f"""task = "multimodal"
[tasks.films]
kind = "classify"
data = {{ train = ["labels.tsv"], valid = ["labels.tsv"], test = ["labels.tsv"], text = "sentence" }}
batches.length = 16
[tasks.letters]
kind = "translate"
data = {{ kind = "captions", train = ["letters.npz", "letters.tsv"], test = ["letters.npz", "letters.tsv"] }}
[model.encoders.text]
preset = "bag"
encoder.width = 8
[model.encoders.image]
{ENCODER}
[model.decoder]
layers = 1
width = 8
heads = 2
{TRAINING}"""
RUNS = {
    "translate": SMALL.replace("valid.", "val.")
    .replace(".src", ".en")
    .replace(".tgt", ".de")
    .replace("[tokenizer]", 'test = ["test.en", "test.de"]\n\n[tokenizer]'),
    "mine": f'task = "language_model"\n[data]\ntrain = ["book.txt"]\n[batches]\nlanes = 2\nlength = 8\n{WRITING}',
    "chat": f'task = "language_model"\n[data]\nkind = "conversations"\ntrain = ["talks.jsonl"]\n{WRITING}',
    "bert": f'task = "masked_words"\n[data]\ntrain = ["book.txt"]\nvalid = ["third.txt"]\n{READING}',
    "sst2/bert": 'task = "classify"\n[data]\ntrain = ["labels.tsv"]\nvalid = ["labels.tsv"]\ntext = "sentence"\n'
    + READING,
    "digits": f'task = "classify"\n[data]\nkind = "digits-8x8"\n[model]\n{ENCODER}\n{TRAINING}',
    "glyphs": 'task = "translate"\n[data]\nkind = "captions"\ntrain = ["letters.npz", "letters.tsv"]\n'
    f'[model]\nencoder.layers = 1\nencoder.width = 8\nencoder.heads = 2\n{TRAINING}',
    "unit/shared": UNIT,
    "squad/bert": f'task = "answer"\n[data]\ntrain = ["squad.json"]\nvalid = ["squad.json"]\n{READING}',
    "words": 'task = "embed_words"\n[data]\ntrain = ["book.txt"]\nmin_count = 1\n[model]\nwidth = 4\n'
    "[training]\nepochs = 1\nthreads = 1\n",
}  # fmt: skip


def commands() -> list[str]:
    """The lines of the README's blocks of commands, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]


def write_data(folder: Path) -> None:
    """The files that the README's commands name."""
    for name, count, seed in (("train", 80, 1), ("val", 64, 2), ("test", 9, 3)):
        for path, end in zip(write_corpus(folder, name, count, seed), ("en", "de"), strict=True):
            Path(path).rename(folder / f"{name}.{end}")
    king = [f"{sentence} king" for sentence in sentences(60, 4)]
    talk = {"messages": [{"role": "user", "content": "ba"}, {"role": "assistant", "content": "ko"}]}
    question = {"context": "ba", "choices": ["ko", "mi"], "answer": 0}
    qas = [{"id": "1", "question": "Who?", "answers": [{"text": "ko", "answer_start": 3}]}]
    files = {
        "in.txt": "ba ko\nmi\n",
        "book.txt": "\n\n".join(king) + "\n",
        "third.txt": "\n\n".join(king[:8]) + "\n",
        "page.txt": "ba ko mi\n",
        "tuned.toml": RUNS["sst2/bert"].split("[tokenizer]")[0] + TRAINING + "[batches]\nlength = 32\n",
        "talks.jsonl": f"{json.dumps(talk)}\n" * 30,
        "questions.jsonl": f"{json.dumps(question)}\n" * 5,
        "labels.tsv": "label\tsentence\n" + "".join(f"{i % 2}\t{king[i]}\n" for i in range(20)),
        "squad.json": json.dumps({"data": [{"paragraphs": [{"context": "ba ko mi", "qas": qas}] * 9}]}),
        "questions-words.txt": f": kinds\n{' '.join(WORDS[:4])}\n",
        "wordsim353.tsv": "a\tb\tscore\nba\tko\t9\nba\tmi\t1\nko\tmi\t5\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    names = [f"{i}.png" for i in range(20)]
    np.savez(folder / "letters.npz", images=np.eye(64, dtype=np.uint8)[:20].reshape(20, 8, 8), names=names)
    (folder / "letters.tsv").write_text("".join(f"{name}\ta letter\n" for name in names), encoding="utf-8")
    picture = png_uri(np.arange(64, dtype=np.uint8).reshape(1, 8, 8)).partition(",")[2]
    for name in ("picture.png", "letter.png"):
        (folder / name).write_bytes(base64.b64decode(picture))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the files that the commands name, and a config for each of their runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQLOOM_KEEP_MEMORY", "0")
    write_data(tmp_path)
    for name, text in RUNS.items():
        (tmp_path / f"{name.replace('/', '-')}.small.toml").write_text(text, encoding="utf-8")
    return tmp_path


def pasted(call: Call, command: str) -> str:
    """What a command prints; `cat FILE | COMMAND > FILE` is the only shell it knows."""
    source, _, command = command.rpartition(" | ")
    command, _, target = command.partition(" > ")
    name, *words = shlex.split(command)
    assert name == "seqloom"
    result = call(*words, stdin=Path(source.removeprefix("cat ")).read_bytes() if source else b"ba\n")
    assert result.code == 0, f"{command}\n{result.err}"
    if target:
        Path(target).write_text(result.out, encoding="utf-8")
    return result.out


def test_what_is_not_run_is_in_the_readme() -> None:
    assert set(NOT_RUN) <= set(commands())


def test_the_commands_run(call: Call, folder: Path) -> None:
    for name in RUNS:
        main(["train", f"{name.replace('/', '-')}.small.toml", "--run", f"runs/{name}", "-q"])
    for name in ("a", "b"):
        shutil.copytree("runs/translate", f"runs/{name}")
    outputs = {command: pasted(call, command) for command in commands() if command not in NOT_RUN}
    assert len(Path("out.txt").read_text(encoding="utf-8").splitlines()) == 2
    assert Path("runs/translate/report.html").exists()
    assert outputs['seqloom generate runs/mine "Once upon a time" --length 100 --seed 3 --stop "The end"']


def test_the_python_runs(folder: Path) -> None:
    (folder / "translate.small.toml").rename("translate.toml")
    block, *others = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert not others
    exec(block, {})
    assert Path("runs/translate/run.json").exists()
