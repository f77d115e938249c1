"""Small runs, and the configs of those that start from them."""

from __future__ import annotations

import json
from pathlib import Path

from calls import LANGUAGE_MODEL, SMALL, Call
from faults.kinds import KINDS
from made_up import sentences

LORA = '\n[adapt]\nkind = "lora"\nrank = 2\ntargets = ["*"]\ndropout = 0.2\n'
WAYS = {"lora": LORA, "bitfit": '\n[adapt]\nkind = "bitfit"\n', "last-layers": '\n[adapt]\nkind = "last-layers"\n'}
TESTS = {"translate": ("test.src", "test.tgt"), "language_model": ("test.txt",), "classify": ("test.tsv",)}
BASES = {"translate": SMALL, "language_model": LANGUAGE_MODEL, "classify": KINDS["classify"].config}
LLAMA = LANGUAGE_MODEL.replace('"small-lstm"\nembedding = 12\n', '"small-llama"\n').replace(
    "width = 16", "width = 16\nheads = 2\ninner = 16"
)


def write_config(name: str, adapt: str) -> None:
    text = LLAMA if name == "llama" else BASES[name]
    # the model and the tokenizer are those of the run it starts from
    parts = [part for part in text.split("\n[") if not part.startswith(("model", "tokenizer"))]
    Path("tuned.toml").write_text('start = "run"\n' + "\n[".join(parts) + adapt, encoding="utf-8")


def train_with_new_tokens(call: Call, bases: Path) -> None:
    """Trains plain, a language model in the folder that the test is in, and tuned, on conversations, with LoRA."""
    own = Path("small.toml").read_text(encoding="utf-8")
    read = own.replace("size = 280", f'kind = "file"\npath = "{bases}/translate/run/tokenizer.json"')
    Path("plain.toml").write_text(read, encoding="utf-8")
    assert call("train", "plain.toml", "--run", "plain", "-q").code == 0
    rows = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in zip(sentences(40, 1), sentences(40, 2), strict=True)
    ]
    for name in ("train", "valid"):
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    config = 'task = "language_model"\nstart = "plain"\n[data]\nkind = "conversations"\ntrain = ["train.jsonl"]\n'
    config += 'valid = ["valid.jsonl"]\n[batches]\nlanes = 4\nlength = 60\n[optimizer]\nlr = 0.05\n'
    config += "[training]\nsteps = 4\nevaluate_every = 2\nthreads = 1\n"
    Path("tuned.toml").write_text(config + LORA.replace('["*"]', "[]"), encoding="utf-8")
    result = call("train", "tuned.toml", "--run", "tuned")
    assert result.code == 0, result.err
    assert "new tokens" in result.err
