"""seqloom generate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from json import dumps
from typing import Annotated, Literal

from cyclopts import Parameter

from seqloom.cli.common import AsJson, Overrides, Quiet, check_typed


@Parameter(name="*")
@dataclass(frozen=True)
class Writing:
    """How texts are gone on with.

    Args:
        file: one prompt a line, continued side by side.
        stop: a text ends before the first of these.
        draft: the run of a smaller model that writes ahead; the texts are as likely as without it.
        ahead: by how many words it does.
        long_text: what to do when there are more words than the model has positions: begin anew over the last half,
            or refuse.
    """

    file: str = ""
    stop: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    draft: str = ""
    ahead: int = 4
    long_text: Literal["slide", "refuse"] = "slide"


def generate(
    run: str,
    /,
    *words: Overrides,
    prompt: str = "",
    length: int = 0,
    seed: int = 0,
    how: Writing = Writing(),
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Write on from a prompt with a language model: from the words given, or --prompt; without one a new text.

    One text appears as it is written; several (--decoding.n-best 3, --file), or those of a beam
    (--decoding.beam 5), when they are done. Decoding options as config keys:
    --decoding.temperature 0.7 --decoding.top-k 40.

    Args:
        length: the most tokens to add.
        seed: another seed, another text.
        json: a line for each text.
    """
    from seqloom.data.formats.lines import read_lines
    from seqloom.tasks.building import open_predictor
    from seqloom.tasks.language_model.task import LanguageModelConfig
    from seqloom.tasks.task import decoding_config
    from seqloom.training.log import Reporter
    from seqloom.training.precision import keep_freed_memory

    keep_freed_memory()
    cut = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    prompts = read_lines(how.file) if how.file else [prompt or " ".join(words[:cut])]
    check_typed(prompts)
    typed = [*words[cut:], *(["--decoding.max-length", str(length)] if length else [])]
    typed += ["--decoding.seed", str(seed)] if seed else []
    say = Reporter(0 if quiet else 1).warn
    generator = open_predictor(run, LanguageModelConfig, say=say)
    generator.config = config = decoding_config(generator.config, typed)
    generator.long_text = how.long_text
    single = len(prompts) == 1 and config.n_best == 1 and config.beam == 1
    if how.draft or (single and not json):
        small = open_predictor(how.draft, LanguageModelConfig, say=say) if how.draft else None
        for text in prompts:
            _show(text, generator.stream(text, how.stop, small, how.ahead))
        return
    for text, found in zip(prompts, generator.batch(prompts, how.stop), strict=True):
        for one in found:
            print(dumps({"prompt": text, **vars(one)}, ensure_ascii=False) if json else one.text)


def _show(text: str, pieces: Iterator[str]) -> None:
    first = next(pieces, "")  # what is refused is refused before anything is written
    for piece in chain((text, first), pieces):
        print(piece, end="", flush=True)
    print()
