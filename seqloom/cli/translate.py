"""seqloom translate."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from json import dumps
from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Overrides, Quiet, check_typed
from seqloom.errors import DataError

LONG = Annotated[Literal["refuse", "cut"], Parameter(help="What to do with over-long texts.")]


def translate(
    run: str,
    /,
    *texts: Overrides,
    file: str = "",
    prefix: str = "",
    scores: bool = False,
    long: LONG = "refuse",
    rows: int = 128,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Translate texts: arguments, the lines of --file, or standard input line by line; --json gives a line each.

    Decoding options as config keys: --decoding.beam 5 --decoding.n-best 3. With several results a text, each line
    has its text's number, its score and the translation, between tabs.
    """
    from seqloom.tasks.building import open_predictor
    from seqloom.tasks.seq2seq.task import TranslateConfig
    from seqloom.tasks.task import decoding_config
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory

    keep_freed_memory()
    cut = next((i for i, word in enumerate(texts) if word.startswith("--")), len(texts))
    reporter = Reporter(0 if quiet else 1)
    translator = open_predictor(run, TranslateConfig, rows=rows, long_input=long, say=reporter.warn)
    translator.config = decoding_config(translator.config, texts[cut:])
    many = scores or translator.config.n_best > 1
    number = 0
    for block in blocks(texts[:cut], file, max(rows, 1) * 8):
        try:
            found = translator.translate(block, [prefix] * len(block) if prefix else None)
        except DataError as error:
            raise _placed(error, "" if cut else file or "standard input", number) from None
        for text, results in zip(block, found, strict=True):
            number += 1
            if json:
                row = {"source": text, "translations": [vars(r) for r in results]}
                print(dumps(row, ensure_ascii=False))
            elif many:
                for r in results:
                    print(f"{number}\t{r.score:.4f}\t{_one_line(r.text)}")
            else:
                print(_one_line(results[0].text) if results else "")
        sys.stdout.flush()
    if translator.cuts:
        reporter.warn(f"{translator.cuts} over-long texts were cut to {translator.max_source - 1} words")


def _placed(error: DataError, name: str, before: int) -> DataError:
    """The fault of one text with its line in the whole input."""
    found = re.fullmatch(r"text (\d+)", error.where)
    where = f"{name}:{before + int(found[1])}" if found and name else error.where
    return DataError(error.problem, where=where, cure=error.cure)


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def blocks(texts: tuple[str, ...], file: str, size: int) -> Iterator[list[str]]:
    """Texts of the command line, the lines of a file, or else of standard input, some at a time."""
    if texts:
        check_typed(texts)
        yield list(texts)
        return
    if file:
        from seqloom.data.formats.parallel import read_lines

        yield from _cut(read_lines(file), size)
        return
    # Someone typing wants each line answered; a file or a pipe is read in blocks.
    from seqloom.data.formats.lines import decoded_stream

    yield from _cut(decoded_stream(sys.stdin.buffer, "standard input"), 1 if sys.stdin.isatty() else size)


def _cut(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) >= size:
            yield block
            block = []
    if block:
        yield block
