"""Texts that a language model writes for a request: prompts in, pieces of choices out, as they are decoded."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from seqloom.decoding.config import DecodingConfig, Sampling, with_options
from seqloom.decoding.results import Choice, Reason
from seqloom.errors import DataError
from seqloom.serving.asked import Generated, Searched
from seqloom.serving.refusals import TooLongError
from seqloom.serving.served import Served
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.writing import Writing

_BEFORE = 8
"""The tokens before one that decide what its text is: it may be one byte of a character."""


class Piece(NamedTuple):
    """What is new of a choice: its text, its tokens, and why it ended, if it did."""

    choice: int
    text: str
    chosen: Sequence[Choice]
    finish: Reason | None


class Begun(NamedTuple):
    """A prompt: its text, its tokens, and what writes a text that continues it."""

    text: str
    ids: Sequence[int]
    write: Callable[[], Writing]


@dataclass(frozen=True)
class Task:
    """What is written for a request.

    Args:
        served: the model.
        asked: how.
        prompts: what is continued.
        config: the same, as the model knows it.
        length: the most tokens of a text; 0 = none is written.
    """

    served: Served
    asked: Generated
    prompts: Sequence[Begun]
    config: DecodingConfig
    length: int

    @property
    def generator(self) -> Generator:
        """The predictor of the model."""
        generator: Generator = self.served.predictor
        return generator

    @property
    def choices(self) -> int:
        """The number of texts for each prompt."""
        return self.asked.n or 1

    @property
    def read(self) -> int:
        """The number of tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self.prompts)

    def _writings(self) -> Iterator[tuple[int, Writing]]:
        """What is decoded, each with the number of its first choice."""
        for number, prompt in enumerate(self.prompts):
            for choice, config in enumerate(_apart(self.config, self.choices)):
                writing = prompt.write()
                writing.job.config = config
                writing.job.request = replace(writing.job.request, length=self.length)
                yield number * self.choices + choice, writing

    async def pieces(self) -> AsyncIterator[Piece]:
        """The choices in pieces, as they are written."""
        if not self.length:
            for choice in range(len(self.prompts) * self.choices):
                yield Piece(choice, "", (), "length")
            return
        writings = [*self._writings()]
        async for row, update in self.served.decode([writing for _, writing in writings]):
            first, writing = writings[row]
            text, results = writing.take(update), writing.results
            if results is None or update.hypotheses is None:
                yield Piece(first, text, update.chosen, None)
            elif len(results) == 1 and writing.choices:
                yield Piece(first, text, update.chosen, results[0].reason)
            else:
                for number, (result, hypothesis) in enumerate(zip(results, update.hypotheses, strict=True), first):
                    yield Piece(number, result.text, [Choice(i) for i in hypothesis.ids], result.reason)


def _apart(config: DecodingConfig, choices: int) -> list[DecodingConfig]:
    """The config for each row of a prompt: each choice is one, but those of a beam are found together."""
    if config.beam > 1:
        return [config]
    if isinstance(config, Sampling):
        return [replace(config, n_best=1, seed=(config.seed + i) % 2**63) for i in range(choices)]
    return [config] * choices


def config_for(asked: Searched, default: DecodingConfig, length: int | None = None) -> DecodingConfig:
    """How a request is decoded: as by default, where it says nothing; with another seed, where it names none."""
    config = with_options(default, asked.options(length))
    if isinstance(config, Sampling) and asked.seed is None:
        return replace(config, seed=secrets.randbits(62))
    return config


def begun(generator: Generator, prompt: str | Sequence[int], stop: Sequence[str], top: int | None) -> Begun:
    """A prompt or its tokens, for a text with these stop strings. Raises DataError for a token that there is not."""
    ids = () if isinstance(prompt, str) else prompt
    if (unknown := next((i for i in ids if i >= generator.tokenizer.vocab_size), None)) is not None:
        raise DataError(f"there is no token {unknown}", where="prompt")

    def write() -> Writing:
        return generator.job(prompt, stop, top=top)

    ids = write().job.row
    return Begun(prompt if isinstance(prompt, str) else generator.decode(ids), ids, write)


def check_length(generator: Generator, prompt: Begun, length: int) -> None:
    """Raises TooLongError unless the model sees a prompt, and what follows it, at a time."""
    most, tokens = generator.context, len(prompt.ids)
    if most is not None and tokens + length > most:
        raise TooLongError(f"{tokens} tokens of the prompt and {length} that follow are more than the {most} it sees")


class Token(NamedTuple):
    """A token as a response lists it: its text, its log-probability, and the likeliest in its place."""

    text: str
    log_p: float | None
    top: dict[str, float]


def tokens_of(generator: Generator, before: Sequence[int], chosen: Sequence[Choice]) -> list[Token]:
    """The tokens after some ids. Of those that make up one character, the last has it as its text."""
    ids, tokens = [*before], list[Token]()
    for choice in chosen:
        near = ids[-_BEFORE:]
        top: dict[str, float] = {}
        for i, log_p in choice.top:
            text = _text(generator, near, i)
            top[f"token_id:{i}" if text in top else text] = log_p
        tokens.append(Token(_text(generator, near, choice.id), choice.log_p, top))
        ids.append(choice.id)
    return tokens


def _text(generator: Generator, near: Sequence[int], i: int) -> str:
    before, after = (generator.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}") for ids in (near, [*near, i]))
    return after[len(before) :] if after.startswith(before) else generator.decode([i])


async def choices_of(task: Task, top: int) -> list[list[Choice]]:
    """The tokens of each prompt, read in the model's thread; the first has nothing before it that decides it."""
    engine = task.generator.engine

    def steps() -> Iterator[list[Choice]]:
        for prompt in task.prompts:
            rest = engine.read(prompt.ids, top) if len(prompt.ids) > 1 else []
            yield [Choice(prompt.ids[0]), *rest]

    return await task.served.worker.steps(steps).all()
