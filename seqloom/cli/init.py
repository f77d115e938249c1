"""seqloom init."""

from __future__ import annotations

import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.errors import UsageError, command

File = Annotated[str, Parameter(allow_leading_hyphen=True)]
Texts = Literal["translate", "language_model", "embed_words", "classify", "tag", "answer", "masked_words"]
Template = Literal[Texts, "images", "signals", "forecast", "captions", "multimodal", "reward", "prefer", "reinforce"]
"""The files in the folder templates."""


def init(task: Template = "translate", /, *, file: File = "") -> None:
    """Write a commented config to start from, and its JSON schema.

    Editors (with Even Better TOML, Taplo, ...) use the schema to complete and check the config.

    Args:
        task: What to train; images and signals = classify, of these; captions = translate, of images.
        file: The file to write, by default TASK.toml; "-" = standard output.
    """
    template = files("seqloom.cli").joinpath("templates", f"{task}.toml").read_text(encoding="utf-8")
    if file == "-":
        sys.stdout.write(template)
        return
    path = Path(file or f"{task}.toml")
    if path.exists():
        raise UsageError("exists already", where=str(path), cure="choose another name with --file")
    from seqloom.cli.config import write_schema
    from seqloom.files import write_text

    schema = f"seqloom-{task}.schema.json"
    write_schema(tomllib.loads(template)["task"], path.with_name(schema))
    write_text(path, f"#:schema ./{schema}\n{template}")
    print(f"{path} written; put your files into [data], then: {command('check', path)}")
