"""OpenAI's interface, as its official clients call it: models, completions, chats, embeddings."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from seqloom.decoding.results import Choice
from seqloom.serving.asked import Chat, Completion, Embedding, listed
from seqloom.serving.forms import ChatForm, CompletionForm
from seqloom.serving.served import Served, found, models_of
from seqloom.serving.writing import Begun, Task, begun, check_length, choices_of, config_for
from seqloom.tasks.encoder.embed import TextEncoder
from seqloom.tasks.language_model.predictor import Generator
from seqloom.tasks.writing import Writing

router = APIRouter(tags=["OpenAI"])
_TOKENS, _REPLY = 16, 100
"""The most tokens of a completion and of a reply where neither a request nor the run names any."""
_TEXTS = 16
"""The texts whose vectors are computed in one step, after which other requests have their turn."""


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


_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.post("/v1/completions", response_model=None, responses=_STREAMED)
async def completions(asked: Completion, request: Request) -> dict[str, Any] | Response:
    """Continuations of prompts, which are texts or tokens."""
    served = found(request, asked.model, "/v1/completions")
    prompts: Any = asked.prompt
    prompts = [prompts] if isinstance(prompts, str) or isinstance(prompts[0], int) else prompts
    generator: Generator = served.predictor
    length = _TOKENS if asked.max_tokens is None else asked.max_tokens
    config = config_for(asked, generator.config)

    def read() -> Iterator[Begun]:
        for prompt in prompts:
            yield (one := begun(generator, prompt, asked.stops, asked.top))
            check_length(generator, one, length)

    task = Task(served, asked, await asyncio.to_thread(lambda: [*read()]), config, length)
    echoed: list[list[Choice]] = []
    if asked.echo:
        plain = [[Choice(i) for i in prompt.ids] for prompt in task.prompts]
        echoed = plain if asked.top is None else await choices_of(task, asked.top)
    return await CompletionForm(task, echoed).response()


@router.post("/v1/chat/completions", response_model=None, responses=_STREAMED)
async def chat(asked: Chat, request: Request) -> dict[str, Any] | Response:
    """Replies to a conversation."""
    served = found(request, asked.model, "/v1/chat/completions")
    generator: Generator = served.predictor
    config = config_for(asked, generator.config)

    def write() -> Writing:
        return generator.reply_job(asked.turns, asked.stops, top=asked.top)

    ids = (await asyncio.to_thread(write)).job.row
    prompt, length = Begun("", ids, write), asked.length
    if length is None:
        room = _REPLY if generator.context is None else generator.context - len(ids)
        length = max(1, min(room, config.max_length or _REPLY))
    check_length(generator, prompt, length)
    task = Task(served, asked, [prompt], config, length)
    return await ChatForm(task).response()


@router.post("/v1/embeddings")
async def embeddings(asked: Embedding, request: Request) -> dict[str, Any]:
    """Vectors of texts, of length 1; a blank text has zeros."""
    served = found(request, asked.model, "/v1/embeddings")
    encoder, texts = served.encoder, listed(asked.input)
    assert isinstance(encoder, TextEncoder)
    sizes = [len(ids) for ids in await asyncio.to_thread(encoder.tokenizer.encode, texts)]

    def steps() -> Iterator[np.ndarray]:
        for start in range(0, len(texts), _TEXTS):
            yield encoder(texts[start : start + _TEXTS], normalize=True)

    vectors = [row for part in await served.worker.steps(steps).all() for row in part]
    encoded = [base64.b64encode(v.tobytes()).decode() for v in vectors] if asked.encoding_format == "base64" else []
    data = [
        {"object": "embedding", "index": i, "embedding": encoded[i] if encoded else vector.tolist()}
        for i, vector in enumerate(vectors)
    ]
    return {"object": "list", "model": served.name, "data": data, "usage": served.count(sum(sizes))}
