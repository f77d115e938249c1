"""seqloom classify, answer, fill and embed: encoder models in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from json import dumps
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from seqloom.cli.common import USE, Count, Quiet, SpecialTokens, Task, Use, blocks, make_reporter
from seqloom.errors import UsageError

File = Annotated[str, Parameter(help="A file with one text per line.")]
_LINES = 1024  # read at a time
Texts = Annotated[str, Parameter(help="The texts; without any, the lines of --file or of standard input.")]


def classify(run: str, /, *texts: Texts, file: File = "", task: Task = "", use: Use = USE) -> None:
    """Predict labels of texts or images, labels of words, or numbers; or the reward of answers.

    For a run of images, the texts are files, or folders of files, which are brought into the size of the model.
    A tab separates the two texts of a pair, and a prompt from its answer. --json prints a line for each text. For a
    blank line, a blank line is printed (null in JSON).

    Args:
        run: The run directory.
    """
    predictor = _loaded(run, ("classify", "tag", "reward"), use, task)
    lines = (predictor.medium.named(block) for block in blocks(texts, file, _LINES))
    for prediction in _each(predictor, lines):
        print(_as_json(prediction) if use.json else "" if prediction is None else prediction)
    if predictor.reader.lost:
        use.reporter.warn(predictor.reader.lost)


def answer(
    run: str,
    /,
    *questions: Annotated[str, Parameter(help="The questions; without any, the lines of standard input.")],
    passage: str,
    use: Use = USE,
) -> None:
    """Answer questions with spans of a passage.

    For a question that the passage does not answer, and for a blank line, an empty line is printed (null in JSON).

    Args:
        run: The run directory.
        passage: The text file with the passage.
    """
    from seqloom.data.formats.lines import is_blank, read_lines

    text = "\n".join(read_lines(passage))
    if is_blank(text):
        raise UsageError("has no text", where=passage, cure="name a file that contains the passage")
    predictor = _loaded(run, ("answer",), use)
    for prediction in _each(lambda block: predictor([(q, text) for q in block]), blocks(questions, "", _LINES)):
        print(_as_json(prediction) if use.json else " ".join(str(prediction or "").split()))


def fill(run: str, /, *texts: Texts, file: File = "", count: Count = 5, use: Use = USE) -> None:
    """Predict masked words: the most probable tokens for each `[MASK]` or `<mask>` in a text; a blank line for a blank
    one.

    Args:
        run: The run directory.
        count: The number of candidates for each mask.
    """
    from seqloom.data.formats.lines import is_blank

    filler = _loaded(run, ("masked_words",), use)
    for text in (text for block in blocks(texts, file, _LINES) for text in block):
        masks = [] if is_blank(text) else filler(text, count)
        if use.json:
            words = [[{"word": token, "probability": p} for token, p in candidates] for candidates in masks]
            print(dumps({"text": text, "words": words}, ensure_ascii=False))
        else:
            cells = (" ".join(f"{token or repr(token)}={p:.3f}" for token, p in candidates) for candidates in masks)
            print("\t".join(cells))


def embed(
    run: str,
    /,
    *texts: Texts,
    file: File = "",
    to: str = "",
    pooling: Literal["mean", "own"] = "mean",
    normalize: bool = False,
    special_tokens: SpecialTokens = False,
    quiet: Quiet = False,
) -> None:
    """Compute a vector for each text; a blank one has zeros.

    Args:
        run: The run directory.
        to: The .npy or .json file to write; by default, one line of JSON is printed for each text.
        pooling: The mean of the model's states, or the model's own pooling.
        normalize: Scale each vector to length 1.
    """
    from pathlib import Path

    import numpy as np

    from seqloom.files import output_in, write_text, writing
    from seqloom.tasks.encoder.embed import load_encoder

    if to and not to.endswith((".npy", ".json")):
        raise UsageError("the name of the file must end in .npy or .json", where=to, cure="--to vectors.npy")
    encoder = load_encoder(run, special_tokens=special_tokens, say=make_reporter(quiet).warn)
    inputs = [text for block in blocks(texts, file, _LINES) for text in block]
    vectors = encoder(inputs, pooling=pooling, normalize=normalize)
    lines = [{"text": text, "vector": row.tolist()} for text, row in zip(inputs, vectors, strict=True)]
    path = Path(to)
    if not to:
        for line in lines:
            print(dumps(line, ensure_ascii=False))
        return
    with output_in(path.parent, path.name), writing(path):
        if to.endswith(".json"):
            write_text(path, dumps(lines, ensure_ascii=False) + "\n")
        else:
            np.save(to, vectors)
    print(f"{to} written: {len(inputs):,} texts, {vectors.shape[1]} dimensions")


def _as_json(prediction: Any) -> str:
    row = None if prediction is None else {key: value for key, value in vars(prediction).items() if key != "where"}
    return dumps(row, ensure_ascii=False)


def _loaded(path: str, tasks: tuple[str, ...], use: Use, part: str = "") -> Any:
    """The predictor of a run of one of these tasks, or of the part of a run of several that is one."""
    from seqloom.tasks import task_class
    from seqloom.tasks.building import open_predictor

    kinds: Any = tuple(map(task_class, tasks))
    return open_predictor(path, kinds, task=part, special_tokens=use.special_tokens, say=use.reporter.warn)


def _each(predict: Callable[[list[str]], list[Any]], lines: Iterable[list[str]]) -> Iterator[Any]:
    """The prediction for each line, None for a blank one."""
    from seqloom.data.formats.lines import is_blank

    for block in lines:
        filled = [text for text in block if not is_blank(text)]
        predictions = iter(predict(filled) if filled else ())
        yield from (None if is_blank(text) else next(predictions) for text in block)
