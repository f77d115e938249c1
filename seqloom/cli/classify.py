"""seqloom classify, answer, fill and embed: models that read whole texts, in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from json import dumps
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Quiet
from seqloom.errors import UsageError

File = Annotated[str, Parameter(help="A text file with one a line.")]
Texts = Annotated[str, Parameter(help="Texts; none = the lines of --file, or of standard input.")]


def classify(run: str, /, *texts: Texts, file: File = "", quiet: Quiet = False, json: AsJson = False) -> None:
    """Say the labels of texts with their probabilities, or of the words of sentences; or numbers.

    Of pairs of texts a tab stands between the two. --json gives a line for each.
    """
    predictor = _loaded(run, ("classify", "tag"), quiet)
    for block in _lines(texts, file):
        for found in predictor(block):
            print(dumps(_plain(found), ensure_ascii=False) if json else found)


def answer(
    run: str,
    /,
    *questions: Annotated[str, Parameter(help="Questions; none = the lines of standard input.")],
    passage: Annotated[str, Parameter(help="The text file that the answers stand in.")],
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Answer questions by parts of a passage; an empty line where it has no answer."""
    from seqloom.data.formats.parallel import read_lines

    text = "\n".join(read_lines(passage))
    if not text.strip():
        raise UsageError("has no text", where=passage, cure="name a file with the passage in it")
    predictor = _loaded(run, ("answer",), quiet)
    for block in _lines(questions, ""):
        for found in predictor([(question, text) for question in block]):
            print(dumps(_plain(found), ensure_ascii=False) if json else " ".join(str(found).split()))


def fill(
    run: str, /, *texts: Texts, file: File = "", count: int = 5, quiet: Quiet = False, json: AsJson = False
) -> None:
    """Find masked words: the most probable ones for each [MASK] of a text, with their probabilities."""
    if count < 1:
        raise UsageError("must be at least 1", where="--count", cure="--count 5")
    filler = _loaded(run, ("masked_words",), quiet)
    for block in _lines(texts, file):
        for text in block:
            found = filler(text, count)
            if json:
                words = [[{"word": word, "probability": p} for word, p in one] for one in found]
                print(dumps({"text": text, "words": words}, ensure_ascii=False))
            else:
                print("\t".join(" ".join(f"{word}={p:.3f}" for word, p in one) for one in found))


def embed(
    run: str,
    /,
    *texts: Texts,
    file: File = "",
    to: Annotated[str, Parameter(help="A .npy or .json file to write; none = a line of JSON for each text.")] = "",
    pooling: Annotated[Literal["mean", "own"], Parameter(help="The mean of the states, or the model's own.")] = "mean",
    normalize: Annotated[bool, Parameter(negative="", help="Scale each vector to the length 1.")] = False,
    quiet: Quiet = False,
) -> None:
    """Give texts vectors: the mean of a model's states, or its own pooling of them."""
    from pathlib import Path

    import numpy as np

    from seqloom.run import write_text, writing
    from seqloom.tasks.encoder.embed import load_encoder

    if to and not to.endswith((".npy", ".json")):
        raise UsageError("the name of the file must end in .npy or .json", where=to, cure="--to vectors.npy")
    encoder = load_encoder(run, say=_ready(quiet))
    read = [text for block in _lines(texts, file) for text in block]
    vectors = encoder(read, pooling=pooling, normalize=normalize)
    lines = [{"text": text, "vector": row.tolist()} for text, row in zip(read, vectors, strict=True)]
    if not to:
        for line in lines:
            print(dumps(line, ensure_ascii=False))
    elif to.endswith(".json"):
        write_text(Path(to), dumps(lines, ensure_ascii=False) + "\n")
    else:
        with writing(Path(to)):
            np.save(to, vectors)


def _plain(found: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(found).items() if key != "where"}


def _ready(quiet: bool) -> Callable[[str], None]:
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory

    keep_freed_memory()
    return Reporter(0 if quiet else 1).warn


def _loaded(run: str, tasks: tuple[str, ...], quiet: bool) -> Any:
    from seqloom.errors import RunError
    from seqloom.run import Run
    from seqloom.tasks import load

    say = _ready(quiet)
    task = str(Run.open(run).info().get("task"))
    if task not in tasks:
        cure = f"name a run of the task {' or '.join(tasks)}"
        raise RunError(f"is a run of the task {task!r}", where=run, cure=cure)
    return load(run, say=say)


def _lines(texts: tuple[str, ...], file: str) -> Iterator[list[str]]:
    from seqloom.cli.translate import blocks

    for block in blocks(texts, file, 1024):
        if kept := [text for text in block if text.strip()]:
            yield kept
