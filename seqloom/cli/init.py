"""seqloom init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.errors import UsageError, command

_TRANSLATE = """\
# seqloom train translate.toml         (the same command again resumes)
# seqloom check translate.toml         (first: checks the data, and estimates the training)
task = "translate"

[data]                                 # two parallel files, or one .tsv, .jsonl, .tmx or .po; also .gz and .xz
kind = "files"
train = ["train.en", "train.de"]
valid = ["val.en", "val.de"]

[tokenizer]
kind = "bpe"
size = 8192                            # a smaller vocabulary for less data: 4000 below 20,000 pairs

[model]
preset = "small"                       # tiny, small, base, big

[training]
minutes = 30                           # or steps, or epochs
evaluate_every = 500
"""

_LANGUAGE_MODEL = """\
# seqloom train language_model.toml    (the same command again resumes)
# seqloom check language_model.toml    (first: checks the text, and estimates the training)
task = "language_model"

[data]                                 # one or more text files; also .jsonl with "text", .gz and .xz
train = ["train.txt"]
valid = ["valid.txt"]                  # without it, the last 5 % of train
documents = "blocks"                   # separated by blank lines; or files, or lines

[tokenizer]
kind = "bpe"                           # or words, characters
size = 8000

[model]
preset = "small-llama"                 # or gpt2, llama-nano, small-transformer, small-lstm

[training]
minutes = 30                           # or steps, or epochs
evaluate_every = 500
"""

_EMBED_WORDS = """\
# seqloom train embed_words.toml       (the same command again resumes)
# seqloom check embed_words.toml       (first: checks the text, and estimates the training)
task = "embed_words"

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
# seqloom train {task}.toml         (the same command again resumes)
# seqloom check {task}.toml         (first: checks the data, and estimates the training)
task = "{task}"
# start = "runs/bert"                  # start from a run of masked_words, or from an imported one

[data]                                 # {what}; also .gz and .xz
train = ["train.{suffix}"]
valid = ["valid.{suffix}"]
{columns}
[tokenizer]                            # leave out if start is set
kind = "bpe"                           # or words, characters
size = 8000

[model]                                # leave out if start is set
preset = "small-megatron"              # or bert-tiny to bert-base, small-bert, small-lstm, lstm-attention, bag

[training]
epochs = 4                             # or minutes, or steps
evaluate_every = 200
"""
_COLUMNS = """\
text = "text"                          # names of columns, or keys of .jsonl
second = ""                            # the second text of a pair
label = "label"
"""


def _encoder(task: str, what: str, suffix: str, columns: str = "") -> str:
    return _ENCODER.format(task=task, what=what, suffix=suffix, columns=columns)


_REWARD = """\
# seqloom train reward.toml            (the same command again resumes)
# seqloom check reward.toml            (first: checks the data, with the share of pairs that the longer answer wins)
task = "reward"
start = "runs/bert"                    # a run of an encoder or of a language model, trained or imported

[data]                                 # .jsonl with a prompt and two answers; also .gz and .xz
train = ["train.jsonl"]
valid = ["valid.jsonl"]                # without it, a tenth of the prompts of train
{form}
[training]
epochs = 2                             # or minutes, or steps
evaluate_every = 100
"""
_FORM = """\
form = "text"                          # or instruction, dialogue ("Human: ... Assistant: ..."), messages
prompt = "prompt"                      # names of keys
chosen = "chosen"
rejected = "rejected"
"""

_PREFER = """\
# seqloom train prefer.toml            (the same command again resumes)
# seqloom check prefer.toml            (first: checks the data, with the share of pairs that the longer answer wins)
task = "prefer"                        # or prefer_translations, for an encoder-decoder
start = "runs/chat"                    # a run of a language model, which is also the reference

[data]                                 # .jsonl with a prompt and two answers; also .gz and .xz
train = ["train.jsonl"]
valid = ["valid.jsonl"]                # without it, a tenth of the prompts of train
{form}
[objective]
kind = "dpo"                           # or ipo
beta = 0.1                             # smaller = farther from the reference

[optimizer]
lr = 1e-5                              # far lower than in the training of the model that it starts from

[training]
epochs = 1                             # or minutes, or steps
evaluate_every = 50
"""

_REINFORCE = """\
# seqloom train reinforce.toml         (the same command again resumes)
# seqloom check reinforce.toml         (first: checks the prompts, and estimates the training)
task = "reinforce"                     # or reinforce_translations, for an encoder-decoder
start = "runs/chat"                    # a run of a language model, which is also the reference

[data]                                 # .jsonl with prompts, or a text with a prompt in each line; also .gz and .xz
train = ["train.jsonl"]
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

[training]
steps = 200                            # or minutes, or epochs
evaluate_every = 50
"""

_TEMPLATES = {
    "translate": _TRANSLATE,
    "language_model": _LANGUAGE_MODEL,
    "embed_words": _EMBED_WORDS,
    "classify": _encoder("classify", "tab-separated tables, or .jsonl", "tsv", _COLUMNS),
    "tag": _encoder("tag", "a word and its label per line, or .jsonl with words and labels", "txt"),
    "answer": _encoder("answer", "questions about passages in the format of SQuAD, or .jsonl", "json"),
    "masked_words": _encoder("masked_words", "text files", "txt"),
    "reward": _REWARD.format(form=_FORM),
    "prefer": _PREFER.format(form=_FORM),
    "reinforce": _REINFORCE,
}

File = Annotated[str, Parameter(allow_leading_hyphen=True)]


def init(
    task: Literal[
        "translate",
        "language_model",
        "embed_words",
        "classify",
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
        task: What to train.
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
    write_schema(task, path.with_name(schema))
    write_text(path, f"#:schema ./{schema}\n{_TEMPLATES[task]}")
    print(f"{path} written; put your files into [data], then: {command('check', path)}")
