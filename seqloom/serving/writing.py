"""Texts that a language model writes for a request: prompts in, pieces of choices out, as they are decoded."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from seqloom.decoding.config import DecodingConfig, Sampling, with_options
from seqloom.decoding.hypotheses import Choice
from seqloom.decoding.job import Job
from seqloom.errors import DataError
from seqloom.serving.asked import Generated, Searched
from seqloom.serving.refusals import TooLongError
from seqloom.serving.served import Served
from seqloom.tasks.language_model.predictor import Generator, Prompt, Writing

Finish = Literal["stop", "length"]
_BEFORE = 8
"""The tokens before one that decide what its text is: it may be one byte of a character."""


class Piece(NamedTuple):
    """What is new of a choice: its text, its tokens, and why it ended, if it did."""

    choice: int
    text: str
    chosen: Sequence[Choice]
    finish: Finish | None


@dataclass(frozen=True)
class Task:
    """What is written for a request.

    Args:
        served: the model.
        prompts: what is continued.
        asked: how.
        length: the most tokens of a text; 0 = none is written.
        top: how many alternatives of each token are reported; None = not even its log-probability.
        chat: whether the texts are replies to conversations.
    """

    served: Served
    prompts: Sequence[Prompt]
    asked: Generated
    length: int
    top: int | None = None
    chat: bool = False

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

    def _jobs(self) -> tuple[list[Job], list[int]]:
        """The rows to decode, with the number of the first choice of each."""
        config = seeded(with_options(self.generator.config, self.asked.options(self.length)), self.asked)
        jobs, firsts = [], []
        for number, prompt in enumerate(self.prompts):
            request = self.generator.request([prompt.ids], config, self.asked.stops, self.chat)
            for choice, row in enumerate(_apart(config, self.choices)):
                jobs.append(Job(prompt.ids, request, row, top=self.top))
                firsts.append(number * self.choices + choice)
        return jobs, firsts

    async def pieces(self) -> AsyncIterator[Piece]:
        """The choices in pieces, as they are written."""
        if not self.length:
            for choice in range(len(self.prompts) * self.choices):
                yield Piece(choice, "", (), "length")
            return
        jobs, firsts = self._jobs()
        prompts = [self.prompts[first // self.choices] for first in firsts]
        writings = [Writing(self.generator, prompt, self.asked.stops) for prompt in prompts]
        async for row, update in self.served.worker.decode(self.generator.engine, jobs):
            if update.hypotheses is None:
                ids = [choice.id for choice in update.chosen]
                yield Piece(firsts[row], writings[row].add(ids), update.chosen, None)
                continue
            for number, hypothesis in enumerate(update.hypotheses):
                writing = writings[row] if number == 0 else Writing(self.generator, prompts[row], self.asked.stops)
                new = [Choice(i) for i in hypothesis.ids[len(writing.ids) :]]
                text, chosen = writing.end(hypothesis), [*update.chosen[: len(new)]] or new  # without its end
                finish: Finish = "stop" if writing.stopped else hypothesis.reason
                yield Piece(firsts[row] + number, text, chosen, finish)


def seeded(config: DecodingConfig, asked: Searched) -> DecodingConfig:
    """The config, with another seed for each request that names none."""
    if isinstance(config, Sampling) and asked.seed is None:
        return replace(config, seed=secrets.randbits(62))
    return config


def _apart(config: DecodingConfig, choices: int) -> list[DecodingConfig]:
    """The config for each row of a prompt: each choice is one, but those of a beam are found together."""
    if config.beam > 1:
        return [config]
    if isinstance(config, Sampling):
        return [replace(config, n_best=1, seed=(config.seed + i) % 2**63) for i in range(choices)]
    return [config] * choices


def begun(generator: Generator, prompt: str | Sequence[int], length: int) -> Prompt:
    """A prompt, or its tokens. Raises DataError for no token, TooLongError where the model does not see it whole."""
    if isinstance(prompt, str):
        result = generator.prompt(prompt)
    else:
        if (unknown := next((i for i in prompt if i >= generator.tokenizer.vocab_size), None)) is not None:
            raise DataError(f"there is no token {unknown}", where="prompt")
        text = generator.decode(prompt)
        result = Prompt(text, [*prompt], text)
    check_length(generator, result, length)
    return result


def check_length(generator: Generator, prompt: Prompt, length: int) -> None:
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


async def choices_of(task: Task) -> list[list[Choice]]:
    """The tokens of each prompt, read in the model's thread; the first has nothing before it that decides it."""
    engine = task.generator.engine

    def steps() -> Iterator[list[Choice]]:
        for prompt in task.prompts:
            yield [Choice(prompt.ids[0]), *(engine.read(prompt.ids, task.top or 0) if len(prompt.ids) > 1 else [])]

    return await task.served.worker.steps(steps).all()
