"""OpenAI's interface: /v1/models and /v1/completions, as its official clients call them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from seqloom.decoding.config import DecodingConfig, with_options
from seqloom.decoding.job import Request as Generation
from seqloom.errors import DataError
from seqloom.serving.asked import Completion
from seqloom.serving.errors import described, error_body
from seqloom.serving.served import Served, found, models_of
from seqloom.tasks.language_model.predictor import Generator, Prompt, Writing

router = APIRouter(tags=["OpenAI"])
Finish = Literal["stop", "length"]
_TOKENS = 16
"""The most tokens of a completion where a request names none, as OpenAI has it."""


class TooLongError(DataError):
    """A prompt that the model cannot read whole, with what is to follow it."""


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The models of this server."""
    return {"object": "list", "data": [_model(served) for served in models_of(request)]}


@router.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> dict[str, Any]:
    """A model of this server."""
    return _model(models_of(request).get(name))


def _model(served: Served) -> dict[str, Any]:
    more = {"task": served.task, "uses": served.uses}
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "seqloom", **more}


class Piece(NamedTuple):
    """What is new of a choice: its text, its tokens, and why it ended."""

    choice: int
    text: str
    ids: Sequence[int]
    finish: Finish | None = None


@dataclass(frozen=True)
class Continued:
    """A prompt, and how it is continued."""

    prompt: Prompt
    generation: Generation
    stop: Sequence[str]

    def pieces(self, generator: Generator, config: DecodingConfig, first: int) -> Iterator[Piece]:
        """The choices, of which the first has a number; several of them at once where they are searched for."""
        if self.generation.length == 0:
            yield Piece(first, "", (), "length")
            return
        if config.beam > 1 or config.n_best > 1:
            for number, hypothesis in enumerate(
                generator.engine.generate([self.prompt.ids], self.generation, config)[0], first
            ):
                yield self._end(Writing(generator, self.prompt, self.stop), number, hypothesis)
            return
        writing = Writing(generator, self.prompt, self.stop)
        steps = generator.engine.stream(self.prompt.ids, self.generation, config)
        while True:
            try:
                ids = next(steps)
            except StopIteration as done:
                yield self._end(writing, first, done.value)
                return
            yield Piece(first, writing.add(ids), ids)

    def _end(self, writing: Writing, choice: int, hypothesis: Any) -> Piece:
        before = len(writing.ids)
        text = writing.end(hypothesis)
        finish: Finish = "stop" if writing.stopped or len(writing.ids) < self.generation.length else "length"
        return Piece(choice, text, writing.ids[before:], finish)


def continued(generator: Generator, prompt: str | Sequence[int], asked: Completion) -> Continued:
    """How a prompt is continued. Raises TooLongError."""
    if isinstance(prompt, str):
        begun = generator.prompt(prompt)
    else:
        if unknown := next((i for i in prompt if i >= generator.tokenizer.vocab_size), None):
            raise DataError(f"there is no token {unknown}", where="prompt")
        text = generator.decode(prompt)
        begun = Prompt(text, list(prompt), text)
    length = _TOKENS if asked.max_tokens is None else asked.max_tokens
    config = with_options(generator.config, {"max_length": max(1, length)})
    check_length(generator, begun, length)
    request = generator.request([begun.ids], config, asked.stops)
    return Continued(begun, request if length else Generation(0, request.end), asked.stops)


def check_length(generator: Generator, prompt: Prompt, length: int) -> None:
    """Raises TooLongError unless the model sees a prompt and so many tokens at a time."""
    if generator.context is not None and len(prompt.ids) + length > generator.context:
        problem = f"the prompt has {len(prompt.ids)} tokens, and {length} are to follow: the model sees"
        raise TooLongError(f"{problem} {generator.context} at a time")


@router.post("/v1/completions", response_model=None)
async def completions(asked: Completion, request: Request) -> dict[str, Any] | Response:
    """Continuations of prompts."""
    served = found(request, asked.model, "/v1/completions")
    generator: Generator = served.predictor
    prompts: Any = asked.prompt
    if isinstance(prompts, str) or isinstance(prompts[0], int):
        prompts = [prompts]
    begun = [continued(generator, prompt, asked) for prompt in prompts]
    choices = asked.n or 1
    config = with_options(generator.config, asked.options(None))

    def steps() -> Iterator[Piece]:
        for number, each in enumerate(begun):
            yield from each.pieces(generator, config, number * choices)

    job = served.worker.submit(steps)
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
    head |= {"object": "text_completion"}
    tokens = sum(len(each.prompt.ids) for each in begun)
    if asked.stream:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return await streamed(_chunks(aiter(job), head, tokens, usage))
    texts = {i: begun[i // choices].prompt.text if asked.echo else "" for i in range(len(begun) * choices)}
    finish: dict[int, Finish | None] = {}
    written = 0
    async for piece in job:
        texts[piece.choice] += piece.text
        finish[piece.choice] = piece.finish
        written += len(piece.ids)
    listed = [{"index": i, "text": text, "logprobs": None, "finish_reason": finish[i]} for i, text in texts.items()]
    return {**head, "choices": listed, "usage": used(tokens, written)}


def used(prompt: int, completion: int) -> dict[str, int]:
    """The tokens of a request."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _chunks(
    pieces: AsyncIterator[Piece], head: dict[str, Any], tokens: int, usage: bool
) -> AsyncIterator[dict[str, Any]]:
    written = 0
    async for piece in pieces:
        written += len(piece.ids)
        if piece.text or piece.finish:
            choice = {"index": piece.choice, "text": piece.text, "logprobs": None, "finish_reason": piece.finish}
            yield {**head, "choices": [choice]}
    if usage:
        yield {**head, "choices": [], "usage": used(tokens, written)}


async def streamed(chunks: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """A stream of events; what fails before the first is an error of the request."""
    first = await anext(chunks, None)

    async def events() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield _event(first)
            async for chunk in chunks:
                yield _event(chunk)
            yield b"data: [DONE]\n\n"
        except Exception as error:
            yield b"data: " + error_body(*described(error)) + b"\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"
