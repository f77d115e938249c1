"""seqloom init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.errors import UsageError, command

_HEAD = """\
# seqloom train {task}.toml         (the same command again resumes)
# seqloom check {task}.toml         (first: checks the data, and estimates the training)
task = "{task}"
"""
_TOKENIZER = """\

[tokenizer]
kind = "bpe"                           # or words, characters
size = 8000                            # a smaller vocabulary for less data: 4000 below 20,000 pairs
"""
_TRAINING = """\

[training]
{length:38} # or minutes, steps, epochs
evaluate_every = {every}
"""
_TRANSLATE = """\

[data]                                 # two parallel files, or one .tsv, .jsonl, .tmx or .po; also .gz and .xz
kind = "files"
train = ["train.en", "train.de"]
valid = ["val.en", "val.de"]

[model]
preset = "small"                       # tiny, small, base, big
"""
_LANGUAGE_MODEL = """\

[data]                                 # one or more text files; also .jsonl with "text", .gz and .xz
train = ["train.txt"]
valid = ["valid.txt"]                  # without it, the last 5 % of train
documents = "blocks"                   # separated by blank lines; or files, or lines

[model]
preset = "small-llama"                 # or gpt2, llama-nano, small-transformer, small-lstm
"""
_EMBED_WORDS = """\

[data]                                 # files or folders of text of any size, one sentence a line; also .gz and .xz
train = ["text.txt"]
split = "words"                        # or spaces: the text is split into words already
lowercase = true
min_count = 5

[model]
method = "skip-gram"                   # or cbow, with optimizer.lr = 0.05
width = 100
window = 5

[training]
epochs = 5                             # or minutes
"""
_ENCODER = """\
# start = "runs/bert"                  # a run of masked_words, or an imported one; without [tokenizer] and [model]

[data]                                 # {what}; also .gz and .xz
train = ["train.{suffix}"]
valid = ["valid.{suffix}"]
{columns}
[model]
preset = "small-megatron"              # or bert-tiny to bert-base, small-bert, small-lstm, lstm-attention, bag
"""
_COLUMNS = """\
text = "text"                          # names of columns, or keys of .jsonl
second = ""                            # the second text of a pair
label = "label"
"""
_IMAGES = """\
# start = "runs/vit"                   # a run of images, or an imported ViT

[data]                                 # a folder with a folder for each label; IDX (MNIST), .npz, tables of paths
kind = "images"                        # or digits-8x8, without files
train = ["images/train"]
valid = ["images/valid"]               # without it, a tenth of train
size = 32                              # images are resized; 0 = all have the same size
channels = 3                           # 1 = grey

[data.augment]
crop = 2                               # pixels
flip = true                            # left to right

[model]
preset = "small-vit"                   # or small-cnn, vit-tiny, vit-small, vit-base, vit-large

[model.embedder]
patch = 4                              # pixels; it divides the size
"""
_REWARD = """\
start = "runs/bert"                    # a run of an encoder or of a language model, trained or imported
"""
_PREFER = """\
start = "runs/chat"                    # a run of a language model, which is also the reference

[objective]                            # task = "prefer_translations" is for an encoder-decoder
kind = "dpo"                           # or ipo
beta = 0.1                             # smaller = farther from the reference

[optimizer]
lr = 1e-5                              # far lower than in the training of the model that it starts from
"""
_REINFORCE = """\
start = "runs/chat"                    # a run of a language model, which is also the reference

[data]                                 # .jsonl with prompts, or a text with a prompt in each line; also .gz and .xz
train = ["train.jsonl"]                # task = "reinforce_translations" is for an encoder-decoder, with pairs of texts
valid = ["valid.jsonl"]                # without it, a tenth of the prompts of train
form = "text"                          # or instruction, dialogue ("Human: ... Assistant: ..."), messages
prompt = "prompt"                      # the name of the key

[reward]
kind = "run"                           # or python, exact, chrf, length, pattern
run = "runs/reward"                    # a reward model, or a classifier and one of its labels

[objective]
kind = "rloo"                          # or grpo, reinforce, ppo, minimum-risk
beta = 0.05                            # smaller = farther from the reference

[batches]
prompts = 8
answers = 4                            # to each prompt
answer = 48                            # the most tokens of an answer

[optimizer]
lr = 1e-5                              # far lower than in the training of the model that it starts from
"""
_PREFERENCES = """\

[data]                                 # .jsonl with a prompt and two answers; also .gz and .xz
train = ["train.jsonl"]
valid = ["valid.jsonl"]                # without it, a tenth of the prompts of train
form = "text"                          # or instruction, dialogue ("Human: ... Assistant: ..."), messages
prompt = "prompt"                      # names of keys
chosen = "chosen"
rejected = "rejected"
"""


def _encoder(what: str, suffix: str, columns: str = "") -> str:
    training = _TRAINING.format(length="epochs = 4", every=200)
    return _ENCODER.format(what=what, suffix=suffix, columns=columns) + _TOKENIZER + training


_PARTS = {
    "translate": _TRANSLATE + _TOKENIZER + _TRAINING.format(length="minutes = 30", every=500),
    "language_model": _LANGUAGE_MODEL + _TOKENIZER + _TRAINING.format(length="minutes = 30", every=500),
    "embed_words": _EMBED_WORDS,
    "classify": _encoder("tab-separated tables, or .jsonl", "tsv", _COLUMNS),
    "images": _IMAGES + _TRAINING.format(length="epochs = 30", every=200),
    "tag": _encoder("a word and its label per line, or .jsonl with words and labels", "txt"),
    "answer": _encoder("questions about passages in the format of SQuAD, or .jsonl", "json"),
    "masked_words": _encoder("text files", "txt"),
    "reward": _REWARD + _PREFERENCES + _TRAINING.format(length="epochs = 2", every=100),
    "prefer": _PREFER + _PREFERENCES + _TRAINING.format(length="epochs = 1", every=50),
    "reinforce": _REINFORCE + _TRAINING.format(length="steps = 200", every=50),
}
_TASKS = {"images": "classify"}
"""The tasks that have another name than their template."""
_TEMPLATES = {
    name: _HEAD.replace("{task}.toml", f"{name}.toml").format(task=_TASKS.get(name, name)) + parts
    for name, parts in _PARTS.items()
}

File = Annotated[str, Parameter(allow_leading_hyphen=True)]


def init(
    task: Literal[
        "translate",
        "language_model",
        "embed_words",
        "classify",
        "images",
        "tag",
        "answer",
        "masked_words",
        "reward",
        "prefer",
        "reinforce",
    ] = "translate",
    /,
    *,
    file: File = "",
) -> None:
    """Write a commented config to start from, and its JSON schema.

    Editors (with Even Better TOML, Taplo, ...) use the schema to complete and check the config.

    Args:
        task: What to train; images = classify, of images.
        file: The file to write, by default TASK.toml; "-" = standard output.
    """
    if file == "-":
        sys.stdout.write(_TEMPLATES[task])
        return
    path = Path(file or f"{task}.toml")
    if path.exists():
        raise UsageError("exists already", where=str(path), cure="choose another name with --file")
    from seqloom.cli.config import write_schema
    from seqloom.files import write_text

    schema = f"seqloom-{task}.schema.json"
    write_schema(_TASKS.get(task, task), path.with_name(schema))
    write_text(path, f"#:schema ./{schema}\n{_TEMPLATES[task]}")
    print(f"{path} written; put your files into [data], then: {command('check', path)}")
