"""seqloom generate."""

from __future__ import annotations

from dataclasses import dataclass
from json import dumps
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from seqloom.cli.common import ENGINE, UNSET, USE, Engine, Short, Use, bounded, config_keys, split_keys
from seqloom.errors import UsageError
from seqloom.limits import Bounds


@Parameter(name="*")
@dataclass(frozen=True)
class Continuation:
    """How texts are continued.

    Args:
        file: A file with one prompt per line; they are continued in one batch.
        stop: A text ends before the first of these strings.
        draft: The run of a smaller model for speculative decoding, which leaves the distribution of texts unchanged.
        ahead: The number of tokens that the draft model proposes at a time.
        long_text: What to do when a text exceeds the model's context: slide = continue from its last half; or refuse.
    """

    file: str = ""
    stop: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    draft: str = ""
    ahead: Annotated[int, bounded(Annotated[int, Bounds(1, 1000)])] = 4
    long_text: Literal["slide", "refuse"] = "slide"


def generate(
    run: str,
    /,
    *words: Annotated[str, config_keys("--decoding.temperature 0.7", "The prompt")],
    prompt: str = "",
    short: Short = UNSET,
    how: Continuation = Continuation(),
    by: Engine = ENGINE,
    use: Use = USE,
) -> None:
    """Continue a prompt with a language model, or write a new text.

    A single text is printed while it is generated; several texts (--decoding.n-best 3, --file) and those of beam search
    (--decoding.beam 5) are printed when they are complete. --json prints a line for each text.

    Args:
        run: The run directory.
        prompt: The prompt, instead of words.
    """
    from seqloom.data.formats.lines import read_lines
    from seqloom.tasks.building import open_predictor
    from seqloom.tasks.engine import settled
    from seqloom.tasks.language_model.task import LanguageModelConfig
    from seqloom.tasks.task import decoding_config

    reporter = use.reporter
    typed, options = split_keys(words)
    if sum(map(bool, (how.file, prompt, typed))) > 1:
        raise UsageError("a prompt is there twice: as words, --prompt or --file", cure="leave out all but one")
    prompts = read_lines(how.file) if how.file else [prompt or " ".join(typed)]
    opening: Any = {"special_tokens": use.special_tokens, "say": reporter.warn, **vars(by)}
    generator = open_predictor(run, LanguageModelConfig, **opening)
    generator.config = config = decoding_config(generator.config, (*options, *short.keys))
    generator.long_text = how.long_text
    single = len(prompts) == 1 and config.n_best == 1 and config.beam == 1
    with settled(generator, len(prompts)):
        if how.draft or (single and not use.json):
            draft = open_predictor(how.draft, LanguageModelConfig, say=reporter.warn) if how.draft else None
            for text in prompts:
                pieces = generator.stream(text, how.stop, draft, how.ahead)
                print(text + next(pieces, ""), end="", flush=True)  # an error is raised before anything is printed
                for piece in pieces:
                    print(piece, end="", flush=True)
                print()
            return
        for text, generations in zip(prompts, generator.batch(prompts, how.stop), strict=True):
            for generation in generations:
                row = {"prompt": text, **vars(generation)}
                print(dumps(row, ensure_ascii=False) if use.json else generation.text)
