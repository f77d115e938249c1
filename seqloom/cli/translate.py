"""seqloom translate and caption."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from seqloom.cli.common import (
    ENGINE,
    PRINTING,
    USE,
    Count,
    Engine,
    Printing,
    Task,
    Use,
    blocks,
    config_keys,
    split_keys,
)
from seqloom.errors import DataError, RunError, UsageError, command

if TYPE_CHECKING:
    from seqloom.tasks.seq2seq.predictor import Translation, Translator
    from seqloom.training.log import Reporter


@Parameter(name="*")
@dataclass(frozen=True)
class How:
    """How texts are translated.

    Args:
        prefix: The text that each translation must begin with.
        long: What to do with a text that is too long for the model: refuse it, or cut it.
        rows: The number of texts translated at a time.
    """

    prefix: str = ""
    long: Literal["refuse", "cut"] = "refuse"
    rows: Count = 128


def translate(
    run: str,
    /,
    *texts: Annotated[str, config_keys("--decoding.beam 5", "The texts")],
    file: str = "",
    scores: bool = False,
    how: How = How(),
    task: Task = "",
    by: Engine = ENGINE,
    use: Use = USE,
) -> None:
    """Translate texts: arguments, the lines of a file, or standard input.

    For a run of signals the texts are files of series, or FILE:NUMBER for one of them.

    With --scores, or several translations for each text (--decoding.n-best 3), each line has the number of the text,
    the score and the translation, separated by tabs. --json prints a line for each text.

    Args:
        run: The run directory.
        file: A file with one text per line.
        scores: Print the score of each translation.
    """
    from seqloom.data.formats.lines import STANDARD_INPUT
    from seqloom.tasks.engine import settled

    reporter = use.reporter
    typed, options = split_keys(texts)
    more: Any = {"long_input": how.long, "special_tokens": use.special_tokens, "task": task, **vars(by)}
    translator = _opened(run, ("text", "signal"), options, reporter, rows=how.rows, **more)
    scores = scores or translator.config.n_best > 1
    number, waiting = 0, blocks(typed, file, how.rows * 8)
    first = next(waiting, [])
    with settled(translator, len(first)) if len(first) > 7 else nullcontext():  # a few are done before it could help
        for block in chain([first], waiting):
            block = translator.named(block)
            try:
                translations = translator.translate(block, [how.prefix] * len(block) if how.prefix else None)
            except DataError as error:
                raise _placed(error, "" if typed else file or STANDARD_INPUT, number) from None
            for text, results in zip(block, translations, strict=True):
                number += 1
                _print_results(text, results, number if scores else 0, use.json)
            sys.stdout.flush()
    if translator.cuts:
        reporter.warn(f"{translator.cuts} texts were cut to {translator.max_source} tokens, special ones included")
    if lost := getattr(translator.source, "lost", ""):
        reporter.warn(lost)


def caption(
    run: str,
    /,
    *images: Annotated[str, config_keys("--decoding.beam 5", "Files of images, or folders of them")],
    scores: bool = False,
    rows: Count = 32,
    task: Task = "",
    printing: Printing = PRINTING,
) -> None:
    """Write captions of images: files, or all in a folder, which are brought into the size of the model.

    Where texts are translated that an image helps, each input is IMAGE<TAB>TEXT.

    With --scores, or several captions for each image (--decoding.n-best 3), each line has the number of the image, the
    score and the caption, separated by tabs. --json prints a line for each image.

    Args:
        run: The run directory.
        scores: Print the score of each caption.
        rows: The number of images read at a time.
    """
    reporter = printing.reporter
    typed, options = split_keys(images)
    writer = _opened(run, ("image",), options, reporter, rows=rows, task=task)
    medium: Any = writer.source
    named = medium.named(typed)
    if not named:
        raise UsageError("there is no image", cure="name files, or folders of files: seqloom caption RUN IMAGE.png")
    scores = scores or writer.config.n_best > 1
    for start in range(0, len(named), rows):
        block = named[start : start + rows]
        for number, (name, results) in enumerate(zip(block, writer.translate(block), strict=True), start + 1):
            _print_results(name, results, number if scores else 0, printing.json)
        sys.stdout.flush()
    if medium.lost:
        reporter.warn(medium.lost)


def _opened(
    run: str, modalities: Sequence[str], options: Sequence[str], reporter: Reporter, *, task: str, **more: Any
) -> Translator:
    """The predictor of a run that reads one of these modalities. Raises RunError for another one."""
    from seqloom.run import Run
    from seqloom.tasks.building import open_predictor
    from seqloom.tasks.seq2seq.task import TranslateConfig
    from seqloom.tasks.task import config_of, decoding_config

    read = config_of(Run.open(run), TranslateConfig, task).modality
    if read not in modalities:
        verb = "caption" if read == "image" else "translate"
        raise RunError(f"reads {read}s, not {modalities[0]}s", where=run, cure=command(verb, run, "..."))
    translator: Translator = open_predictor(run, TranslateConfig, say=reporter.warn, task=task, **more)
    translator.config = decoding_config(translator.config, options)
    return translator


def _print_results(text: str, results: Sequence[Translation], number: int, json: bool) -> None:
    """All translations of a text with its number and their scores, or without a number the best one; or JSON."""
    if json:
        print(dumps({"source": text, "translations": [vars(r) for r in results]}, ensure_ascii=False))
    elif number:
        for r in results:
            print(f"{number}\t{r.score:.4f}\t{_one_line(r.text)}")
    else:
        print(_one_line(results[0].text) if results else "")


def _placed(error: DataError, name: str, before: int) -> DataError:
    """The error of one text, with its line in the whole input."""
    match = re.fullmatch(r"text (\d+)", error.where)
    where = f"{name}:{before + int(match[1])}" if match and name else error.where
    return DataError(error.problem, where=where, cure=error.cure)


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
