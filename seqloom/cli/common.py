"""Options and output that several verbs share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, convert
from rich.console import Console

from seqloom.decoding.config import EngineName
from seqloom.errors import UsageError
from seqloom.inspection.page import Table, cell
from seqloom.limits import Length, Seed, parted

if TYPE_CHECKING:
    from seqloom.training.log import Reporter


def config_keys(example: str, texts: str = "") -> Parameter:
    """The parameter of a command that takes config keys, perhaps after texts; its help shows `example`."""
    keys = f"{texts}, then config keys" if texts else "Config keys"
    return Parameter(allow_leading_hyphen=True, help=f"{keys}: --section.key VALUE ... (e.g. {example}).")


Overrides = Annotated[str, config_keys("--training.steps 1000")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Print results and warnings, no progress.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], help="Print a line for each step.")]
SpecialTokens = Annotated[
    bool, Parameter(help="Read special tokens in a text, like `</s>`, as such: only for text that you trust.")
]
Task = Annotated[str, Parameter(help="Which task of a run of several.")]
AsJson = Annotated[bool, Parameter(name="--json", help="Print the result as JSON.")]


def bounded(hint: object) -> Parameter:
    """The parameter for one number or several, with the bounds of a type as in limits.py."""
    plain, bounds = parted(hint)
    assert bounds is not None

    def read(kind: Any, tokens: Any) -> Any:
        return convert(kind, tokens, lambda _, text: plain(text))  # cyclopts itself would round 1.5 to an int

    def check(_: object, value: Any) -> None:
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not bounds.hold(number):
                raise ValueError(f"Must be {bounds}.")

    return Parameter(converter=read, validator=check)


Count = Annotated[int, bounded(Length)]


@Parameter(name="*")
@dataclass(frozen=True)
class Short:
    """Short forms of decoding keys.

    Args:
        length: The most tokens to generate; by default decoding.max_length.
        seed: The seed of sampling.
    """

    length: Annotated[int | None, bounded(Length)] = None
    seed: Annotated[int | None, bounded(Seed)] = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The options that they stand for."""
        values = {"--decoding.max-length": self.length, "--decoding.seed": self.seed}
        return tuple(word for key, value in values.items() if value is not None for word in (key, str(value)))


UNSET = Short()


@Parameter(name="*")
@dataclass(frozen=True)
class Printing:
    """What is printed beside a result, and how the result is."""

    quiet: Quiet = False
    json: AsJson = False

    @property
    def reporter(self) -> Reporter:
        """Prints progress and warnings; see `make_reporter`."""
        return make_reporter(self.quiet)


@Parameter(name="*")
@dataclass(frozen=True)
class TrainingPrinting(Printing):
    """The same of a training."""

    verbose: Verbose = False

    @property
    def reporter(self) -> Reporter:
        """See Printing."""
        return make_reporter(self.quiet, self.verbose)


@Parameter(name="*")
@dataclass(frozen=True)
class Use(Printing):
    """The same of a model in use, and how its texts are read."""

    special_tokens: SpecialTokens = False


@Parameter(name="*")
@dataclass(frozen=True)
class Engine:
    """What decodes.

    Args:
        engine: torch = our own engine; ctranslate2 = CTranslate2 for what it does alike, our own for the rest, which is
            said once; auto = the same, unsaid, if CTranslate2 is installed and the model computes in float32.
        int8: Round large matrices to 8 bits: faster, not quite the same results. By our own engine, and with --engine
            ctranslate2 by that one, too.
    """

    engine: EngineName = "auto"
    int8: bool = False


PRINTING, TRAINING_PRINTING, USE, ENGINE = Printing(), TrainingPrinting(), Use(), Engine()


_NUMBER = re.compile(r"[-+>– ]*[\d.,±e+-]*( [kM])?")  # also with an interval, or none at all


class Output(Console):
    """Rich text on standard output; a reader that has gone is a BrokenPipeError, as for any other output."""

    def on_broken_pipe(self) -> None:
        """See Console, whose own method exits with 1."""
        raise BrokenPipeError


def make_reporter(quiet: bool, verbose: bool = False) -> Reporter:
    """Prints progress and warnings on standard error. From now on, torch keeps freed memory for reuse."""
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory

    keep_freed_memory()
    return Reporter(0 if quiet else 2 if verbose else 1)


def print_json(value: Any) -> None:
    """Prints a value as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_result(result: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Prints a result on standard output, as JSON or with `show`."""
    (print_json if as_json else show)(result)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table on standard output; numbers, but for those that name a row, are aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # No frame: ten columns must fit into the 80 characters of a terminal.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    texts = [[str(cell(value)) for value in row] for row in rows]
    for i, column in enumerate(columns):
        numeric = i > 0 and all(_NUMBER.fullmatch(row[i]) for row in texts)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    Output(file=sys.stdout, highlight=False, markup=False).print(table)


def print_tables(tables: Iterable[Table]) -> None:
    """Prints tables that a page shows too."""
    for table in tables:
        print_table(table.title, table.columns, table.rows)


def standard_input() -> BufferedIOBase:
    """The bytes of standard input. Raises UsageError if it is closed."""
    if sys.stdin is None:
        raise UsageError("there is no standard input", cure="open it, or redirect it: < FILE")
    stream: Any = sys.stdin.buffer  # a BytesIO where something stands in for it
    return stream  # type: ignore[no-any-return]


def split_keys(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of a command line, and the config keys with their values that follow them."""
    cut = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    return tuple(words[:cut]), tuple(words[cut:])


def blocks(texts: tuple[str, ...], file: str, size: int) -> Iterator[list[str]]:
    """The texts of the command line, or else blocks of `size` lines from a file or standard input."""
    if texts and file:
        problem = "there are texts on the command line, too"
        raise UsageError(problem, where=f"--file {file}", cure="leave one of the two out")
    from seqloom.data.formats.lines import STANDARD_INPUT, decoded_stream, read_lines

    if texts:
        yield list(texts)
        return
    lines = iter(read_lines(file)) if file else decoded_stream(standard_input(), STANDARD_INPUT)
    if not file and sys.stdin.isatty():  # someone types, and expects an answer to each line
        size = 1
    while block := list(islice(lines, size)):
        yield block
