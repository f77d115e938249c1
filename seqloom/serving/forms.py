"""How written texts are answered: whole or as a stream of events, as completions or as messages."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any

from fastapi.responses import Response, StreamingResponse

from seqloom.decoding.results import Choice
from seqloom.errors import SeqloomError
from seqloom.serving.errors import described, error_body
from seqloom.serving.writing import Piece, Task, Token, tokens_of


class Form:
    """The form of the responses to a request.

    Args:
        task: what is written.
    """

    prefix = whole = part = ""
    """What an id begins with, and what a response and a part of one are called."""

    def __init__(self, task: Task) -> None:
        self.task = task
        name = f"{self.prefix}-{uuid.uuid4().hex}"
        self._head = {"id": name, "created": int(time.time()), "model": task.served.name}

    def beginning(self) -> Iterator[Piece]:
        """What a choice has before anything is written."""
        return iter(())

    def choice(self, piece: Piece, tokens: list[Token] | None, at: int, streamed: bool) -> dict[str, Any]:
        """A choice, or a part of one that begins after so many characters; `tokens`: if they were asked for."""
        raise NotImplementedError

    async def response(self) -> dict[str, Any] | Response:
        """The response, when it is complete or begins to be streamed."""
        if self.task.asked.stream:
            return await streamed(self._chunks())
        merged, written = dict[int, Piece](), 0
        for piece in self.beginning():
            merged[piece.choice] = piece
        async for piece in self.task.pieces():
            written += len(piece.chosen)
            merged[piece.choice] = _joined(merged.get(piece.choice), piece)
        listing = _Listing(self)
        choices = [listing.choice(merged[number], streamed=False) for number in sorted(merged)]
        return {
            **self._head,
            "object": self.whole,
            "choices": choices,
            "usage": self.task.served.count(self.task.read, written),
        }

    async def _chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        head, written, listing = {**self._head, "object": self.part}, 0, _Listing(self)
        for piece in self.beginning():
            yield {**head, "choices": [listing.choice(piece, streamed=True)]}
        held = dict[int, Piece]()
        async for piece in self.task.pieces():
            written += len(piece.chosen)
            piece = _joined(held.pop(piece.choice, None), piece)
            if piece.text or piece.finish:
                yield {**head, "choices": [listing.choice(piece, streamed=True)]}
            else:  # half a character, or what may begin a stop string
                held[piece.choice] = piece
        usage, options = self.task.served.count(self.task.read, written), self.task.asked.stream_options
        if options is not None and options.include_usage:
            yield {**head, "choices": [], "usage": usage}


async def streamed(chunks: AsyncGenerator[dict[str, Any], None]) -> StreamingResponse:
    """A stream of events; what fails before the first of them is an error of the request."""
    first = await anext(chunks)

    async def events() -> AsyncIterator[bytes]:
        try:
            yield _event(first)
            async for chunk in chunks:
                yield _event(chunk)
            yield b"data: [DONE]\n\n"
        except Exception as error:
            yield b"data: " + error_body(*described(error)) + b"\n\n"
            if not isinstance(error, SeqloomError):
                raise
        finally:
            await chunks.aclose()

    return StreamingResponse(events(), media_type="text/event-stream")


class _Listing:
    """Lists choices, or parts of them, each after those before it."""

    def __init__(self, form: Form) -> None:
        self._form, self._at, self._ids = form, dict[int, int](), dict[int, list[int]]()

    def choice(self, piece: Piece, streamed: bool) -> dict[str, Any]:
        form, number = self._form, piece.choice
        echoed = any(True for _ in form.beginning())
        prompt = form.task.prompts[number // form.task.choices]
        ids = self._ids.setdefault(number, [] if echoed else [*prompt.ids])
        at = self._at.setdefault(number, 0 if echoed else len(prompt.text))
        tokens = None if form.task.asked.top is None else tokens_of(form.task.generator, ids, piece.chosen)
        ids += [choice.id for choice in piece.chosen]
        self._at[number] += len(piece.text)
        return form.choice(piece, tokens, at, streamed)


def _joined(first: Piece | None, second: Piece) -> Piece:
    if first is None:
        return second
    return Piece(second.choice, first.text + second.text, [*first.chosen, *second.chosen], second.finish)


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class CompletionForm(Form):
    """That of /v1/completions; `echoed` are the tokens of each prompt, if its choices begin with it."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def __init__(self, task: Task, echoed: Sequence[Sequence[Choice]]) -> None:
        super().__init__(task)
        self._echoed = echoed

    def beginning(self) -> Iterator[Piece]:
        """See Form."""
        for number, chosen in enumerate(self._echoed):
            for choice in range(number * self.task.choices, (number + 1) * self.task.choices):
                yield Piece(choice, self.task.prompts[number].text, chosen, None)

    def choice(self, piece: Piece, tokens: list[Token] | None, at: int, streamed: bool) -> dict[str, Any]:
        """See Form."""
        listed = None
        if tokens is not None:
            offsets = [at + sum(len(token.text) for token in tokens[:i]) for i in range(len(tokens))]
            listed = {
                "tokens": [token.text for token in tokens],
                "token_logprobs": [token.log_p for token in tokens],
                "top_logprobs": [None if token.log_p is None else dict(token.top) for token in tokens],
                "text_offset": offsets,
            }
        return {"index": piece.choice, "text": piece.text, "logprobs": listed, "finish_reason": piece.finish}


class ChatForm(Form):
    """That of /v1/chat/completions."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, piece: Piece, tokens: list[Token] | None, at: int, streamed: bool) -> dict[str, Any]:
        """See Form."""
        message = {"role": "assistant", "content": piece.text} | ({} if streamed else {"refusal": None})
        listed = None if tokens is None else {"content": [_detailed(token) for token in tokens], "refusal": None}
        return {
            "index": piece.choice,
            "delta" if streamed else "message": message,
            "logprobs": listed,
            "finish_reason": piece.finish,
        }


def _detailed(token: Token) -> dict[str, Any]:
    def entry(text: str, log_p: float | None) -> dict[str, Any]:
        return {"token": text, "logprob": log_p, "bytes": [*text.encode()]}

    return entry(token.text, token.log_p) | {"top_logprobs": [entry(*each) for each in token.top.items()]}
