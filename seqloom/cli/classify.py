"""seqloom classify, answer, fill and embed: models that read whole texts, in use."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps
from typing import Annotated, Any

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Quiet

File = Annotated[str, Parameter(help="A text file with one a line.")]
Texts = Annotated[str, Parameter(help="Texts; none = the lines of --file, or of standard input.")]


def classify(run: str, /, *texts: Texts, file: File = "", quiet: Quiet = False, json: AsJson = False) -> None:
    """Say the labels of texts with their probabilities, or of the words of sentences; or numbers.

    Of pairs of texts a tab stands between the two. --json gives a line for each.
    """
    predictor = _loaded(run, ("classify", "tag"), quiet)
    for block in _lines(texts, file):
        for found in predictor(block):
            print(dumps(vars(found), ensure_ascii=False) if json else found)


def _loaded(run: str, tasks: tuple[str, ...], quiet: bool) -> Any:
    from seqloom.errors import RunError
    from seqloom.run import Run
    from seqloom.tasks import load
    from seqloom.tasks.session import keep_freed_memory
    from seqloom.training.log import Reporter

    keep_freed_memory()
    task = str(Run.open(run).info().get("task"))
    if task not in tasks:
        wanted = " or ".join(tasks)
        raise RunError(f"is a run of the task {task!r}", where=run, cure=f"name a run of the task {wanted}")
    return load(run, say=Reporter(0 if quiet else 1).warn)


def _lines(texts: tuple[str, ...], file: str) -> Iterator[list[str]]:
    from seqloom.cli.translate import blocks

    for block in blocks(texts, file, 1024):
        if kept := [text for text in block if text.strip()]:
            yield kept
